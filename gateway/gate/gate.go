// Package gate is the output gate: nothing that a facet says leaves the gateway
// before what the facet wrote is durable.
//
// A SQL worker counts each commit in a word of shared memory before it
// acknowledges it; commits are not synced one by one. Here, after each read from a
// facet, the count is compared with what is known to be durable, and only where it
// is ahead the file is synced. One fdatasync serves everyone who waits, so that
// the cost of durability is shared by all requests that are in flight, and a request that
// wrote nothing pays one atomic load.
package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// parallel is how many files are synced at once: more only queue in the disk
// (measured: waves of 64 parallel syncs are slower than 16).
const parallel = 16

// Syncer bounds how many syncs run at once; one serves the whole gateway.
type Syncer struct {
	slots chan struct{}
	disk  *asyncDisk // nil where the kernel has no such thing
	syncs atomic.Int64
}

// NewSyncer returns a syncer, which must be closed.
func NewSyncer() *Syncer {
	return &Syncer{slots: make(chan struct{}, parallel), disk: newAsyncDisk()}
}

// Close gives the kernel back what the syncer has of it. Gates work on after that, but slower.
func (s *Syncer) Close() { s.disk.close() }

// Syncs is how many times a file was synced.
func (s *Syncer) Syncs() int64 { return s.syncs.Load() }

// Gate is the output gate of one running facet.
type Gate struct {
	syncer    *Syncer
	db        string // path of the database file; its log lies beside it
	top       string // the directory above which nothing is new
	committed func() uint64
	synced    func(uint64)
	durable   atomic.Uint64

	mu      sync.Mutex // guards what follows
	cond    *sync.Cond
	syncing bool
	fresh   bool      // the file's directories were not synced yet
	err     error     // a sync failed: nothing may pass any more
	began   time.Time // when the last sync did
	crowd   int       // how many it served
	came    int       // how many have come since
}

// New returns the gate of a facet whose database is at db, below top. committed reads
// its count of commits; synced is told up to which one they are durable.
func (s *Syncer) New(db, top string, committed func() uint64, synced func(uint64)) *Gate {
	g := &Gate{syncer: s, db: db, top: top, committed: committed, synced: synced, fresh: true}
	g.cond = sync.NewCond(&g.mu)
	return g
}

// Wait returns once everything that was committed before the call is durable. After an
// error it returns that error for ever: what the disk did not take can't be promised later.
func (g *Gate) Wait() error {
	want := g.committed()
	if want <= g.durable.Load() {
		return nil
	}
	return g.wait(want)
}

func (g *Gate) wait(want uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.came++
	for {
		switch {
		case g.err != nil:
			return g.err
		case g.durable.Load() >= want:
			return nil
		case g.syncing:
			g.cond.Wait()
			continue
		}
		g.syncing = true
		if d := pause(g.crowd, time.Since(g.began)); d > 0 {
			g.mu.Unlock()
			time.Sleep(d)
			g.mu.Lock()
		}
		fresh := g.fresh
		g.began, g.crowd, g.came = time.Now(), g.came, 0
		g.mu.Unlock()
		// What is committed until now is covered by the sync that begins now.
		covered := g.committed()
		err := g.sync(fresh)
		g.mu.Lock()
		g.syncing = false
		if err != nil {
			g.err = err
		} else {
			g.fresh = false
			g.durable.Store(covered)
			g.synced(covered)
		}
		g.cond.Broadcast()
	}
}

const (
	// crowded is how many a sync must have served for the next one to wait for more: a few connections that write one
	// after another would only become slower.
	crowded = 3
	// pace is what then lies between the beginnings of two syncs at least. A disk that is slow paces them by itself; on
	// one that is fast, a sync costs more computing than the request that it is for.
	pace = time.Millisecond
)

// pause is how long to wait before the next sync, by how many the last one served and how long ago it began.
func pause(crowd int, since time.Duration) time.Duration {
	if crowd < crowded {
		return 0
	}
	return pace - since
}

// sync makes the database's log durable; the first time also the database file itself
// and the directories that name it.
func (g *Gate) sync(fresh bool) error {
	g.syncer.slots <- struct{}{}
	defer func() { <-g.syncer.slots }()
	g.syncer.syncs.Add(1)
	if !fresh {
		return g.syncLog()
	}
	wal := make(chan error, 1)
	go func() { wal <- g.syncLog() }()
	// All at once: the file system's journal is then written once for all of them, not once for each.
	names := make(chan error, 1)
	go func() { names <- g.syncNames() }()
	err := g.syncer.syncFile(g.db)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, <-wal, <-names)
}

func (g *Gate) syncLog() error {
	err := g.syncer.syncFile(g.db + "-wal")
	if errors.Is(err, fs.ErrNotExist) { // checkpointed and removed: all of it is in the database, synced by the checkpoint
		return nil
	}
	return err
}

// syncNames makes the directories durable that name the file.
func (g *Gate) syncNames() error {
	var errs []error
	done := make(chan error)
	n := 0
	for dir := filepath.Dir(g.db); ; dir = filepath.Dir(dir) {
		n++
		go func() { done <- syncDir(dir) }()
		if dir == g.top || dir == "/" || dir == "." {
			break
		}
	}
	for range n {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// The file is opened anew each time: the worker may have replaced it since. An os.File would cost seven system calls more, for
// a poller that files do not have.
func (s *Syncer) syncFile(path string) error {
	fd, err := ignoringEINTR(func() (int, error) { return syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	if err := s.disk.dataSync(fd); !errors.Is(err, errNotAsync) {
		return err
	}
	if _, err := ignoringEINTR(func() (int, error) { return 0, syscall.Fdatasync(fd) }); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

func ignoringEINTR(f func() (int, error)) (n int, err error) {
	for {
		if n, err = f(); err != syscall.EINTR {
			return n, err
		}
	}
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
