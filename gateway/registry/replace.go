package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
)

// Facets are removed and replaced in two steps: the rows change in one commit, which is the moment it happens, and then the
// databases go that no row names any more. In between their numbers are leftovers: Open removes what a crash left of them. That
// is safe because a number is never given twice, and because leftover and facet never have the same one.

// RemoveFacet forgets a facet and its descendants, with their alarms; of the root, number 0, the descendants alone. It gives
// their numbers: the caller removes their databases and says so with Swept.
func (r *Registry) RemoveFacet(ctx context.Context, o *Object, n int) (removed []int, err error) {
	err = r.do(ctx, func(c *change) (err error) {
		if removed, err = r.removeTree(c, o, n); err != nil || len(removed) == 0 {
			return err
		}
		// Synced before the commit: a power cut must not leave a description that brings a deleted name back.
		return r.describe(c, o, goneRecords(removed), true)
	})
	if err != nil {
		return nil, fmt.Errorf("remove facet %d of object %q: %w", n, o.Name, err)
	}
	return removed, nil
}

// removeTree removes the rows of a facet and its descendants.
func (r *Registry) removeTree(c *change, o *Object, n int) (removed []int, err error) {
	facets, err := loadFacets(c, o)
	if err != nil {
		return nil, err
	}
	in := map[int]bool{n: true}
	for _, f := range facets { // parents come before their children
		if f.N == n || in[f.Parent] {
			in[f.N] = true
			removed = append(removed, f.N)
		}
	}
	if err := removeRows(c, o, removed); err != nil {
		return nil, err
	}
	c.onCommit(func() { r.cache.removeFacets(o.ID) })
	return removed, nil
}

// some is a condition on facets of an object, their numbers given by jsonOf: one statement for all, since every other change waits meanwhile.
const some = ` WHERE object = ?1 AND n IN (SELECT value FROM json_each(?2))`

func jsonOf(numbers []int) string {
	b := []byte{'['}
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(append(b, ']'))
}

// removeRows removes those rows of facets that there are.
func removeRows(c *change, o *Object, numbers []int) error {
	which := jsonOf(numbers)
	for _, statement := range []string{
		`INSERT OR IGNORE INTO leftover (object, n) SELECT object, n FROM facet` + some,
		`DELETE FROM alarm` + some, `DELETE FROM alarm_start` + some, `DELETE FROM facet` + some,
	} {
		if err := c.exec(statement, o.key(), which); err != nil {
			return err
		}
	}
	return nil
}

func goneRecords(numbers []int) (gone []record) {
	for _, n := range numbers {
		gone = append(gone, record{N: n, Gone: true})
	}
	return gone
}

func scanInts(into *[]int) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var n int
		err := scan(&n)
		*into = append(*into, n)
		return err
	}
}

// ReserveFacets gives count numbers in a row, the first of them, for facets that ReplaceFacet names later. Databases that the
// caller makes under them are leftovers until then.
func (r *Registry) ReserveFacets(ctx context.Context, o *Object, count int) (first int, err error) {
	if count < 1 || count > maxFacets {
		return 0, fmt.Errorf("reserve %d facets: %w", count, ErrFacetLimit)
	}
	err = r.do(ctx, func(c *change) error {
		if err := c.row(`UPDATE object SET next = next + ? WHERE id = ? RETURNING next - ?`, []any{count, o.key(), count}, &first); err != nil {
			return fmt.Errorf("object %w", err)
		}
		err := c.exec(`WITH RECURSIVE given(n) AS (SELECT ?2 UNION ALL SELECT n + 1 FROM given WHERE n < ?3)
			INSERT INTO leftover (object, n) SELECT ?1, n FROM given`, o.key(), first, first+count-1)
		if err != nil {
			return err
		}
		// The directory knows them as given, too: without the registry a new facet would get one, and find a copy there.
		return r.describe(c, o, goneRecords([]int{first + count - 1}), false)
	})
	if err != nil {
		return 0, fmt.Errorf("reserve facets of object %q: %w", o.Name, err)
	}
	return first, nil
}

