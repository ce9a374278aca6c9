package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// reopen closes r, lets spoil at the data directory, and opens it again.
func reopen(t *testing.T, r *Registry, dir string, spoil func()) *Registry {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	spoil()
	return open(t, dir)
}

func loseRegistry(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"registry.db", "registry.db-wal", "registry.db-shm"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func TestRebuild(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	a, b := create(t, r, "a"), create(t, r, "b")
	if err := r.RemoveNamespace(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	a = create(t, r, "a") // its id is not what a new registry would give it
	const objects = rebuildGroup + 50
	for i := range objects {
		ensure(t, r, a, fmt.Sprintf("o\xff/%d", i), "app", "child")
	}
	o, _ := ensure(t, r, b, "alice", "x", "y")
	if _, err := r.RemoveFacet(t.Context(), o, 2); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, r, dir, func() {
		loseRegistry(t, dir)
		strange := filepath.Join(dir, "objects", "ff", strings.Repeat("f", 62))
		if err := os.MkdirAll(strange, 0o700); err != nil {
			t.Fatal(err)
		}
		// A copy of an object under another's name must not become a second one.
		copied := filepath.Join(dir, "objects", "ee", strings.Repeat("e", 62))
		if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir, "objects", o.Dir()))); err != nil {
			t.Fatal(err)
		}
	})
	back, err := r.Namespace("a")
	if err != nil || back.ID != a.ID || r.CountObjects(back) != objects {
		t.Fatalf("namespace a is %+v with %d objects, %v", back, r.CountObjects(back), err)
	}
	if back, err := r.Namespace("b"); err != nil || back.ID != b.ID || r.CountObjects(back) != 1 {
		t.Fatalf("namespace b is %+v, %v", back, err)
	}
	got, err := r.Object(t.Context(), "b", "alice")
	if err != nil || got.ID != o.ID || !got.CreatedAt.Equal(o.CreatedAt) {
		t.Fatalf("alice is %+v, %v; want %+v", got, err, o)
	}
	if n, err := r.EnsureFacet(t.Context(), got, 1, "y"); err != nil || n != 3 {
		t.Errorf("the number after a removed one is %d, %v", n, err)
	}
	if n, err := r.FindFacet(t.Context(), got, "x"); err != nil || n[0] != 1 {
		t.Errorf("x is %v, %v", n, err)
	}
	some, err := r.Object(t.Context(), "a", "o\xff/7")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.FindFacet(t.Context(), some, "app", "child"); err != nil || n[1] != 2 {
		t.Errorf("its facets are %v, %v", n, err)
	}
	report, err := r.Rebuild(t.Context())
	if err != nil || report.Objects != 0 || report.Namespaces != 0 || len(report.Skipped) != 2 {
		t.Errorf("rebuilding what is whole: %+v, %v", report, err)
	}
}

