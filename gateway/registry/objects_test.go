package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestEnsureObject(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ns := create(t, r, "notes")
	names := []string{"alice", "..", ".", "a/b", "ü", "\xff\xfe", strings.Repeat("x", 256), " "}
	ids := make(map[string]string)
	for _, name := range names {
		o, created, err := r.EnsureObject(t.Context(), ns, name)
		if err != nil || !created {
			t.Fatalf("%q: created %v, %v", name, created, err)
		}
		ids[name] = o.ID
		if info, err := os.Stat(r.ObjectDir(o)); err != nil || info.Mode() != os.ModeDir|0o700 {
			t.Errorf("%q: its directory: %v", name, err)
		}
		again, created, err := r.EnsureObject(t.Context(), ns, name)
		if err != nil || created || again.ID != o.ID || !again.CreatedAt.Equal(o.CreatedAt) {
			t.Errorf("%q again: %+v, created %v, %v", name, again, created, err)
		}
	}
	for _, bad := range []string{"", "a\x00b", strings.Repeat("x", 257)} {
		if _, _, err := r.EnsureObject(t.Context(), ns, bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	r.Close()
	r = open(t, dir)
	if ns, err := r.Namespace("notes"); err != nil || r.CountObjects(ns) != len(names) {
		t.Errorf("%d objects, %v; want %d", r.CountObjects(ns), err, len(names))
	}
	for _, name := range names {
		if o, err := r.Object(t.Context(), "notes", name); err != nil || o.ID != ids[name] || o.Name != name {
			t.Errorf("%q after opening again: %+v, %v", name, o, err)
		}
	}
}

func TestObjectsOfTwoNamespacesDiffer(t *testing.T) {
	r := open(t, t.TempDir())
	a, _ := ensure(t, r, create(t, r, "a"), "alice")
	b, _ := ensure(t, r, create(t, r, "b"), "alice")
	if a.ID == b.ID {
		t.Error("two objects, one directory")
	}
}

func TestObjectPolicy(t *testing.T) {
	r := open(t, t.TempDir())
	ctx := t.Context()
	create(t, r, "notes")
	ns, err := r.SetNamespace(ctx, "notes", map[string]string{"create": "admin", "max_objects": "2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.EnsureObject(ctx, ns, "alice"); !errors.Is(err, ErrObjectNotFound) || !errors.Is(err, ErrNotFound) {
		t.Errorf("a request creates an object: %v", err)
	}
	if _, err := r.CreateObject(ctx, "notes", "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateObject(ctx, "notes", "alice"); !errors.Is(err, ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	if _, created, err := r.EnsureObject(ctx, ns, "alice"); err != nil || created {
		t.Errorf("a request for an object that exists: %v %v", created, err)
	}
	if _, err := r.CreateObject(ctx, "notes", "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateObject(ctx, "notes", "carol"); !errors.Is(err, ErrObjectLimit) {
		t.Errorf("one too many: %v", err)
	}
	if err := r.RemoveObject(ctx, "notes", "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateObject(ctx, "notes", "carol"); err != nil {
		t.Errorf("after one is removed: %v", err)
	}
}

func TestEnsureObjectAtOnce(t *testing.T) {
	r := open(t, t.TempDir())
	create(t, r, "notes")
	const most = 20
	ns, err := r.SetNamespace(t.Context(), "notes", map[string]string{"max_objects": fmt.Sprint(most)})
	if err != nil {
		t.Fatal(err)
	}
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			_, created, err := r.EnsureObject(context.Background(), ns, fmt.Sprint("o", i%40))
			switch {
			case errors.Is(err, ErrObjectLimit):
				refused.Add(1)
			case err != nil:
				t.Error(err)
			case created:
				made.Add(1)
			}
		})
	}
	wg.Wait()
	if made.Load() != most || refused.Load() != 100 || r.CountObjects(ns) != most {
		t.Errorf("%d created, %d refused, %d counted", made.Load(), refused.Load(), r.CountObjects(ns))
	}
}

func TestEnsureObjectInARemovedNamespace(t *testing.T) {
	r := open(t, t.TempDir())
	ns := create(t, r, "notes")
	if err := r.RemoveNamespace(t.Context(), "notes", false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.EnsureObject(t.Context(), ns, "alice"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(r.ObjectDir(newObject(ns, "alice", r.now()))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is left behind: %v", err)
	}
	if n := r.CountObjects(ns); n != 0 {
		t.Errorf("%d objects are counted", n)
	}
}

func TestObjectsLists(t *testing.T) {
	r := open(t, t.TempDir())
	ns := create(t, r, "notes")
	for _, name := range []string{"b1", "a", "b2", "b\xff\xff", "b\xff\xffc", "c", "\xff", "\xff\xff"} {
		ensure(t, r, ns, name, "f")
	}
	for _, tc := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 100, `["a" "b1" "b2" "b\xff\xff" "b\xff\xffc" "c" "\xff" "\xff\xff"]`},
		{"b", "", 100, `["b1" "b2" "b\xff\xff" "b\xff\xffc"]`},
		{"b\xff\xff", "", 100, `["b\xff\xff" "b\xff\xffc"]`},
		{"\xff", "", 100, `["\xff" "\xff\xff"]`},
		{"", "", 2, `["a" "b1"]`},
		{"", "b1", 2, `["b2" "b\xff\xff"]`},
		{"b", "b2", 1, `["b\xff\xff"]`},
		{"x", "", 100, `[]`},
	} {
		found, err := r.Objects(t.Context(), "notes", tc.prefix, tc.limit, tc.after)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, o := range found {
			names = append(names, o.Name)
			if o.Facets != 1 {
				t.Errorf("%q has %d facets", o.Name, o.Facets)
			}
		}
		if got := fmt.Sprintf("%q", names); got != tc.want {
			t.Errorf("prefix %q after %q: %s, want %s", tc.prefix, tc.after, got, tc.want)
		}
	}
}

