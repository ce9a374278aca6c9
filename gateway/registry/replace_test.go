package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// grove makes src with a child and a grandchild, dst with a child of its own, and beside them another; each has a database with its
// path in it.
func grove(t *testing.T, r *Registry) *Object {
	t.Helper()
	ns := create(t, r, "notes")
	ensure(t, r, ns, "alice", "src", "kid", "grandkid")
	ensure(t, r, ns, "alice", "dst", "old")
	o, _ := ensure(t, r, ns, "alice", "beside")
	facets, err := r.Facets(t.Context(), o)
	must(t, err)
	for _, f := range facets {
		write(t, r, o, f.N, strings.Join(f.Path, "/"))
	}
	return o
}

func write(t *testing.T, r *Registry, o *Object, n int, text string) {
	t.Helper()
	for _, suffix := range []string{".db", ".db-wal", ".db.new"} {
		must(t, os.WriteFile(filepath.Join(r.ObjectDir(o), fmt.Sprint(n, suffix)), []byte(text), 0o600))
	}
}

// copies reserves numbers for a copy of src at dst, and writes what a copy would be.
func copies(t *testing.T, r *Registry, o *Object, parent int, name string) []Facet {
	t.Helper()
	first, err := r.ReserveFacets(t.Context(), o, 3)
	must(t, err)
	tree := []Facet{{N: first, Parent: parent, Name: name}, {N: first + 1, Parent: first, Name: "kid"}, {N: first + 2, Parent: first + 1, Name: "grandkid"}}
	for i, text := range []string{"src", "src/kid", "src/kid/grandkid"} {
		write(t, r, o, first+i, text)
	}
	return tree
}

// state gives each facet as its path, and what is in its database; "?" where it has none. What lies there for no facet follows.
func state(t *testing.T, r *Registry) string {
	t.Helper()
	o, err := r.Object(t.Context(), "notes", "alice")
	must(t, err)
	facets, err := r.Facets(t.Context(), o)
	must(t, err)
	known := map[string]bool{descriptionFile: true}
	var all []string
	for _, f := range facets {
		text := "?"
		if b, err := os.ReadFile(filepath.Join(r.ObjectDir(o), fmt.Sprint(f.N, ".db"))); err == nil {
			text = string(b)
		}
		all = append(all, strings.Join(f.Path, "/")+"="+text)
		for _, suffix := range []string{".db", ".db-wal", ".db.new"} {
			known[fmt.Sprint(f.N, suffix)] = true
		}
	}
	slices.Sort(all)
	entries, err := os.ReadDir(r.ObjectDir(o))
	must(t, err)
	for _, e := range entries {
		if !known[e.Name()] {
			all = append(all, "and "+e.Name())
		}
	}
	return strings.Join(all, " ")
}

const (
	asItWas  = "beside=beside dst/old=dst/old dst=dst src/kid/grandkid=src/kid/grandkid src/kid=src/kid src=src"
	replaced = "beside=beside dst/kid/grandkid=src/kid/grandkid dst/kid=src/kid dst=src src/kid/grandkid=src/kid/grandkid src/kid=src/kid src=src"
)

func TestReplaceFacet(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o := grove(t, r)
	must(t, r.SetAlarm(t.Context(), Alarm{Object: o.ID, N: 5, At: 1, Due: 1, Start: []byte("how")}))
	tree := copies(t, r, o, 0, "dst")
	removed, err := r.ReplaceFacet(t.Context(), o, tree)
	if err != nil || !slices.Equal(removed, []int{4, 5}) {
		t.Fatalf("removed %v, %v", removed, err)
	}
	if alarms, err := r.Alarms(t.Context()); err != nil || len(alarms) != 0 {
		t.Errorf("alarms of what was replaced: %v, %v", alarms, err)
	}
	if n, err := r.FindFacet(t.Context(), o, "dst", "kid"); err != nil || !slices.Equal(n, []int{7, 8}) {
		t.Errorf("the copy has the numbers %v, %v", n, err)
	}
	if _, err := r.FindFacet(t.Context(), o, "dst", "old"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was below it: %v", err)
	}
	// Its caller is killed before it has removed the databases.
	r = reopen(t, r, dir, func() {})
	if got := state(t, r); got != replaced {
		t.Errorf("after opening again: %s", got)
	}
	if n, err := r.EnsureFacet(t.Context(), o, 0, "new"); err != nil || n != 10 {
		t.Errorf("the next number is %d, %v", n, err)
	}
	r = reopen(t, r, dir, func() { loseRegistry(t, dir) })
	if got := state(t, r); got != strings.Replace(replaced, " dst=src", " dst=src new=?", 1) {
		t.Errorf("from the directory alone: %s", got)
	}
}

func TestReplaceIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o := grove(t, r)
	tree := copies(t, r, o, 0, "dst")
	for _, c := range []struct {
		name   string
		change func() []Facet
		err    error
	}{
		{"below what is not there", func() []Facet { tree[0].Parent = 99; return tree }, ErrNotFound},
		{"below what it replaces", func() []Facet {
			tree[0].Parent, tree[0].Name = 0, "dst"
			return append(tree, Facet{N: 11, Parent: 5, Name: "x"})
		}, ErrNotFound},
		{"with a number that was not reserved", func() []Facet { return []Facet{{N: 6, Name: "dst"}} }, ErrNotFound},
		{"too many", func() []Facet {
			must(t, r.do(t.Context(), func(c *change) error {
				return c.exec(`WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?)
					INSERT INTO facet (object, n, parent, name) SELECT ?, 1000000 + n, 0, CAST('many' || n AS BLOB) FROM many`, maxFacets-6, o.key())
			}))
			return tree
		}, ErrFacetLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			if removed, err := r.ReplaceFacet(t.Context(), o, c.change()); !errors.Is(err, c.err) || len(removed) != 0 {
				t.Errorf("removed %v, %v", removed, err)
			}
			if n, err := r.FindFacet(t.Context(), o, "dst", "old"); err != nil || !slices.Equal(n, []int{4, 5}) {
				t.Errorf("what was there: %v, %v", n, err)
			}
		})
	}
	must(t, r.do(t.Context(), func(c *change) error { return c.exec(`DELETE FROM facet WHERE n > 1000000`) }))
	if n, err := r.Leftovers(t.Context(), o, tree[0].N, 3); err != nil || !slices.Equal(n, []int{7, 8, 9}) {
		t.Errorf("the leftovers are %v, %v", n, err)
	}
	r = reopen(t, r, dir, func() {})
	if got := state(t, r); got != asItWas {
		t.Errorf("after opening again: %s", got)
	}
	r = reopen(t, r, dir, func() { loseRegistry(t, dir) })
	if got := state(t, r); got != asItWas {
		t.Errorf("from the directory alone: %s", got)
	}
}

// A commit that fails puts the description back.
func TestReplaceIsUndone(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o := grove(t, r)
	tree := copies(t, r, o, 0, "dst")
	before, err := os.ReadFile(filepath.Join(r.ObjectDir(o), descriptionFile))
	must(t, err)
	failure := errors.New("the disk is full")
	err = r.do(t.Context(), func(c *change) error {
		_, err := r.replaceFacet(c, o, tree)
		return errors.Join(err, failure)
	})
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(filepath.Join(r.ObjectDir(o), descriptionFile)); err != nil || string(after) != string(before) {
		t.Errorf("the description is %s, %v; want %s", after, err, before)
	}
	r = reopen(t, r, dir, func() {})
	if got := state(t, r); got != asItWas {
		t.Errorf("after opening again: %s", got)
	}
}