// What either the registry or the directory lost must come back from the other.
func TestReconcile(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, dir string, file string)
		next  int // the number of the facet that is created afterwards
	}{
		{"nothing", func(*testing.T, string, string) {}, 4},
		{"torn line", appends(`{"n":4,"na`), 4},
		{"unacknowledged line", appends(`{"n":4,"name":"late"}` + "\n"), 5},
		{"garbage", appends("\x00\x00\x00\x00{}\n\n"), 4},
		{"description lost", func(t *testing.T, _, file string) { must(t, os.Remove(file)) }, 4},
		{"description empty", func(t *testing.T, _, file string) { must(t, os.Truncate(file, 0)) }, 4},
		{"description cut", func(t *testing.T, _, file string) {
			b, err := os.ReadFile(file)
			must(t, err)
			must(t, os.Truncate(file, int64(bytes.IndexByte(b, '\n')+10)))
		}, 4},
		{"description of another", func(t *testing.T, _, file string) {
			must(t, os.WriteFile(file, []byte(`{"fgw_object":1,"id":"00","namespace":"notes","namespace_id":1,"object":"bob","next":77}`+"\n"), 0o600))
		}, 4},
		{"description is a pipe", func(t *testing.T, _, file string) {
			must(t, os.Remove(file))
			must(t, syscall.Mkfifo(file, 0o600))
		}, 4},
		{"description leads elsewhere", func(t *testing.T, _, file string) {
			must(t, os.Remove(file))
			must(t, os.Symlink("/etc/passwd", file))
		}, 4},
		{"directory lost", func(t *testing.T, dir, _ string) { must(t, os.RemoveAll(dir)) }, 4},
		{"a database nobody knows", func(t *testing.T, dir, file string) {
			must(t, os.WriteFile(filepath.Join(dir, "9.db"), nil, 0o600))
			must(t, os.Remove(file))
		}, 10},
		{"removal not committed", appends(`{"n":3,"gone":true}` + "\n"), 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir)
			o, _ := ensure(t, r, create(t, r, "notes"), "alice", "a", "b")
			ensure(t, r, &Namespace{ID: o.NamespaceID, Name: "notes", Create: CreateOpen}, "alice", "c")
			r = reopen(t, r, dir, func() {
				tc.spoil(t, r.ObjectDir(o), filepath.Join(r.ObjectDir(o), descriptionFile))
			})
			o, err := r.Object(t.Context(), "notes", "alice")
			if err != nil {
				t.Fatal(err)
			}
			if n, err := r.FindFacet(t.Context(), o, "a", "b"); err != nil || n[0] != 1 || n[1] != 2 {
				t.Errorf("a and b are %v, %v", n, err)
			}
			_, err = r.FindFacet(t.Context(), o, "c")
			if gone := errors.Is(err, ErrNotFound); gone != (tc.name == "removal not committed") {
				t.Errorf("c: %v", err)
			}
			if n, err := r.EnsureFacet(t.Context(), o, 0, "new"); err != nil || n != tc.next {
				t.Errorf("the next number is %d, %v; want %d", n, err, tc.next)
			}
			// Now the directory alone must tell the same.
			before, err := r.Facets(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			r = reopen(t, r, dir, func() { loseRegistry(t, dir) })
			if o, err = r.Object(t.Context(), "notes", "alice"); err != nil {
				t.Fatal(err)
			}
			after, err := r.Facets(t.Context(), o)
			if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("rebuilt: %v, %v; want %v", after, err, before)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func appends(text string) func(*testing.T, string, string) {
	return func(t *testing.T, _, file string) {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		defer f.Close()
		_, err = f.WriteString(text)
		must(t, err)
	}
}

// A directory that outlived its row is taken over and not written over.
func TestEnsureAdoptsDirectory(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ns := create(t, r, "notes")
	o, _ := ensure(t, r, ns, "alice", "a", "b")
	r = reopen(t, r, dir, func() {})
	must(t, r.do(t.Context(), func(c *change) error { return c.exec(`DELETE FROM object`) }))
	again, numbers, created, err := r.Ensure(t.Context(), ns, "alice", "a", "c")
	if err != nil || !created || again.ID != o.ID || numbers[0] != 1 || numbers[1] != 3 {
		t.Errorf("%+v with %v, created %v, %v", again, numbers, created, err)
	}
}

func TestNewerDescription(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o, _ := ensure(t, r, create(t, r, "notes"), "alice", "a")
	file := filepath.Join(r.ObjectDir(o), descriptionFile)
	newer := []byte(`{"fgw_object":2,"whatever":true}` + "\n")
	r = reopen(t, r, dir, func() { must(t, os.WriteFile(file, newer, 0o600)) })
	if _, err := r.Object(t.Context(), "notes", "alice"); !errors.Is(err, ErrNewer) {
		t.Errorf("an object of a newer version: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, newer) {
		t.Errorf("its description is now %q, %v", b, err)
	}
}

func TestDescriptionIsWrittenAnewWhenLong(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o, _ := ensure(t, r, create(t, r, "notes"), "alice", "kept")
	for i := range 60 {
		n, err := r.EnsureFacet(t.Context(), o, 0, fmt.Sprint("f", i))
		must(t, err)
		_, err = r.RemoveFacet(t.Context(), o, n)
		must(t, err)
	}
	file := filepath.Join(r.ObjectDir(o), descriptionFile)
	r = reopen(t, r, dir, func() {})
	o, err := r.Object(t.Context(), "notes", "alice")
	must(t, err)
	b, err := os.ReadFile(file)
	must(t, err)
	if lines := bytes.Count(b, []byte("\n")); lines != 2 {
		t.Errorf("%d lines, want 2:\n%s", lines, b)
	}
	r = reopen(t, r, dir, func() { loseRegistry(t, dir) })
	if n, err := r.EnsureFacet(t.Context(), o, 0, "new"); err != nil || n != 62 {
		t.Errorf("the next number is %d, %v", n, err)
	}
}

func FuzzParseDescription(f *testing.F) {
	id := objectID(1, "alice")
	head := `{"fgw_object":1,"id":"` + id + `","namespace":"notes","namespace_id":1,"object":"alice","created_at":"2026-11-24T08:00:00Z","next":3}` + "\n"
	f.Add([]byte(head))
	f.Add([]byte(head + `{"n":3,"name":"a%2F"}` + "\n" + `{"n":4,"parent":3,"name":"b"}` + "\n" + `{"n":3,"gone":true}` + "\n" + `{"n":`))
	f.Add([]byte(head + `{"n":1099511627777,"name":"a"}` + "\n"))
	f.Add([]byte(strings.Replace(head, `"alice"`, `"bob"`, 1))) // the id is another's
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDescription(b)
		if err != nil {
			return
		}
		if d.ID != objectID(d.NamespaceID, d.Name) || d.Next < 1 || d.Next > maxNumber {
			t.Fatalf("%+v", d)
		}
		for n, rec := range d.Facets {
			if n < 1 || n >= d.Next || rec.Parent >= n || rec.Name == "" || d.Gone[n] && rec.Gone {
				t.Fatalf("facet %d is %+v", n, rec)
			}
		}
	})
}
