package sqld

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

const (
	// checkpointPages is the length of the write-ahead log, in pages, from which
	// a checkpoint follows a commit: about 1 MB, some 2 ms of work.
	checkpointPages = 250
	// checkpointHard is the length from which the checkpoint is made before the
	// next writer gets its turn, since one that runs beside writers never empties the log.
	checkpointHard = 4 * checkpointPages
	// maxWAL is the length from which writes are refused, in bytes, where readers
	// that stay open keep the log from being emptied.
	maxWAL = 64 << 20
	// maxUnsynced is how much log may wait for the disk before the next commit.
	maxUnsynced = 4 << 20

	pageSize  = 4096
	frameSize = pageSize + 24
)

// database is one file that channels reach, with the connections that are open to it.
type database struct {
	w       *worker
	file    string
	account *sqlite.Account
	lim     atomic.Pointer[control.Limits]
	slot    atomic.Pointer[control.Slot]
	share   share // guarded by w.turns.mu
	seq     atomic.Uint64
	writers writers
	object  *object
	grant   int64        // bytes that its writer may add; guarded by object.mu
	bytes   atomic.Int64 // of the file once its log is in it, as of the last look
	short   atomic.Bool  // the object's bound, not its own quota, is what its writer meets first

	// commitMu is held from before a commit becomes visible until it is counted;
	// committing tells that it is, so that a reader only then takes it.
	commitMu      sync.Mutex
	committing    atomic.Bool
	walPages      atomic.Int64 // as of the last commit
	attempted     atomic.Int64 // walPages when the last checkpoint began
	checkpoints   atomic.Int64 // that were made
	checkpointing sync.Mutex
	onDisk        atomic.Bool // a new file's first page

	mu       sync.Mutex // guards what follows
	idle     []*conn    // the one used last at the end
	open     int        // connections, idle ones too
	refs     int        // channels
	lastUsed time.Time
	made     bool      // the file exists and is a database
	synced   sync.Once // its first page is on disk
	syncErr  error
	far      unsynced
}

func (db *database) limits() *control.Limits { return db.lim.Load() }

// firstPage is an empty database in WAL mode. A file that begins with it needs
// no rollback journal to become one, and a log beside it is valid from the start
// (SQLite deletes the log of a file without pages).
func firstPage() []byte {
	p := make([]byte, pageSize)
	copy(p, "SQLite format 3\x00")
	p[16], p[17] = pageSize>>8, pageSize&0xff
	p[18], p[19] = 2, 2 // write and read versions: WAL
	p[21], p[22], p[23] = 64, 32, 32
	p[27] = 1 // change counter
	p[31] = 1 // pages
	p[47] = 4 // schema format
	p[59] = 1 // UTF-8
	p[95] = 1 // the change counter that the version is valid for
	p[100] = 13
	p[105], p[106] = pageSize>>8, pageSize&0xff
	return p
}

// create makes the file if it is missing or empty.
func (db *database) create() error {
	if db.made {
		return nil
	}
	info, err := os.Stat(db.file)
	switch {
	case err == nil && info.Size() > 0:
		db.synced.Do(func() { db.onDisk.Store(true) })
	case err == nil || errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(db.file), 0o700); err != nil {
			return fmt.Errorf("create the database's directory: %w", err)
		}
		if err := os.Remove(db.file + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a log without a database: %w", err)
		}
		if err := os.WriteFile(db.file, firstPage(), 0o600); err != nil {
			return fmt.Errorf("create the database: %w", err)
		}
		go db.syncNew() // beside the start of whoever will use it; its first commit waits for it
	default:
		return fmt.Errorf("look for the database: %w", err)
	}
	db.made = true
	return nil
}

// syncNew puts a new file's first page on disk, once.
func (db *database) syncNew() error {
	db.synced.Do(func() {
		db.syncErr = syncFile(db.file)
		db.onDisk.Store(db.syncErr == nil)
	})
	return db.syncErr
}