// ReplaceFacet puts a tree of facets that have reserved numbers in the place of what is named so below parent, if anything
// is, and of its descendants, in one commit. tree has parents before their children; the first is the facet itself, whose Parent and
// Name say where it goes. It gives the numbers that were removed, as RemoveFacet does. ErrFacetLimit and ErrNotFound (the
// parent, or a number that was not reserved) leave everything as it was.
func (r *Registry) ReplaceFacet(ctx context.Context, o *Object, tree []Facet) (removed []int, err error) {
	err = r.do(ctx, func(c *change) (err error) {
		removed, err = r.replaceFacet(c, o, tree)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("replace facet %q of object %q: %w", tree[0].Name, o.Name, err)
	}
	return removed, nil
}

func (r *Registry) replaceFacet(c *change, o *Object, tree []Facet) (removed []int, err error) {
	top := tree[0]
	var old int
	err = c.row(`SELECT n FROM facet WHERE object = ? AND parent = ? AND name = ?`, []any{o.key(), top.Parent, []byte(top.Name)}, &old)
	if err == nil {
		removed, err = r.removeTree(c, o, old)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	var count, parents, next int
	if err := c.row(`SELECT count(*), coalesce(sum(n = ?2), 0) FROM facet WHERE object = ?1`, []any{o.key(), top.Parent}, &count, &parents); err != nil {
		return nil, err
	}
	if count+len(tree) > maxFacets {
		return nil, fmt.Errorf("%d facets: %w", count+len(tree), ErrFacetLimit)
	}
	if top.Parent != 0 && parents == 0 {
		return nil, fmt.Errorf("parent facet %d %w", top.Parent, ErrNotFound)
	}
	if err := c.row(`SELECT next FROM object WHERE id = ?`, []any{o.key()}, &next); err != nil {
		return nil, fmt.Errorf("object %w", err)
	}
	for _, f := range tree {
		if err := c.must(`DELETE FROM leftover WHERE object = ? AND n = ?`, o.key(), f.N); err != nil {
			return nil, fmt.Errorf("facet number %d %w", f.N, err)
		}
		if err := r.insertRow(c, o, f.N, f.Parent, f.Name); err != nil {
			return nil, err
		}
	}
	facets, err := loadFacets(c, o)
	if err != nil {
		return nil, err
	}
	// Whole, and by a rename: lines that are appended could be cut off after those that tell of the removal.
	return removed, r.replace(c, o, next, append(facets, goneRecords(removed)...))
}

// Leftovers gives those of count numbers in a row, first the first, that are leftovers, once every change that was asked for
// before is made or refused: also of a caller who did not wait for its end.
func (r *Registry) Leftovers(ctx context.Context, o *Object, first, count int) (numbers []int, err error) {
	err = r.do(ctx, func(c *change) error {
		return c.rows(`SELECT n FROM leftover WHERE object = ? AND n >= ? AND n < ?`, []any{o.key(), first, first + count}, scanInts(&numbers))
	})
	if err != nil {
		return nil, fmt.Errorf("leftovers of object %q: %w", o.Name, err)
	}
	return numbers, nil
}

// Swept says that the databases of leftovers are removed.
func (r *Registry) Swept(ctx context.Context, o *Object, numbers []int) error {
	err := r.do(ctx, func(c *change) error { return c.exec(`DELETE FROM leftover`+some, o.key(), jsonOf(numbers)) })
	if err != nil {
		return fmt.Errorf("leftovers of object %q: %w", o.Name, err)
	}
	return nil
}

// sweep removes the leftovers of a process that was killed. Nothing runs yet.
func (r *Registry) sweep(ctx context.Context) error {
	rows, err := r.read.QueryContext(ctx, `SELECT DISTINCT hex(object) FROM leftover`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, strings.ToLower(id))
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, id := range ids {
		if err := r.sweepObject(ctx, id); err != nil { // what can't be removed is tried again at the next start
			r.log.Warn("databases that nothing needs any more could not be removed", slog.String("id", id), slog.Any("error", err))
		}
	}
	return nil
}

func (r *Registry) sweepObject(ctx context.Context, id string) error {
	o, _, err := r.ObjectByID(ctx, id, 0)
	if err != nil {
		return err
	}
	// The description may know of a replacement whose commit did not come to be, or is not in a registry that was restored: then
	// the leftovers are the facets. Without it nothing is removed.
	if _, err := r.readDescription(o.Dir()); err != nil {
		if _, lost := r.objects.Lstat(o.Dir()); !errors.Is(lost, fs.ErrNotExist) {
			return err
		}
	}
	if err := r.reconcile(ctx, o); err != nil {
		return err
	}
	numbers, err := r.Leftovers(ctx, o, 0, maxNumber)
	if err != nil {
		return err
	}
	left := make(map[string]bool, len(numbers))
	for _, n := range numbers {
		left[strconv.Itoa(n)] = true
	}
	entries, err := fs.ReadDir(r.objects.FS(), o.Dir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, _, ok := strings.Cut(e.Name(), ".db"); ok && left[n] { // with SQLite's other files, and copies that were being made
			if err := r.objects.Remove(o.Dir() + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return r.Swept(ctx, o, numbers)
}
