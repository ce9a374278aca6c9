// Package registry is what the gateway remembers: namespaces, apps and their
// versions, objects and the numbers of their facets. It is the gateway's own
// SQLite database, DATA/registry.db; only the gateway's own SQL runs in it, and
// each commit is synced before it is acknowledged. DESIGN.md says why the table
// of objects can be lost and rebuilt.
package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Errors that callers tell apart. Messages wrap them with what was asked for.
var (
	ErrNotFound       = errors.New("not found")
	ErrExists         = errors.New("exists already")
	ErrBadValue       = errors.New("bad value")
	ErrNotEmpty       = errors.New("not empty")
	ErrInUse          = errors.New("in use")
	ErrObjectNotFound = fmt.Errorf("object %w", ErrNotFound) // the namespace's policy forbids creating it
	ErrObjectLimit    = errors.New("the namespace has as many objects as it may have")
	ErrFacetLimit     = errors.New("the object has as many facets as it may have")
	ErrNewer          = errors.New("the data directory was written by a newer version of fgw")
	ErrClosed         = errors.New("the registry is closed")
)

// Registry is the open database. Its methods may be called at once from many
// goroutines. Changes go through one writer goroutine, which commits whatever
// has gathered while the previous commit was being synced as one.
type Registry struct {
	objectsDir string
	objects    *os.Root // of objectsDir: a name in it that became a link leads nowhere else
	log        *slog.Logger
	now        func() time.Time

	write  *connection // the writer goroutine's
	broken error       // the writer goroutine's: why it commits no more
	// replacements counts descriptions that were replaced; the writer goroutine's.
	replacements int

	read *sql.DB
	// Prepared on read: each wake of a facet asks them that is not in the cache.
	findObject, findFacet *sql.Stmt

	snap   atomic.Pointer[snapshot] // replaced by the writer goroutine alone
	audits atomic.Pointer[audits]   // likewise
	counts counts
	cache  cache

	ops        chan *op
	stop       context.CancelFunc
	stopping   context.Context
	writerGone chan struct{}
}

// Option changes how Open works.
type Option func(*Registry)

// WithLogger sets where repairs are told; without it they are told nowhere.
func WithLogger(l *slog.Logger) Option { return func(r *Registry) { r.log = l } }

// WithClock sets the clock of the created_at columns.
func WithClock(now func() time.Time) Option { return func(r *Registry) { r.now = now } }

// Open opens or creates the registry of a data directory. The caller holds the
// directory's lock. A registry of a newer version gives ErrNewer and is left as
// it is; a new registry beside old objects is rebuilt from their directories.
func Open(ctx context.Context, dir string, options ...Option) (*Registry, error) {
	r := &Registry{
		objectsDir: filepath.Join(dir, "objects"),
		log:        slog.New(slog.DiscardHandler),
		now:        time.Now,
		ops:        make(chan *op, maxGroup),
		writerGone: make(chan struct{}),
	}
	for _, o := range options {
		o(r)
	}
	if err := os.MkdirAll(filepath.Join(r.objectsDir, trashDir), 0o700); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	var err error
	if r.objects, err = os.OpenRoot(r.objectsDir); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	fresh, err := r.openDatabase(ctx, filepath.Join(dir, "registry.db"))
	if err != nil {
		r.objects.Close()
		return nil, fmt.Errorf("open registry: %w", err)
	}
	r.stopping, r.stop = context.WithCancel(context.Background())
	go r.writer()
	if err := r.start(ctx, fresh); err != nil {
		r.Close()
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return r, nil
}

// start finishes what a crash interrupted and loads the snapshot.
func (r *Registry) start(ctx context.Context, fresh bool) error {
	if err := r.do(ctx, r.loadSnapshot); err != nil {
		return err
	}
	if fresh {
		if err := r.makeGroups(); err != nil {
			return err
		}
		report, err := r.Rebuild(ctx)
		if err != nil {
			return err
		}
		if report.Objects > 0 || len(report.Skipped) > 0 {
			r.log.Warn("registry rebuilt from the objects' directories", slog.Int("objects", report.Objects), slog.Any("skipped", report.Skipped))
		}
	}
	if err := r.emptyTrash(ctx); err != nil {
		return err
	}
	return r.sweep(ctx)
}

// Close waits for the changes under way and closes the database.
func (r *Registry) Close() error {
	r.stop()
	<-r.writerGone
	return errors.Join(r.read.Close(), r.write.close(), r.objects.Close())
}

// ObjectsDir is the directory that holds all objects.
func (r *Registry) ObjectsDir() string { return r.objectsDir }
