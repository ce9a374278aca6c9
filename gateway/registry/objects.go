package registry

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// Object is one named instance in a namespace. It is shared and must not be changed.
type Object struct {
	// ID is the SHA-256 of the namespace's id, a NUL and the name, in
	// hexadecimal. It names the object's directory.
	ID          string
	NamespaceID int64
	Namespace   string
	Name        string
	CreatedAt   time.Time
}

// Dir is the object's directory below the directory of all objects.
func (o *Object) Dir() string { return objectDir(o.ID) }

// ObjectDir is the object's directory as this process reaches it.
func (r *Registry) ObjectDir(o *Object) string { return filepath.Join(r.objectsDir, o.Dir()) }

func objectDir(id string) string { return id[:2] + "/" + id[2:] }

func objectID(namespace int64, name string) string {
	h := sha256.New()
	h.Write(strconv.AppendInt(nil, namespace, 10))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return hex.EncodeToString(h.Sum(nil))
}

// ObjectID is the id that the object of that name has, or would have.
func (ns *Namespace) ObjectID(name string) string { return objectID(ns.ID, name) }

func newObject(ns *Namespace, name string, created time.Time) *Object {
	return &Object{ID: objectID(ns.ID, name), NamespaceID: ns.ID, Namespace: ns.Name, Name: name, CreatedAt: created.Truncate(time.Millisecond).UTC()}
}

// key is the id as the database holds it.
func (o *Object) key() []byte { return idKey(o.ID) }

func idKey(id string) []byte {
	b, err := hex.DecodeString(id)
	if err != nil {
		return nil // equals no key
	}
	return b
}

// Object looks an object up, without creating it.
func (r *Registry) Object(ctx context.Context, ns, name string) (*Object, error) {
	n, err := r.Namespace(ns)
	if err != nil {
		return nil, err
	}
	return r.find(ctx, n, name)
}

