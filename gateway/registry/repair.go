package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reconcile compares what the registry and the directory say of an object when
// it is first used, and brings both to the same state where they differ.
func (r *Registry) reconcile(ctx context.Context, o *Object) error {
	d, err := r.readDescription(o.Dir())
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("object %q: %w", o.Name, err)
	}
	if err == nil && !d.Torn && d.Lines <= 2*len(d.Facets)+64 {
		same, err := r.agrees(ctx, o, d)
		if err != nil || same {
			return err
		}
	}
	if err := r.do(ctx, func(c *change) error { return r.repair(c, o) }); err != nil {
		return fmt.Errorf("repair object %q: %w", o.Name, err)
	}
	return nil
}

// agrees tells whether the registry has the same facets as the description.
func (r *Registry) agrees(ctx context.Context, o *Object, d *description) (bool, error) {
	facets, err := r.Facets(ctx, o)
	if err != nil {
		return false, err
	}
	var next int
	if err := r.read.QueryRowContext(ctx, `SELECT next FROM object WHERE id = ?`, o.key()).Scan(&next); err != nil {
		return false, err
	}
	if next != d.Next || len(facets) != len(d.Facets) {
		return false, nil
	}
	for _, f := range facets {
		if rec, ok := d.Facets[f.N]; !ok || rec.Parent != f.Parent || rec.Name != f.Name {
			return false, nil
		}
	}
	return true, nil
}

// repair brings the registry and the directory to one state: what either knows
// counts, a removal that the directory tells counts, and no number is given that
// a row, a line or a database file already has.
func (r *Registry) repair(c *change, o *Object) error {
	if err := r.mkdir(o.ID); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := r.readDescription(o.Dir())
	switch {
	case errors.Is(err, ErrNewer):
		return err
	case err != nil || d.ID != o.ID:
		d = &description{}
		r.log.Warn("object described anew from the registry", slog.String("object", o.Name), slog.String("id", o.ID), slog.Any("reason", err))
	case d.Torn:
		r.log.Warn("object description with an unfinished end repaired", slog.String("object", o.Name), slog.String("id", o.ID))
	}
	next := d.Next
	if highest, ok := r.highestDatabase(o.Dir()); ok {
		next = max(next, highest+1)
	}
	if err := c.row(`UPDATE object SET next = max(next, ?) WHERE id = ? RETURNING next`, []any{next, o.key()}, &next); err != nil {
		return fmt.Errorf("object %w", err)
	}
	if err := removeRows(c, o, slices.Collect(maps.Keys(d.Gone))); err != nil {
		return err
	}
	if err := insertFacets(c, o.ID, d); err != nil {
		return err
	}
	if err := removeStrays(c, o); err != nil {
		return err
	}
	facets, err := loadFacets(c, o)
	if err != nil {
		return err
	}
	c.onCommit(func() { r.cache.removeFacets(o.ID) })
	return r.rewrite(o, next, facets)
}

// removeStrays removes rows whose parents are gone.
func removeStrays(c *change, o *Object) error {
	for {
		var strays []int
		err := c.rows(`SELECT n FROM facet f WHERE object = ?1 AND parent <> 0
			AND NOT EXISTS (SELECT 1 FROM facet p WHERE p.object = ?1 AND p.n = f.parent)`, []any{o.key()}, scanInts(&strays))
		if err != nil || len(strays) == 0 {
			return err
		}
		if err := removeRows(c, o, strays); err != nil {
			return err
		}
	}
}

// insertFacets adds the facets that a description knows, oldest first. Where a name has another number already, the
// higher one is the later.
func insertFacets(c *change, id string, d *description) error {
	for _, n := range slices.Sorted(maps.Keys(d.Facets)) {
		rec := d.Facets[n]
		if _, ok := d.Facets[rec.Parent]; !ok && rec.Parent != 0 {
			continue // its parent was removed
		}
		err := errors.Join(
			c.exec(`INSERT OR IGNORE INTO leftover (object, n) SELECT object, n FROM facet WHERE object = ? AND parent = ? AND name = ? AND n < ?`, idKey(id), rec.Parent, []byte(rec.Name), n),
			c.exec(`DELETE FROM facet WHERE object = ? AND parent = ? AND name = ? AND n < ?`, idKey(id), rec.Parent, []byte(rec.Name), n),
			c.exec(`INSERT OR IGNORE INTO facet (object, n, parent, name) VALUES (?, ?, ?, ?)`, idKey(id), n, rec.Parent, []byte(rec.Name)))
		if err != nil {
			return err
		}
	}
	return c.exec(`DELETE FROM leftover WHERE object = ?1 AND n IN (SELECT n FROM facet WHERE object = ?1)`, idKey(id))
}

