// Package sqlpool is the gateway's side of the SQL workers: it starts them,
// hands them channels, watches them, and replaces one that has died or hangs.
//
// A channel outlives its worker. The pool keeps a duplicate of the worker's end
// of each; a replacement gets it, tells the client by RESET that everything
// unanswered is gone, and goes on. The statement that hung ends its own channel.
package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld"
	"github.com/facetgateway/fgw/gateway/sqld/control"
)

var (
	// ErrClosed is returned once the pool is closed.
	ErrClosed = errors.New("the SQL pool is closed")
	// ErrStuck is wrapped by a channel's error when its statement did not come
	// back from one operation, so that its worker had to be killed.
	ErrStuck = errors.New("an SQL statement hung its worker")
	// ErrBreach is wrapped by a channel's error when its client broke the protocol.
	ErrBreach = errors.New("SQL channel")
	// ErrFull says that a worker holds as many databases as it can.
	ErrFull = errors.New("too many databases are attached")
)

// Worker is a worker process, as whoever started it holds it.
type Worker interface {
	PID() int
	Kill() error
	Done() <-chan struct{} // closed once the process is reaped
}

// Spawn starts a worker, a process that calls sqld.Main with control as
// descriptor 3 and shared as descriptor 4, in the directory of all objects. The
// files stay the pool's.
type Spawn func(ctx context.Context, index int, control, shared *os.File) (Worker, error)

// Config is what a pool needs.
type Config struct {
	Spawn Spawn
	// Workers is how many processes share the objects; 0 means one a core.
	Workers int
	// Memory is what SQLite may allocate in one worker, 0 for 512 MiB; IdleMemory
	// how much of it databases may keep that nobody uses, 0 for a half.
	Memory, IdleMemory int64
	// OnAudit is called for each statement of a channel that is audited. It must
	// not block: records of a worker that it holds up are lost, and counted.
	OnAudit func(c *Channel, r AuditRecord)
	Log     *slog.Logger
}

// AuditRecord is one audited statement.
type AuditRecord = control.Record

// Limits bound one facet's database. Zero values are the defaults of sqld.DefaultLimits.
type Limits struct {
	Storage          int64         // bytes of the database file; 1 GiB
	Object           int64         // bytes that all databases of its object may take together; 0: no bound
	Memory           int64         // bytes that all its statements and caches allocate; 64 MiB
	Result           int64         // bytes of one statement's rows; 256 MiB
	Rows             int64         // of one statement's result; 0: as many as Result allows
	StatementTimeout time.Duration // of running, waiting for locks and turns included; 5 s
	TxIdle           time.Duration // that an open transaction may do nothing; 30 s
}

func (l Limits) control() *control.Limits {
	d := sqld.DefaultLimits()
	set(&d.Storage, l.Storage)
	set(&d.Object, l.Object)
	set(&d.Memory, l.Memory)
	set(&d.Result, l.Result)
	set(&d.Rows, l.Rows)
	set(&d.StatementTimeout, l.StatementTimeout)
	set(&d.TxIdle, l.TxIdle)
	return &d
}

func set[T int64 | time.Duration](to *T, v T) {
	if v > 0 {
		*to = v
	}
}

// AttachOptions say which database a channel reaches.
type AttachOptions struct {
	Object   string // its directory below objects/; chooses the worker
	File     string // "<Object>/<n>.db", made when it is first used
	Limits   Limits
	Audit    bool // each statement is told to OnAudit; SetAudit changes it
	Owner    any  // what Channel.Owner gives, for OnAudit
	ReadOnly bool
	Pair     *Pair // made before; nil: Attach makes one
}

func (o *AttachOptions) validate() error { return checkFile(o.Object, o.File) }

func checkFile(object, file string) error {
	if object == "" || !filepath.IsLocal(file) || filepath.Clean(file) != file || filepath.Dir(file) != object || filepath.Ext(file) != ".db" {
		return fmt.Errorf("%q is no database of the object %q", file, object)
	}
	return nil
}