// Two replacements in an object may share a commit: if that fails, neither is left in the description.
func TestReplacementsOfOneCommitAreUndone(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o := grove(t, r)
	first, second := copies(t, r, o, 0, "dst"), copies(t, r, o, 0, "beside")
	failure := errors.New("the disk is full")
	err := r.do(t.Context(), func(c *change) error {
		for _, tree := range [][]Facet{first, second} {
			if _, err := r.replaceFacet(c, o, tree); err != nil {
				return err
			}
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	r = reopen(t, r, dir, func() {})
	if got := state(t, r); got != asItWas {
		t.Errorf("after opening again: %s", got)
	}
}

// A number that was reserved is not given again, though the registry that knew of it is lost.
func TestReservedIsNotGivenAgain(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o := grove(t, r)
	copies(t, r, o, 0, "dst")
	r = reopen(t, r, dir, func() { loseRegistry(t, dir) })
	o, err := r.Object(t.Context(), "notes", "alice")
	must(t, err)
	n, err := r.EnsureFacet(t.Context(), o, 0, "new")
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(r.ObjectDir(o), fmt.Sprint(n, ".db"))); err == nil {
		t.Errorf("a new facet has the number %d, whose database has %q in it", n, b)
	}
}

// A process that is killed in a replacement, or whose registry is one of before it, has done all of it or nothing.
func TestReplaceInterrupted(t *testing.T) {
	save := func(t *testing.T, dir string) (restore func()) {
		t.Helper()
		kept := map[string][]byte{}
		for _, name := range []string{"registry.db", "registry.db-wal"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			kept[name] = b
		}
		return func() {
			loseRegistry(t, dir)
			for name, b := range kept {
				must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			}
		}
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, r *Registry, o *Object, dir string) (before func())
		want string
	}{
		{"with the copies made", func(t *testing.T, r *Registry, o *Object, dir string) func() {
			copies(t, r, o, 0, "dst")
			return func() {}
		}, asItWas},
		{"before its commit", func(t *testing.T, r *Registry, o *Object, dir string) func() {
			tree := copies(t, r, o, 0, "dst")
			before := save(t, dir)
			_, err := r.ReplaceFacet(t.Context(), o, tree)
			must(t, err)
			return before
		}, replaced},
		{"the registry is older", func(t *testing.T, r *Registry, o *Object, dir string) func() {
			before := save(t, dir)
			removed, err := r.ReplaceFacet(t.Context(), o, copies(t, r, o, 0, "dst"))
			must(t, err)
			must(t, r.Swept(t.Context(), o, removed))
			r.rewriteNow(t, o) // the lines that tell of the removal have gone
			return before
		}, replaced},
		{"of what was not there", func(t *testing.T, r *Registry, o *Object, dir string) func() {
			_, err := r.RemoveFacet(t.Context(), o, 4)
			must(t, err)
			_, err = r.ReplaceFacet(t.Context(), o, copies(t, r, o, 0, "dst"))
			must(t, err)
			return func() {}
		}, replaced},
		{"the description is lost", func(t *testing.T, r *Registry, o *Object, dir string) func() {
			must(t, os.Remove(filepath.Join(r.ObjectDir(o), descriptionFile)))
			_, err := r.ReplaceFacet(t.Context(), o, copies(t, r, o, 0, "dst"))
			must(t, err)
			return func() {}
		}, replaced},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := open(t, dir)
			o := grove(t, r)
			r = reopen(t, r, dir, c.run(t, r, o, dir))
			state(t, r) // brings both to one state
			r = reopen(t, r, dir, func() {})
			if got := state(t, r); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			r = reopen(t, r, dir, func() { loseRegistry(t, dir) })
			if got := state(t, r); got != c.want {
				t.Errorf("from the directory alone\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

// rewriteNow writes an object's description anew, as it is when it has become long.
func (r *Registry) rewriteNow(t *testing.T, o *Object) {
	t.Helper()
	must(t, r.do(t.Context(), func(c *change) error {
		facets, err := loadFacets(c, o)
		if err != nil {
			return err
		}
		return r.rewrite(o, facets[len(facets)-1].N+1, facets)
	}))
}

// Without the description nobody knows whether leftovers are what replaced something.
func TestLeftoversStayWhereTheDescriptionIsLost(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	o := grove(t, r)
	copies(t, r, o, 0, "dst")
	r = reopen(t, r, dir, func() { must(t, os.Remove(filepath.Join(r.ObjectDir(o), descriptionFile))) })
	if got := state(t, r); !strings.Contains(got, "and 7.db") || !strings.HasPrefix(got, asItWas) {
		t.Errorf("after opening again: %s", got)
	}
}

// Leftovers waits for a change whose caller did not.
func TestLeftoversOfACallerWhoLeft(t *testing.T) {
	r := open(t, t.TempDir())
	o := grove(t, r)
	tree := copies(t, r, o, 0, "dst")
	busy, begun := make(chan struct{}), make(chan struct{})
	go r.do(context.Background(), func(*change) error { close(begun); <-busy; return nil })
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := r.ReplaceFacet(ctx, o, tree); !errors.Is(err, context.Canceled) {
		t.Fatalf("who did not wait is told %v", err)
	}
	close(busy)
	if n, err := r.Leftovers(t.Context(), o, tree[0].N, 3); err != nil || len(n) != 0 {
		t.Errorf("the leftovers are %v, %v: it was replaced", n, err)
	}
}
