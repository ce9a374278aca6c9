package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The share of objects is about what is asked for, and a higher percentage takes none back.
func TestTries(t *testing.T) {
	const objects = 20_000
	last := map[string]bool{}
	for _, percent := range []int{0, 1, 10, 50, 99, 100} {
		now := map[string]bool{}
		for i := range objects {
			name := fmt.Sprintf("object %d", i)
			if tries("book", name, percent) {
				now[name] = true
			}
			if last[name] && !now[name] {
				t.Fatalf("%s ran the canary below %d percent and no longer does", name, percent)
			}
		}
		if share := len(now) * 100; share < percent*objects-objects || share > percent*objects+objects {
			t.Errorf("%d percent: %d of %d objects", percent, len(now), objects)
		}
		if percent == 0 && len(now) > 0 || percent == 100 && len(now) < objects {
			t.Errorf("%d percent are %d of %d", percent, len(now), objects)
		}
		last = now
	}
	same := 0
	for i := range objects {
		if name := fmt.Sprintf("object %d", i); tries("book", name, 10) && tries("poll", name, 10) {
			same++
		}
	}
	if same > objects*3/100 {
		t.Errorf("%d of %d objects try both apps", same, objects)
	}
}

func TestCanary(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ctx := t.Context()
	create(t, r, "notes")
	hash := func(c string) string { return strings.Repeat(c, 64) }
	if _, err := r.AddCanary(ctx, "notes", "book", hash("a"), 1, 10); !errors.Is(err, ErrNotFound) {
		t.Errorf("beside nothing: %v", err)
	}
	if _, err := r.AddVersion(ctx, "notes", "book", hash("a"), 1); err != nil {
		t.Fatal(err)
	}
	for _, percent := range []int{-1, 0, 101} {
		if _, err := r.AddCanary(ctx, "notes", "book", hash("b"), 1, percent); !errors.Is(err, ErrBadValue) {
			t.Errorf("%d percent: %v", percent, err)
		}
	}
	if _, err := r.Promote(ctx, "notes", "book"); !errors.Is(err, ErrNotFound) {
		t.Errorf("promoted without a canary: %v", err)
	}
	in, out := "", ""
	for i := 0; in == "" || out == ""; i++ {
		if name := fmt.Sprint(i); tries("book", name, 40) {
			in = name
		} else {
			out = name
		}
	}
	runs := func(object string, version, canary int) {
		t.Helper()
		v, err := r.VersionFor("notes", "book", object)
		if err != nil || v.Version != version || v.Canary != canary || v.Live != (canary == 0) {
			t.Errorf("it runs %+v, %v; want version %d", v, err, version)
		}
	}
	v, err := r.AddCanary(ctx, "notes", "book", hash("b"), 1, 40)
	if err != nil || v.Version != 2 || v.Live || v.Canary != 40 {
		t.Fatalf("%+v, %v", v, err)
	}
	runs(in, 2, 40)
	runs(out, 1, 0)
	r.Close()
	r = open(t, dir)
	runs(in, 2, 40)
	runs(out, 1, 0)
	if live, err := r.Live("notes", "book"); err != nil || live.Version != 1 {
		t.Errorf("live is %+v, %v", live, err)
	}
	if all, err := r.Versions(ctx, "notes", "book"); err != nil || len(all) != 2 || all[0].Canary != 40 || all[0].Live || all[1].Canary != 0 || !all[1].Live {
		t.Errorf("versions are %+v, %v", all, err)
	}
	if v, err := r.AddCanary(ctx, "notes", "book", hash("b"), 1, 100); err != nil || v.Version != 2 || v.Canary != 100 {
		t.Errorf("the same bundle again: %+v, %v", v, err)
	}
	runs(out, 2, 100)
	if v, err := r.AddCanary(ctx, "notes", "book", hash("c"), 1, 40); err != nil || v.Version != 3 {
		t.Errorf("another bundle: %+v, %v", v, err)
	}
	runs(in, 3, 40)
	if v, err := r.Rollback(ctx, "notes", "book", 0); err != nil || v.Version != 1 {
		t.Errorf("ended: %+v, %v", v, err)
	}
	runs(in, 1, 0)
	if v, err := r.AddCanary(ctx, "notes", "book", hash("c"), 1, 40); err != nil || v.Version != 4 {
		t.Errorf("once more: %+v, %v", v, err)
	}
	if v, err := r.Promote(ctx, "notes", "book"); err != nil || v.Version != 4 || !v.Live || v.Canary != 0 {
		t.Errorf("promoted: %+v, %v", v, err)
	}
	runs(out, 4, 0)
	if _, err := r.AddCanary(ctx, "notes", "book", hash("d"), 1, 40); err != nil {
		t.Fatal(err)
	}
	if v, err := r.AddVersion(ctx, "notes", "book", hash("e"), 1); err != nil || v.Version != 6 {
		t.Errorf("deployed over a canary: %+v, %v", v, err)
	}
	runs(in, 6, 0)
	runs(out, 6, 0)
}

func BenchmarkVersionFor(b *testing.B) {
	r := open(b, b.TempDir())
	create(b, r, "notes")
	if _, err := r.AddVersion(b.Context(), "notes", "book", strings.Repeat("a", 64), 1); err != nil {
		b.Fatal(err)
	}
	if _, err := r.AddCanary(b.Context(), "notes", "book", strings.Repeat("b", 64), 1, 10); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.VersionFor("notes", "book", "alice"); err != nil {
			b.Fatal(err)
		}
	}
}
