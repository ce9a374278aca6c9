package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/facetgateway/fgw/gateway/address"
)

// maxFacets bounds the facets of one object, so that a supervisor in a loop
// fills neither the registry nor the directory.
const maxFacets = 10_000

// Facet is a facet's place in its object: number N is the file N.db in the
// object's directory, given once and never again. The root is number 0 and is
// not listed.
type Facet struct {
	N      int
	Parent int
	Name   string
	Path   []string // the names from the root's child down to it
}

// EnsureFacet gives the number of a facet below parent, which it assigns if
// the facet has none yet.
func (r *Registry) EnsureFacet(ctx context.Context, o *Object, parent int, name string) (int, error) {
	if n, ok := r.cache.facet(o.ID, parent, name); ok {
		return n, nil
	}
	n, err := r.lookupFacet(ctx, o, parent, name)
	if !errors.Is(err, ErrNotFound) {
		return n, err
	}
	if err := address.CheckPart(name); err != nil {
		return 0, err
	}
	err = r.do(ctx, func(c *change) (err error) {
		var records []record
		if n, err = r.insertFacet(c, o, parent, name, &records); err != nil {
			return err
		}
		return r.describe(c, o, records, false)
	})
	if err != nil {
		return 0, fmt.Errorf("facet %q: %w", name, err)
	}
	return n, nil
}

// FindFacet gives the numbers of the facets on a path, ErrNotFound where one
// was never started.
func (r *Registry) FindFacet(ctx context.Context, o *Object, path ...string) ([]int, error) {
	numbers := make([]int, 0, len(path))
	parent := 0
	for _, name := range path {
		n, err := r.lookupFacet(ctx, o, parent, name)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
		parent = n
	}
	return numbers, nil
}

func (r *Registry) lookupFacet(ctx context.Context, o *Object, parent int, name string) (int, error) {
	if n, ok := r.cache.facet(o.ID, parent, name); ok {
		return n, nil
	}
	removals := r.cache.removalCount()
	var n int
	err := r.findFacet.QueryRowContext(ctx, o.key(), parent, []byte(name)).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("facet %q %w", name, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("facet: %w", err)
	}
	r.cache.addFacet(o.ID, parent, name, n, removals)
	return n, nil
}

// ensurePath is FindFacet that assigns what is missing, in one commit.
func (r *Registry) ensurePath(ctx context.Context, o *Object, path []string) (*Settled, error) {
	s := &Settled{Object: o}
	var err error
	if s.Numbers, err = r.FindFacet(ctx, o, path...); err == nil {
		return s, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	for _, name := range path {
		if err := address.CheckPart(name); err != nil {
			return nil, err
		}
	}
	err = r.settle(ctx, s, func(c *change) (err error) {
		s.Numbers, err = r.insertPath(c, o, path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("facets of object %q: %w", o.Name, err)
	}
	return s, nil
}

func (r *Registry) insertPath(c *change, o *Object, path []string) ([]int, error) {
	numbers := make([]int, 0, len(path))
	var records []record
	parent := 0
	for _, name := range path {
		n, err := r.insertFacet(c, o, parent, name, &records)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
		parent = n
	}
	return numbers, r.describe(c, o, records, false)
}

// insertFacet assigns a number unless the facet has one, and adds what the
// object's description has to say of it to records.
func (r *Registry) insertFacet(c *change, o *Object, parent int, name string, records *[]record) (n int, err error) {
	err = c.row(`SELECT n FROM facet WHERE object = ? AND parent = ? AND name = ?`, []any{o.key(), parent, []byte(name)}, &n)
	if !errors.Is(err, ErrNotFound) {
		return n, err
	}
	var count, parents int
	if err := c.row(`SELECT count(*), coalesce(sum(n = ?2), 0) FROM facet WHERE object = ?1`, []any{o.key(), parent}, &count, &parents); err != nil {
		return 0, err
	}
	if count >= maxFacets {
		return 0, fmt.Errorf("%d facets: %w", count, ErrFacetLimit)
	}
	if parent != 0 && parents == 0 {
		return 0, fmt.Errorf("parent facet %d %w", parent, ErrNotFound)
	}
	if err := c.row(`UPDATE object SET next = next + 1 WHERE id = ? RETURNING next - 1`, []any{o.key()}, &n); err != nil {
		return 0, fmt.Errorf("object %w", err)
	}
	*records = append(*records, record{N: n, Parent: parent, Name: name})
	return n, r.insertRow(c, o, n, parent, name)
}

func (r *Registry) insertRow(c *change, o *Object, n, parent int, name string) error {
	removals := r.cache.removalCount()
	c.onCommit(func() { r.cache.addFacet(o.ID, parent, name, n, removals) })
	return c.exec(`INSERT INTO facet (object, n, parent, name) VALUES (?, ?, ?, ?)`, o.key(), n, parent, []byte(name))
}

// Facets lists the tree of an object's facets, parents before children.
func (r *Registry) Facets(ctx context.Context, o *Object) ([]Facet, error) {
	rows, err := r.read.QueryContext(ctx, `SELECT n, parent, name FROM facet WHERE object = ? ORDER BY n`, o.key())
	if err != nil {
		return nil, fmt.Errorf("facets: %w", err)
	}
	defer rows.Close()
	var all []Facet
	paths := make(map[int][]string)
	for rows.Next() {
		var f Facet
		var name []byte
		if err := rows.Scan(&f.N, &f.Parent, &name); err != nil {
			return nil, fmt.Errorf("facets: %w", err)
		}
		f.Name = string(name)
		// A child's number is above its parent's, so the parent's path is known.
		f.Path = append(slices.Clip(paths[f.Parent]), f.Name)
		paths[f.N] = f.Path
		all = append(all, f)
	}
	return all, rows.Err()
}
