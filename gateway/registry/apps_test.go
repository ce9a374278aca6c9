package registry

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestVersions(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	create(t, r, "notes")
	ctx := t.Context()
	hash := func(c string) string { return strings.Repeat(c, 64) }
	for i, c := range []string{"a", "b", "c"} {
		v, err := r.AddVersion(ctx, "notes", "book", hash(c), int64(10*i))
		if err != nil || v.Version != i+1 || !v.Live {
			t.Fatalf("version %d: %+v, %v", i+1, v, err)
		}
	}
	live := func(want int) {
		t.Helper()
		v, err := r.Live("notes", "book")
		if err != nil || v.Version != want || v.Bundle != hash(string(rune('a'+want-1))) {
			t.Errorf("live is %+v, %v; want %d", v, err, want)
		}
	}
	live(3)
	roll := func(to, want int) {
		t.Helper()
		if v, err := r.Rollback(ctx, "notes", "book", to); err != nil || v.Version != want || !v.Live {
			t.Errorf("rolled back to %d: %+v, %v", to, v, err)
		}
		live(want)
	}
	roll(0, 2)
	roll(0, 1)
	if _, err := r.Rollback(ctx, "notes", "book", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("before the first: %v", err)
	}
	roll(3, 3)
	if _, err := r.Rollback(ctx, "notes", "book", 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	roll(1, 1)
	r.Close()
	r = open(t, dir)
	live(1)
	versions, err := r.Versions(ctx, "notes", "book")
	if err != nil || len(versions) != 3 || versions[0].Version != 3 || versions[2].Version != 1 || versions[0].Live || !versions[2].Live {
		t.Errorf("versions are %+v, %v", versions, err)
	}
	if v, err := r.AddVersion(ctx, "notes", "book", hash("d"), 1); err != nil || v.Version != 4 {
		t.Errorf("the next version is %+v, %v", v, err)
	}
	if v, err := r.VersionOf(ctx, "notes", "book", 2); err != nil || v.Bundle != hash("b") || v.Live {
		t.Errorf("version 2 is %+v, %v", v, err)
	}
	if _, err := r.VersionOf(ctx, "notes", "book", 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("version 9: %v", err)
	}
	used, err := r.Bundles(ctx)
	if err != nil || len(used) != 4 || !used[hash("a")] {
		t.Errorf("bundles in use are %v, %v", used, err)
	}
}

func TestApps(t *testing.T) {
	r := open(t, t.TempDir())
	ctx := t.Context()
	create(t, r, "b")
	create(t, r, "a")
	for _, at := range [][2]string{{"b", "y"}, {"a", "z"}, {"b", "x"}} {
		if _, err := r.AddVersion(ctx, at[0], at[1], strings.Repeat("a", 64), 1); err != nil {
			t.Fatal(err)
		}
	}
	list := func(ns string) (names string) {
		apps, err := r.Apps(ns)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range apps {
			names += v.Namespace + "/" + v.App + " "
		}
		return names
	}
	if got := list(""); got != "a/z b/x b/y " {
		t.Errorf("all apps: %s", got)
	}
	if got := list("b"); got != "b/x b/y " {
		t.Errorf("apps of b: %s", got)
	}
	if _, err := r.Apps("c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("apps of c: %v", err)
	}
	if _, err := r.AddVersion(ctx, "c", "x", strings.Repeat("a", 64), 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("an app in no namespace: %v", err)
	}
	if _, err := r.AddVersion(ctx, "a", "X", strings.Repeat("a", 64), 1); err == nil {
		t.Error("an app with a bad name")
	}
	if _, err := r.SetNamespace(ctx, "b", map[string]string{"supervisor": "x"}); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveApp(ctx, "b", "x"); !errors.Is(err, ErrInUse) {
		t.Errorf("the supervisor is removed: %v", err)
	}
	if err := r.RemoveApp(ctx, "b", "y"); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveApp(ctx, "b", "y"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if got := list("b"); got != "b/x " {
		t.Errorf("apps of b after one is removed: %s", got)
	}
}

func TestAppEnv(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ctx := t.Context()
	create(t, r, "notes")
	if err := r.SetApp(ctx, "notes", "book", map[string]string{"A": "1"}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("of an app that is not there: %v", err)
	}
	if _, err := r.AddVersion(ctx, "notes", "book", strings.Repeat("a", 64), 1); err != nil {
		t.Fatal(err)
	}
	if err := r.SetApp(ctx, "notes", "book", map[string]string{"A": "1", "B": "2"}, map[string]string{"KEY": "s\x00\xff"}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetApp(ctx, "notes", "book", map[string]string{"A": "", "C": "3"}, nil); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = open(t, dir)
	env, secrets := r.AppEnv("notes", "book")
	if !maps.Equal(env, map[string]string{"B": "2", "C": "3"}) || !maps.Equal(secrets, map[string]string{"KEY": "s\x00\xff"}) {
		t.Errorf("env %q, secrets %q", env, secrets)
	}
	for _, tc := range []map[string]string{{"": "x"}, {"1A": "x"}, {"A B": "x"}, {strings.Repeat("A", 129): "x"}, {"BIG": strings.Repeat("x", maxEnvBytes)}} {
		if err := r.SetApp(ctx, "notes", "book", tc, nil); !errors.Is(err, ErrBadValue) {
			t.Errorf("a bad variable is accepted: %v", err)
		}
	}
	if again, _ := r.AppEnv("notes", "book"); !maps.Equal(again, env) {
		t.Errorf("a refused change left %q", again)
	}
}