// Pool is a set of workers.
type Pool struct {
	cfg     Config
	workers []*worker
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// New starts the workers.
func New(ctx context.Context, cfg Config) (*Pool, error) {
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.NumCPU()
	}
	if cfg.Memory <= 0 {
		cfg.Memory = 512 << 20
	}
	if cfg.IdleMemory <= 0 {
		cfg.IdleMemory = cfg.Memory / 2
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pool{cfg: cfg}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for i := range cfg.Workers {
		w, err := newWorker(p, i)
		if err == nil {
			p.workers = append(p.workers, w)
			err = w.start(ctx)
		}
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("start SQL worker %d: %w", i, err)
		}
		p.wg.Add(1)
		go w.supervise()
	}
	p.wg.Add(1)
	go p.watchdog()
	return p, nil
}

// worker is the one that an object's databases belong to: always the same, so
// that a database is open in one process only.
func (p *Pool) worker(object string) *worker {
	h := fnv.New64a()
	h.Write([]byte(object))
	return p.workers[h.Sum64()%uint64(len(p.workers))]
}

// Attach makes a channel to a database. Several to one database may exist: they
// share its limits, its counts and its turn to write.
func (p *Pool) Attach(ctx context.Context, o AttachOptions) (*Channel, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	c, err := newChannel(p.worker(o.Object), o)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if err := c.w.attach(ctx, c); err != nil {
		c.leave() // the worker may have it though it did not say so in time
		return nil, fmt.Errorf("attach: %w", err)
	}
	return c, nil
}

// Remove deletes databases of one object, with their logs. Channels to them end.
func (p *Pool) Remove(ctx context.Context, object string, files []string) error {
	for _, f := range files {
		if err := checkFile(object, f); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
	}
	const batch = 64 // files a message
	for len(files) > 0 {
		n := min(len(files), batch)
		if err := p.worker(object).call(ctx, &control.Message{Op: control.Remove, Files: files[:n]}); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
		files = files[n:]
	}
	return nil
}

// MaxClone is how many databases Clone copies at once: each has a connection open meanwhile.
const MaxClone = 128

// Clone replaces databases by copies of others, each of copies by that of sources, at most MaxClone; all belong to the object. The
// copies are of one moment, as if nothing committed in any source while they were made, though all are in use. Channels to what is
// replaced end. The copies are on disk when Clone returns, and none is ever seen half-written; if it fails, some may be there.
func (p *Pool) Clone(ctx context.Context, object string, sources, copies []string) error {
	if len(sources) != len(copies) || len(sources) > MaxClone {
		return fmt.Errorf("clone: %d databases to %d, at most %d at once", len(sources), len(copies), MaxClone)
	}
	seen := map[string]bool{}
	for _, f := range slices.Concat(sources, copies) {
		if err := checkFile(object, f); err != nil {
			return fmt.Errorf("clone: %w", err)
		}
		if seen[f] {
			return fmt.Errorf("clone: %q is named twice", f)
		}
		seen[f] = true
	}
	err := p.worker(object).call(ctx, &control.Message{Op: control.Clone, Files: sources, Copies: copies, Limits: Limits{}.control()})
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	return nil
}

// closeTimeout is how long a worker has to close its databases.
const closeTimeout = 5 * time.Second

// Close stops the workers; databases are closed in order. Channels are dead then.
func (p *Pool) Close() error {
	p.cancel()
	for _, w := range p.workers {
		w.shutdown()
	}
	p.wg.Wait()
	var errs []error
	for _, w := range p.workers {
		errs = append(errs, w.memory.Close()) // the mapping stays: channels that are not closed yet read it
	}
	return errors.Join(errs...)
}

// watchEvery is how exactly a statement's deadline is watched.
const watchEvery = 200 * time.Millisecond

// watchdog looks for statements that their worker can't stop.
func (p *Pool) watchdog() {
	defer p.wg.Done()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case at := <-tick.C:
			for _, w := range p.workers {
				w.watch(at)
			}
		}
	}
}
