package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestFacetNumbers(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ctx := t.Context()
	ns := create(t, r, "notes")
	o, _ := ensure(t, r, ns, "alice")
	number := func(parent int, name string, want int) {
		t.Helper()
		if n, err := r.EnsureFacet(ctx, o, parent, name); err != nil || n != want {
			t.Errorf("facet %q below %d: %d, %v; want %d", name, parent, n, err, want)
		}
	}
	number(0, "a", 1)
	number(0, "b", 2)
	number(1, "a", 3) // the same name elsewhere is another facet
	number(0, "a", 1)
	number(3, "\xff/..", 4)
	if _, err := r.EnsureFacet(ctx, o, 99, "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("below a facet that is not there: %v", err)
	}
	for _, bad := range []string{"", "a\x00", strings.Repeat("x", 257)} {
		if _, err := r.EnsureFacet(ctx, o, 0, bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if found, err := r.FindFacet(ctx, o, "a", "a", "\xff/.."); err != nil || !slices.Equal(found, []int{1, 3, 4}) {
		t.Errorf("found %v, %v", found, err)
	}
	facets, err := r.Facets(ctx, o)
	if err != nil || fmt.Sprintf("%q", paths(facets)) != `["a" "b" "a a" "a a \xff/.."]` {
		t.Errorf("the tree is %q, %v", paths(facets), err)
	}

	removed, err := r.RemoveFacet(ctx, o, 1)
	if err != nil || !slices.Equal(removed, []int{1, 3, 4}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if removed, err := r.RemoveFacet(ctx, o, 1); err != nil || len(removed) != 0 {
		t.Errorf("removed again: %v, %v", removed, err)
	}
	number(0, "a", 5) // no number is given twice
	r.Close()
	r = open(t, dir)
	if o, err = r.Object(ctx, "notes", "alice"); err != nil {
		t.Fatal(err)
	}
	number(0, "b", 2)
	number(0, "a", 5)
	number(5, "a", 6)
	if removed, err := r.RemoveFacet(ctx, o, 0); err != nil || !slices.Equal(removed, []int{2, 5, 6}) {
		t.Errorf("removed below the root: %v, %v", removed, err)
	}
	number(0, "b", 7)
}

func paths(facets []Facet) (all []string) {
	for _, f := range facets {
		all = append(all, strings.Join(f.Path, " "))
	}
	return all
}

func TestEnsureMakesPathInOne(t *testing.T) {
	r := open(t, t.TempDir())
	ns := create(t, r, "notes")
	_, first := ensure(t, r, ns, "alice", "a", "b")
	_, second := ensure(t, r, ns, "alice", "a", "c")
	if !slices.Equal(first, []int{1, 2}) || !slices.Equal(second, []int{1, 3}) {
		t.Errorf("numbers %v and %v", first, second)
	}
}

func TestEnsureFacetAtOnce(t *testing.T) {
	r := open(t, t.TempDir())
	ns := create(t, r, "notes")
	o, _ := ensure(t, r, ns, "alice")
	var mu sync.Mutex
	given := make(map[int]string)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			name := fmt.Sprint("f", i%50)
			n, err := r.EnsureFacet(context.Background(), o, 0, name)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if other, ok := given[n]; ok && other != name {
				t.Errorf("number %d for %q and %q", n, other, name)
			}
			given[n] = name
		})
	}
	wg.Wait()
	if len(given) != 50 {
		t.Errorf("%d numbers for 50 facets", len(given))
	}
}

func TestFacetLimit(t *testing.T) {
	r := open(t, t.TempDir())
	ns := create(t, r, "notes")
	o, _ := ensure(t, r, ns, "alice")
	err := r.do(t.Context(), func(c *change) error {
		return c.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
			INSERT INTO facet (object, n, parent, name) SELECT ?1, i, 0, CAST(i AS BLOB) FROM n`, o.key(), maxFacets)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.EnsureFacet(t.Context(), o, 0, "one more"); !errors.Is(err, ErrFacetLimit) {
		t.Errorf("one too many: %v", err)
	}
	if n, err := r.EnsureFacet(t.Context(), o, 0, "77"); err != nil || n != 77 {
		t.Errorf("one that is there: %d, %v", n, err)
	}
}

func TestCacheIsBoundedAndForgets(t *testing.T) {
	var c cache
	for i := range maxCached + 10 {
		c.addFacet("id", 0, fmt.Sprint(i), i, 0)
	}
	if c.order.Len() != maxCached || len(c.entries) != maxCached || len(c.byObject["id"]) != maxCached {
		t.Errorf("%d, %d, %d entries", c.order.Len(), len(c.entries), len(c.byObject["id"]))
	}
	if _, ok := c.facet("id", 0, "9"); ok {
		t.Error("the least recently used one is still there")
	}
	if n, ok := c.facet("id", 0, "10"); !ok || n != 10 {
		t.Errorf("facet 10: %d, %v", n, ok)
	}
	before := c.removalCount()
	c.removeObject("id")
	c.addFacet("id", 0, "stale", 1, before)
	if _, ok := c.facet("id", 0, "stale"); ok || len(c.byObject) != 0 {
		t.Error("what was read before a removal is remembered after it")
	}
}