func (r *Registry) find(ctx context.Context, ns *Namespace, name string) (*Object, error) {
	if o := r.cache.object(ns.ID, name); o != nil {
		return o, nil
	}
	removals := r.cache.removalCount()
	o := newObject(ns, name, time.Time{})
	var created int64
	err := r.findObject.QueryRowContext(ctx, o.key()).Scan(&created)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("object %q of namespace %q: %w", name, ns.Name, ErrObjectNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	o.CreatedAt = time.UnixMilli(created).UTC()
	if err := r.reconcile(ctx, o); err != nil {
		return nil, err
	}
	r.cache.addObject(o, removals)
	return o, nil
}

// EnsureObject gives the object, which it creates if the namespace lets a
// request do that. It costs one synced commit, shared with whatever else is
// being created at the moment.
func (r *Registry) EnsureObject(ctx context.Context, ns *Namespace, name string) (o *Object, created bool, err error) {
	o, _, created, err = r.Ensure(ctx, ns, name)
	return o, created, err
}

// Ensure gives an object and the numbers of the facets on a path below its
// root, and creates what there is not yet in one commit.
func (r *Registry) Ensure(ctx context.Context, ns *Namespace, name string, path ...string) (o *Object, numbers []int, created bool, err error) {
	p, err := r.Settle(ctx, ns, name, path...)
	if err == nil {
		err = p.Durable(ctx)
	}
	if err != nil {
		return nil, nil, false, err
	}
	return p.Object, p.Numbers, p.created, nil
}

// Settled is an object and the numbers of the facets on a path below its root. What of it was made now is decided, but
// may not be used or told of before Durable has returned.
type Settled struct {
	Object  *Object
	Numbers []int

	created bool
	durable func(context.Context) error // nil where nothing was made
}

// Number is that of the facet at the path's end, 0 for the root.
func (s *Settled) Number() int {
	if len(s.Numbers) == 0 {
		return 0
	}
	return s.Numbers[len(s.Numbers)-1]
}

// Durable returns once what was made is on disk, its directory included.
func (s *Settled) Durable(ctx context.Context) error {
	if s.durable == nil {
		return nil
	}
	return s.durable(ctx)
}

// Settle is Ensure that does not wait for the disk.
func (r *Registry) Settle(ctx context.Context, ns *Namespace, name string, path ...string) (*Settled, error) {
	o, err := r.find(ctx, ns, name)
	if err == nil {
		return r.ensurePath(ctx, o, path)
	}
	if !errors.Is(err, ErrObjectNotFound) {
		return nil, err
	}
	if ns.Create != CreateOpen {
		return nil, fmt.Errorf("namespace %q has create=%s: %w", ns.Name, ns.Create, err)
	}
	return r.create(ctx, ns, name, path)
}

// CreateObject creates an object on an administrator's behalf.
func (r *Registry) CreateObject(ctx context.Context, ns, name string) (*Object, error) {
	n, err := r.Namespace(ns)
	if err != nil {
		return nil, err
	}
	p, err := r.create(ctx, n, name, nil)
	if err == nil {
		err = p.Durable(ctx)
	}
	if err != nil {
		return nil, err
	}
	if !p.created {
		err = fmt.Errorf("object %q of namespace %q %w", name, ns, ErrExists)
	}
	return p.Object, err
}

func (r *Registry) create(ctx context.Context, ns *Namespace, name string, path []string) (*Settled, error) {
	for _, part := range append([]string{name}, path...) {
		if err := address.CheckPart(part); err != nil {
			return nil, err
		}
	}
	s := &Settled{Object: newObject(ns, name, r.now())}
	o := s.Object
	err := r.settle(ctx, s, func(c *change) error {
		var at int64
		err := c.row(`SELECT created_at FROM object WHERE id = ?`, []any{o.key()}, &at)
		switch {
		case err == nil: // somebody else's change came first
			o.CreatedAt = time.UnixMilli(at).UTC()
			s.Numbers, err = r.insertPath(c, o, path)
		case errors.Is(err, ErrNotFound):
			s.created = true
			s.Numbers, err = r.insertObject(c, ns, o, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create object %q of namespace %q: %w", name, ns.Name, err)
	}
	return s, nil
}

// settle has a change made and waits until it is decided.
func (r *Registry) settle(ctx context.Context, s *Settled, apply func(*change) error) error {
	o, err := r.hand(ctx, apply)
	if err != nil {
		return err
	}
	s.durable = func(ctx context.Context) error { return r.wait(ctx, o) }
	select {
	case <-o.decided:
		return nil
	case err := <-o.done: // refused; or decided and durable at the same time
		s.durable = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.writerGone:
		return ErrClosed
	}
}

// insertObject writes the rows and the directory of a new object and the facets
// on a path. Its directory may be there already, brought from elsewhere or
// because its row was lost: then its facets are taken over.
func (r *Registry) insertObject(c *change, ns *Namespace, o *Object, path []string) ([]int, error) {
	if r.counts.get(ns.ID) >= ns.Limits.MaxObjects {
		return nil, fmt.Errorf("max_objects=%d: %w", ns.Limits.MaxObjects, ErrObjectLimit)
	}
	_, err := r.objects.Lstat(o.Dir())
	found := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	next := 1
	if !found {
		next += len(path)
	}
	// Taken from the namespace's row: it may have been removed meanwhile.
	if err := c.must(`INSERT INTO object (id, namespace, name, next, created_at) SELECT ?, id, ?, ?, ? FROM namespace WHERE id = ?`,
		o.key(), []byte(o.Name), next, o.CreatedAt.UnixMilli(), ns.ID); err != nil {
		return nil, fmt.Errorf("namespace %q %w", ns.Name, err)
	}
	r.counts.add(ns.ID, 1)
	c.onUndo(func() { r.counts.add(ns.ID, -1) })
	removals := r.cache.removalCount()
	c.onCommit(func() { r.cache.addObject(o, removals) })
	if found {
		if err := r.repair(c, o); err != nil {
			return nil, err
		}
		return r.insertPath(c, o, path)
	}
	return r.insertFresh(c, o, path)
}

// insertFresh gives the first numbers of a new object. Its directory is made beside the sync: where that is not
// reached, the object is one whose directory was lost, and reconcile makes it.
func (r *Registry) insertFresh(c *change, o *Object, path []string) ([]int, error) {
	numbers := make([]int, len(path))
	records := make([]record, len(path))
	for i, name := range path {
		numbers[i] = i + 1
		records[i] = record{N: i + 1, Parent: i, Name: name}
		if err := r.insertRow(c, o, i+1, i, name); err != nil {
			return nil, err
		}
	}
	b, err := encodeDescription(o, 1, records)
	if err != nil {
		return nil, err
	}
	c.besideSync(func() error { return r.makeDirectory(o, b) })
	return numbers, nil
}

// makeDirectory makes the directory of a new object, with its description unless another change has
// written that already.
func (r *Registry) makeDirectory(o *Object, description []byte) error {
	if err := r.mkdir(o.ID); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := r.objects.OpenFile(o.Dir()+"/"+descriptionFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(description)
	return errors.Join(err, f.Close())
}

// ObjectInfo is an object with what a listing tells of it.
type ObjectInfo struct {
	Object
	Facets       int
	StorageBytes int64
}

// Objects lists objects of a namespace whose names begin with prefix and come
// after `after`, in order of their bytes, at most limit of them.
func (r *Registry) Objects(ctx context.Context, ns, prefix string, limit int, after string) ([]ObjectInfo, error) {
	n, err := r.Namespace(ns)
	if err != nil {
		return nil, err
	}
	rows, err := r.read.QueryContext(ctx, `SELECT name, created_at, (SELECT count(*) FROM facet WHERE facet.object = object.id) FROM object
		WHERE namespace = ?1 AND name >= ?2 AND (?3 IS NULL OR name < ?3) AND name > ?4 ORDER BY name LIMIT ?5`,
		n.ID, []byte(prefix), prefixEnd(prefix), []byte(after), limit)
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	defer rows.Close()
	var all []ObjectInfo
	for rows.Next() {
		var name []byte
		var created int64
		var facets int
		if err := rows.Scan(&name, &created, &facets); err != nil {
			return nil, fmt.Errorf("objects: %w", err)
		}
		o := newObject(n, string(name), time.UnixMilli(created))
		all = append(all, ObjectInfo{Object: *o, Facets: facets, StorageBytes: r.StorageBytes(o)})
	}
	return all, rows.Err()
}

// prefixEnd is the first name after all that begin with prefix; nil where there is none.
func prefixEnd(prefix string) []byte {
	b := []byte(prefix)
	for len(b) > 0 {
		if b[len(b)-1]++; b[len(b)-1] != 0 {
			return b
		}
		b = b[:len(b)-1]
	}
	return nil
}

// StorageBytes is what the files of an object's databases take.
func (r *Registry) StorageBytes(o *Object) (total int64) {
	dir, err := r.objects.Open(o.Dir())
	if err != nil {
		return 0
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			if info, err := e.Info(); err == nil && isDatabase(e) {
				total += info.Size()
			}
		}
		if err != nil {
			return total
		}
	}
}

// isDatabase tells a facet's database, N.db, and the files SQLite keeps beside it.
func isDatabase(e fs.DirEntry) bool {
	_, rest, ok := strings.Cut(e.Name(), ".db")
	return e.Type().IsRegular() && ok && !strings.Contains(rest, ".")
}