// syncFile syncs a file by a descriptor of its own. For the database file itself
// that is only done before SQLite opens it: closing any descriptor of a file
// drops the process's locks on it.
func syncFile(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open for syncing: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Fdatasync(fd); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// lease gives a connection: the one used last, whose cache is warmest, or a new one.
func (db *database) lease() (*conn, error) {
	db.mu.Lock()
	if n := len(db.idle); n > 0 {
		c := db.idle[n-1]
		db.idle[n-1] = nil
		db.idle = db.idle[:n-1]
		db.mu.Unlock()
		db.w.leased(c)
		return c, nil
	}
	if err := db.create(); err != nil {
		db.mu.Unlock()
		return nil, err
	}
	first := db.open == 0
	db.open++
	db.mu.Unlock()
	c, err := openConn(db, first)
	if err != nil {
		db.w.evict(func(*conn) bool { return true }) // it may be memory or descriptors that are short
		c, err = openConn(db, first)
	}
	if err != nil {
		db.mu.Lock()
		db.open--
		db.mu.Unlock()
	}
	return c, err
}

// giveBack keeps a connection for the next; one that a session has changed is closed.
func (db *database) giveBack(c *conn) {
	if c.changed || c.broken {
		db.drop(c)
		return
	}
	db.w.returned(c)
	db.mu.Lock()
	db.idle = append(db.idle, c) // another task may have it from here on
	db.lastUsed = time.Now()
	db.mu.Unlock()
	db.w.trim()
}

// drop closes a connection that is nobody's. A broken one is left as it is: its
// memory can't be trusted, and the worker is about to be replaced.
func (db *database) drop(c *conn) {
	if !c.broken {
		c.close()
	}
	db.mu.Lock()
	db.open--
	db.mu.Unlock()
}

// closeIdle closes all idle connections and tells whether any is still in use.
func (db *database) closeIdle() (inUse bool) {
	db.mu.Lock()
	idle := db.idle
	db.idle = nil
	db.mu.Unlock()
	for _, c := range idle {
		db.w.leased(c)
		db.drop(c)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.open > 0
}

// committed counts a commit; the log has so many pages since it began anew.
func (db *database) committed(pages int) {
	before := db.walPages.Swap(int64(pages))
	added := int64(pages) - before
	if added < 0 {
		added = int64(pages)
	}
	slot := db.slot.Load()
	n := slot.Committed.Add(1)
	db.mu.Lock()
	db.far.add(n, added*frameSize, slot.Durable.Load())
	slot.Unsynced.Store(db.far.bytes())
	db.mu.Unlock()
}

// beforeWrite bounds the log before a task's connection begins to write: how much
// of it may wait for the disk, and how long it may grow while readers pin it.
func (db *database) beforeWrite(t *task) error {
	if t.conn.Writing() {
		return nil
	}
	if !db.onDisk.Load() {
		if err := t.aside(db.syncNew); err != nil {
			return err
		}
	}
	if err := db.allow(t.conn); err != nil {
		return err
	}
	slot := db.slot.Load()
	db.mu.Lock()
	db.far.durable(slot.Durable.Load())
	far := db.far.bytes()
	db.mu.Unlock()
	if far > maxUnsynced {
		if err := t.aside(func() error { return syncFile(db.file + "-wal") }); err != nil {
			return err
		}
		db.mu.Lock()
		db.far = unsynced{}
		slot.Unsynced.Store(0)
		db.mu.Unlock()
	}
	if db.walPages.Load()*frameSize < maxWAL {
		return nil
	}
	if t.conn.AutoCommit() {
		var emptied bool
		err := t.aside(func() (err error) {
			emptied, err = db.checkpoint(t.conn, true)
			return err
		})
		if err != nil || emptied {
			return err
		}
	}
	return failure(sqlchan.CodeStorageQuota, "the database's log has grown to "+size(maxWAL)+" because a query or transaction that reads stays open: close it first")
}

// checkpointDue tells whether a checkpoint should be made, and whether before the next writer's turn. It is due when the log has
// grown by as much since the last one, or begun anew: one that runs beside writers may move all of it and yet not empty
// it, as only a writer who begins later begins it anew. Taking it for empty made a checkpoint follow each commit, with two syncs.
func (db *database) checkpointDue() (due, now bool) {
	n, last := db.walPages.Load(), db.attempted.Load()
	due = n >= checkpointPages && (n < last || n >= last+checkpointPages)
	return due, due && n >= checkpointHard
}

// checkpoint moves the log into the database, as far as readers let it, if that is due or must be; emptied tells that all of
// it was. At most maxCheckpoints run at once in a worker, since each waits for the disk.
func (db *database) checkpoint(c *conn, must bool) (emptied bool, err error) {
	db.checkpointing.Lock()
	defer db.checkpointing.Unlock()
	if due, _ := db.checkpointDue(); !due && !must {
		return false, nil // another session did it meanwhile
	}
	db.w.checkpoints <- struct{}{}
	defer func() { <-db.w.checkpoints }()
	db.checkpoints.Add(1)
	db.attempted.Store(db.walPages.Load())
	pages, moved, err := c.Checkpoint()
	return err == nil && pages == moved, err
}

// unsynced adds up the log's bytes since the commit that the gateway knows to be
// durable. It keeps few sums: the one in use is closed at a quarter of the bound.
type unsynced struct {
	sums []logSum
}

type logSum struct {
	last  uint64 // commit
	bytes int64
}

func (u *unsynced) add(commit uint64, bytes int64, durable uint64) {
	u.durable(durable)
	if n := len(u.sums); n > 0 && u.sums[n-1].bytes < maxUnsynced/4 {
		u.sums[n-1].last = commit
		u.sums[n-1].bytes += bytes
		return
	}
	u.sums = append(u.sums, logSum{commit, bytes})
}

func (u *unsynced) durable(commit uint64) {
	for len(u.sums) > 0 && u.sums[0].last <= commit {
		u.sums = u.sums[1:]
	}
}

func (u *unsynced) bytes() (n int64) {
	for _, s := range u.sums {
		n += s.bytes
	}
	return n
}
