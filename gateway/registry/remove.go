package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

// trashDir holds directories of objects that are removed. Moving one there is
// the point at which the object is gone: Open finishes what a crash leaves.
const trashDir = ".trash"

// RemoveObject removes an object with all its databases. The caller has stopped
// what runs in it and closed its databases.
func (r *Registry) RemoveObject(ctx context.Context, ns, name string) error {
	o, err := r.Object(ctx, ns, name)
	if err != nil {
		return err
	}
	n, err := r.Namespace(ns)
	if err != nil {
		return err
	}
	var trashed string
	err = r.do(ctx, func(c *change) (err error) {
		trashed, err = r.removeObject(c, n, o.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove object %q of namespace %q: %w", name, ns, err)
	}
	return r.empty([]string{trashed})
}

// removeObject moves the directory away and deletes the row, in this order: a
// directory without a row would be found by the next object of that name.
func (r *Registry) removeObject(c *change, ns *Namespace, id string) (trashed string, err error) {
	trashed = trashDir + "/" + id + "." + rand.Text()
	err = r.objects.Rename(objectDir(id), trashed)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		trashed = ""
	case err != nil:
		return "", err
	default:
		c.onUndo(func() {
			if err := r.objects.Rename(trashed, objectDir(id)); err != nil {
				r.log.Error("an object that was not removed could not be put back", slog.String("id", id), slog.Any("error", err))
			}
		})
		if err := errors.Join(r.syncDir(trashDir), r.syncDir(id[:2])); err != nil {
			return "", err
		}
	}
	if err := c.must(`DELETE FROM object WHERE id = ?`, idKey(id)); err != nil {
		return "", fmt.Errorf("object %w", err)
	}
	if r.audits.Load().of(id) {
		if err := r.loadAudits(c); err != nil {
			return "", err
		}
	}
	r.counts.add(ns.ID, -1)
	c.onUndo(func() { r.counts.add(ns.ID, 1) })
	c.onCommit(func() { r.cache.removeObject(id) })
	return trashed, nil
}

// empty deletes directories in the trash.
func (r *Registry) empty(trashed []string) error {
	var errs []error
	for _, t := range trashed {
		if t != "" {
			errs = append(errs, r.objects.RemoveAll(t))
		}
	}
	return errors.Join(errs...)
}

// emptyTrash finishes removals that a crash interrupted.
func (r *Registry) emptyTrash(ctx context.Context) error {
	entries, err := fs.ReadDir(r.objects.FS(), trashDir)
	if err != nil || len(entries) == 0 {
		return err
	}
	var trashed []string
	for _, e := range entries {
		trashed = append(trashed, trashDir+"/"+e.Name())
		id, _, _ := strings.Cut(e.Name(), ".")
		if !isID(id) {
			continue
		}
		if _, err := r.objects.Lstat(objectDir(id)); !errors.Is(err, fs.ErrNotExist) {
			continue // removed and created again
		}
		err := r.do(ctx, func(c *change) error {
			if err := c.exec(`DELETE FROM object WHERE id = ?`, idKey(id)); err != nil {
				return err
			}
			return r.loadSnapshot(c)
		})
		if err != nil {
			return err
		}
	}
	return r.empty(trashed)
}

func isID(s string) bool { return len(s) == 64 && len(idKey(s)) == 32 && strings.ToLower(s) == s }

func (r *Registry) syncDir(dir string) error {
	f, err := r.objects.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrInvalid) {
		return err
	}
	return nil
}