func loadFacets(c *change, o *Object) (facets []record, err error) {
	err = c.rows(`SELECT n, parent, name FROM facet WHERE object = ? ORDER BY n`, []any{o.key()}, func(scan func(...any) error) error {
		var rec record
		var name []byte
		if err := scan(&rec.N, &rec.Parent, &name); err != nil {
			return err
		}
		rec.Name = string(name)
		facets = append(facets, rec)
		return nil
	})
	return facets, err
}

func (r *Registry) mkdir(id string) error {
	err := r.objects.Mkdir(objectDir(id), 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := r.objects.Mkdir(id[:2], 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = r.objects.Mkdir(objectDir(id), 0o700)
	}
	return err
}

// makeGroups makes the directories that hold those of objects. Making one takes
// longer than anything else about a new object.
func (r *Registry) makeGroups() error {
	for i := range 256 {
		if err := r.objects.Mkdir(fmt.Sprintf("%02x", i), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// highestDatabase is the highest N of the files N.db in a directory.
func (r *Registry) highestDatabase(dir string) (highest int, ok bool) {
	entries, err := fs.ReadDir(r.objects.FS(), dir)
	if err != nil {
		return 0, false
	}
	for _, e := range entries {
		name, isDB := strings.CutSuffix(e.Name(), ".db")
		if n, err := strconv.Atoi(name); isDB && err == nil && n >= 0 && n < maxNumber && n >= highest {
			highest, ok = n, true
		}
	}
	return highest, ok
}

// RebuildReport tells what Rebuild did.
type RebuildReport struct {
	Namespaces int
	Objects    int
	Skipped    []string // directories that say nothing credible, with the reason
}

// rebuildGroup is how many directories share a commit.
const rebuildGroup = 200

// Rebuild restores rows of objects, and of their namespaces with default
// settings, from the directories below objects/. Rows that exist stay.
func (r *Registry) Rebuild(ctx context.Context) (RebuildReport, error) {
	var report RebuildReport
	groups, err := fs.ReadDir(r.objects.FS(), ".")
	if err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	var found []*description
	flush := func() error {
		if len(found) == 0 {
			return nil
		}
		some := found
		found = nil
		return r.do(ctx, func(c *change) error { return r.restore(c, some, &report) })
	}
	for _, g := range groups {
		if len(g.Name()) != 2 || !g.IsDir() {
			continue
		}
		dirs, err := fs.ReadDir(r.objects.FS(), g.Name())
		if err != nil {
			return report, fmt.Errorf("rebuild: %w", err)
		}
		for _, e := range dirs {
			id := g.Name() + e.Name()
			if !isID(id) || !e.IsDir() {
				continue
			}
			d, err := r.readDescription(objectDir(id))
			if err == nil && d.ID != id {
				err = errNoDescription
			}
			if err != nil {
				report.Skipped = append(report.Skipped, id+": "+reason(err))
				continue
			}
			if found = append(found, d); len(found) >= rebuildGroup {
				if err := flush(); err != nil {
					return report, fmt.Errorf("rebuild: %w", err)
				}
			}
		}
	}
	if err := flush(); err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	if err := r.do(ctx, r.loadSnapshot); err != nil {
		return report, fmt.Errorf("rebuild: %w", err)
	}
	return report, nil
}

// reason is an error without the path that it happened at.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

func (r *Registry) restore(c *change, found []*description, report *RebuildReport) error {
	for _, d := range found {
		var taken int
		if err := c.row(`SELECT count(*) FROM namespace WHERE (id = ?1) <> (name = ?2)`, []any{d.NamespaceID, d.Namespace}, &taken); err != nil {
			return err
		}
		if taken > 0 {
			report.Skipped = append(report.Skipped, d.ID+": it is of another namespace "+d.Namespace)
			continue
		}
		n, err := c.affected(`INSERT OR IGNORE INTO namespace (id, name, created_at) VALUES (?, ?, ?)`, d.NamespaceID, d.Namespace, r.now().UnixMilli())
		if err != nil {
			return err
		}
		report.Namespaces += int(n)
		created := d.CreatedAt
		if created.IsZero() {
			created = time.UnixMilli(0)
		}
		if n, err = c.affected(`INSERT OR IGNORE INTO object (id, namespace, name, next, created_at) VALUES (?, ?, ?, ?, ?)`,
			idKey(d.ID), d.NamespaceID, []byte(d.Name), d.Next, created.UnixMilli()); err != nil {
			return err
		}
		report.Objects += int(n)
		if err := insertFacets(c, d.ID, d); err != nil {
			return err
		}
	}
	return nil
}