func TestStorageBytesCountsDatabases(t *testing.T) {
	r := open(t, t.TempDir())
	o, _ := ensure(t, r, create(t, r, "notes"), "alice")
	for name, n := range map[string]int{"0.db": 100, "0.db-wal": 20, "12.db": 3, "other": 1000, "0.db.bak": 1000} {
		if err := os.WriteFile(filepath.Join(r.ObjectDir(o), name), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.StorageBytes(o); got != 123 {
		t.Errorf("%d bytes, want 123", got)
	}
}

func TestRemoveObject(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ctx := t.Context()
	ns := create(t, r, "notes")
	o, numbers := ensure(t, r, ns, "alice", "book", "page")
	if err := os.WriteFile(filepath.Join(r.ObjectDir(o), "1.db"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveObject(ctx, "notes", "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Object(ctx, "notes", "alice"); !errors.Is(err, ErrObjectNotFound) {
		t.Errorf("after its removal: %v", err)
	}
	if err := r.RemoveObject(ctx, "notes", "alice"); !errors.Is(err, ErrObjectNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "objects", trashDir)); err != nil || len(entries) > 0 {
		t.Errorf("the trash holds %v, %v", entries, err)
	}
	again, fresh := ensure(t, r, ns, "alice", "other")
	if again.ID != o.ID || fresh[0] != numbers[0] {
		t.Errorf("created anew: %+v with numbers %v", again, fresh)
	}
	if _, err := r.FindFacet(ctx, again, "book"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the new object has the old one's facet: %v", err)
	}
	if n := r.StorageBytes(again); n != 0 {
		t.Errorf("the new object has %d bytes of the old one", n)
	}
}

// A crash between the directory's move and the row's removal must end in a
// removed object, and one after that in an empty trash.
func TestOpenFinishesRemovals(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ns := create(t, r, "notes")
	half, _ := ensure(t, r, ns, "half", "book")
	kept, _ := ensure(t, r, ns, "kept", "book")
	r.Close()
	objects := filepath.Join(dir, "objects")
	if err := os.Rename(filepath.Join(objects, half.Dir()), filepath.Join(objects, trashDir, half.ID+".X")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(objects, trashDir, kept.ID+".X"), 0o700); err != nil { // removed once, created since
		t.Fatal(err)
	}
	r = open(t, dir)
	if _, err := r.Object(t.Context(), "notes", "half"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the object half removed: %v", err)
	}
	if _, err := r.Object(t.Context(), "notes", "kept"); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(filepath.Join(objects, trashDir)); err != nil || len(entries) > 0 {
		t.Errorf("the trash holds %v, %v", entries, err)
	}
	if n := r.CountObjects(ns); n != 1 {
		t.Errorf("%d objects are counted", n)
	}
}

func TestOrigins(t *testing.T) {
	r := open(t, t.TempDir())
	ns := create(t, r, "notes")
	o, _ := ensure(t, r, ns, "Alice")
	ctx := t.Context()
	for range 2 {
		if err := r.RememberOrigin(ctx, "h--abc", o, "notes/Alice/book"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.Origin(ctx, "h--abc"); err != nil || got != "notes/Alice/book" {
		t.Errorf("%q, %v", got, err)
	}
	if err := r.RemoveObject(ctx, "notes", "Alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Origin(ctx, "h--abc"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the origin of a removed object: %v", err)
	}
}

// BenchmarkEnsureObject is what a new object adds to its first request: rows,
// directory and description in one synced commit.
func BenchmarkEnsureObject(b *testing.B) {
	for _, callers := range []int{1, 32} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			r := open(b, b.TempDir())
			create(b, r, "notes")
			ns, err := r.SetNamespace(context.Background(), "notes", map[string]string{"max_objects": "10000000"})
			if err != nil {
				b.Fatal(err)
			}
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if _, _, _, err := r.Ensure(context.Background(), ns, fmt.Sprint(i), "app"); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkEnsureKnown(b *testing.B) {
	r := open(b, b.TempDir())
	ns := create(b, r, "notes")
	ensure(b, r, ns, "alice", "app")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := r.Ensure(context.Background(), ns, "alice", "app"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloor is what the file system alone takes for a new object: a
// directory, a small file in it, and a few pages of a log, synced.
func BenchmarkFloor(b *testing.B) {
	dir := b.TempDir()
	wal, err := os.Create(filepath.Join(dir, "wal"))
	if err != nil {
		b.Fatal(err)
	}
	defer wal.Close()
	pages := make([]byte, 5*4096)
	for i := 0; b.Loop(); i++ {
		o := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(o, 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o, descriptionFile), pages[:300], 0o600); err != nil {
			b.Fatal(err)
		}
		if _, err := wal.WriteAt(pages, int64(i%200*len(pages))); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(wal.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}
