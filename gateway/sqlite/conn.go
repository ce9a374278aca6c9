package sqlite

import (
	"fmt"
	"strings"
	"sync"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Hooks are called by a connection while it prepares or steps a statement, on
// the goroutine that does so. A nil one is not called. None may use the connection.
type Hooks struct {
	// Progress is called every so many virtual machine operations and from
	// within the replaced functions; true stops the statement.
	Progress func() bool
	// Expired tells whether the statement should have ended. It is asked before
	// large allocations, which then fail, and must return at once.
	Expired func() bool
	// Authorize decides about one action of a statement while it is prepared.
	// Arguments are SQLite's: two of the action's own, the schema, the view or trigger.
	Authorize func(action int, arg1, arg2, schema, source string) Verdict
	// Committing is called right before a write transaction commits, Committed
	// once it has, with the pages that the write-ahead log holds since.
	Committing func()
	Committed  func(walPages int)
	// Busy is called when a lock is taken, with how often it was; false gives up.
	Busy func(tries int) bool
}

// Verdict is what an authorizer says.
type Verdict int32

const (
	Allow  Verdict = lib.SQLITE_OK
	Deny   Verdict = lib.SQLITE_DENY
	Ignore Verdict = lib.SQLITE_IGNORE // reads NULL instead of the column
)

// How many virtual machine operations pass between two calls of Hooks.Progress.
// Most operations take nanoseconds; with some functions one can take half a
// second on the largest values, without allocating anything that would show it.
const (
	OrdinaryOps = 100
	HeavyOps    = 2
)

// Conn is a connection. It is used by one goroutine at a time.
type Conn struct {
	tls     *libc.TLS
	db      uintptr
	account *Account
	hooks   Hooks
	text    uintptr // scratch memory for SQL texts
	textCap int
	budget  work // of the replaced functions
}

// tlsPool keeps the thread states of closed connections: their ids index a
// table, so they must stay small.
var tlsPool struct {
	sync.Mutex
	free []*libc.TLS
}

func takeTLS() (*libc.TLS, error) {
	tlsPool.Lock()
	defer tlsPool.Unlock()
	if n := len(tlsPool.free); n > 0 {
		t := tlsPool.free[n-1]
		tlsPool.free = tlsPool.free[:n-1]
		return t, nil
	}
	t := libc.NewTLS()
	if t.ID <= 0 || t.ID >= maxTLS {
		t.Close()
		return nil, fmt.Errorf("%w: %d connections", ErrTooMany, maxTLS)
	}
	return t, nil
}

func giveTLS(t *libc.TLS) {
	tlsPool.Lock()
	defer tlsPool.Unlock()
	tlsPool.free = append(tlsPool.free, t)
}

// Open opens the file, which must exist, with the locks of a process that has
// it for itself: no other process may have it open, and the write-ahead log's
// index lives in memory. What it allocates is charged to account.
func Open(path string, account *Account, hooks Hooks) (*Conn, error) {
	c, err := openPlain(path, account, hooks)
	if err != nil {
		return nil, err
	}
	if err := c.replaceFunctions(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// openPlain opens the file with SQLite's own functions.
func openPlain(path string, account *Account, hooks Hooks) (*Conn, error) {
	tls, err := takeTLS()
	if err != nil {
		return nil, err
	}
	c := &Conn{tls: tls, account: account, hooks: hooks}
	owners[tls.ID].Store(c)
	name, vfs, out := c.cstring(path), c.cstring("unix-excl"), libc.Xcalloc(tls, 1, 8)
	defer func() { libc.Xfree(tls, name); libc.Xfree(tls, vfs); libc.Xfree(tls, out) }()
	const flags = lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_NOMUTEX | lib.SQLITE_OPEN_EXRESCODE
	rc := lib.Xsqlite3_open_v2(tls, name, out, flags, vfs)
	c.db = *(*uintptr)(ptr(out))
	if rc != lib.SQLITE_OK {
		err := c.fail(rc)
		c.Close()
		return nil, err
	}
	if err := c.install(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// install sets the hooks.
func (c *Conn) install() error {
	lib.Xsqlite3_progress_handler(c.tls, c.db, OrdinaryOps, callback(onProgress), 0)
	if rc := lib.Xsqlite3_set_authorizer(c.tls, c.db, callback(onAuthorize), 0); rc != lib.SQLITE_OK {
		return c.fail(rc)
	}
	lib.Xsqlite3_commit_hook(c.tls, c.db, callback(onCommit), 0)
	lib.Xsqlite3_wal_hook(c.tls, c.db, callback(onWAL), 0)
	lib.Xsqlite3_busy_handler(c.tls, c.db, callback(onBusy), 0)
	return nil
}

// Close closes the connection; statements of it must be closed before.
func (c *Conn) Close() error {
	if c.tls == nil {
		return nil
	}
	var err error
	if c.db != 0 {
		if rc := lib.Xsqlite3_close(c.tls, c.db); rc != lib.SQLITE_OK {
			err = c.fail(rc)
			lib.Xsqlite3_close_v2(c.tls, c.db)
		}
		c.db = 0
	}
	if c.text != 0 {
		libc.Xfree(c.tls, c.text)
		c.text = 0
	}
	owners[c.tls.ID].Store(nil)
	giveTLS(c.tls)
	c.tls = nil
	return err
}

// cstring copies s into memory that SQLite can read; Xfree frees it.
func (c *Conn) cstring(s string) uintptr {
	p := libc.Xmalloc(c.tls, libc.Tsize_t(len(s)+1))
	if p == 0 {
		panic("sqlite: out of memory")
	}
	copy(bytesAt(p, len(s)), s)
	*(*byte)(ptr(p + uintptr(len(s)))) = 0
	return p
}

// Config sets a boolean sqlite3_db_config option.
func (c *Conn) Config(op int, on bool) error {
	va := libc.Xcalloc(c.tls, 1, 32)
	defer libc.Xfree(c.tls, va)
	v := int32(0)
	if on {
		v = 1
	}
	if rc := lib.Xsqlite3_db_config(c.tls, c.db, int32(op), libc.VaList(va, v, uintptr(0))); rc != lib.SQLITE_OK {
		return c.fail(rc)
	}
	return nil
}

// Limit sets a run-time limit and returns the former value.
func (c *Conn) Limit(id, value int) int {
	return int(lib.Xsqlite3_limit(c.tls, c.db, int32(id), int32(value)))
}

// PersistWAL keeps the write-ahead log's file when the last connection closes.
func (c *Conn) PersistWAL() error {
	v := libc.Xcalloc(c.tls, 1, 8)
	defer libc.Xfree(c.tls, v)
	*(*int32)(ptr(v)) = 1
	if rc := lib.Xsqlite3_file_control(c.tls, c.db, 0, lib.SQLITE_FCNTL_PERSIST_WAL, v); rc != lib.SQLITE_OK {
		return c.fail(rc)
	}
	return nil
}

// AutoCommit tells whether no transaction is open.
func (c *Conn) AutoCommit() bool { return lib.Xsqlite3_get_autocommit(c.tls, c.db) != 0 }

// Writing tells whether the connection holds the write lock.
func (c *Conn) Writing() bool {
	return lib.Xsqlite3_txn_state(c.tls, c.db, 0) == lib.SQLITE_TXN_WRITE
}

// Counters are what SQL functions of the same names tell about a connection.
type Counters struct {
	LastInsertRowID, Changes, TotalChanges int64
}

// Counters reads the counters.
func (c *Conn) Counters() Counters {
	db := (*lib.Tsqlite3)(ptr(c.db))
	return Counters{db.FlastRowid, db.FnChange, db.FnTotalChange}
}

// SetCounters sets them, when a connection passes from one session to another.
func (c *Conn) SetCounters(n Counters) {
	db := (*lib.Tsqlite3)(ptr(c.db))
	db.FlastRowid, db.FnChange, db.FnTotalChange = n.LastInsertRowID, n.Changes, n.TotalChanges
}

// Checkpoint moves what it can from the write-ahead log to the database without
// waiting for readers or writers, and returns the pages in the log and those moved.
func (c *Conn) Checkpoint() (pages, moved int, err error) {
	out := libc.Xcalloc(c.tls, 1, 16)
	defer libc.Xfree(c.tls, out)
	rc := lib.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, lib.SQLITE_CHECKPOINT_PASSIVE, out, out+8)
	if rc != lib.SQLITE_OK {
		return 0, 0, c.fail(rc)
	}
	return int(*(*int32)(ptr(out))), int(*(*int32)(ptr(out + 8))), nil
}

// ReleaseMemory frees what the connection can do without.
func (c *Conn) ReleaseMemory() { lib.Xsqlite3_db_release_memory(c.tls, c.db) }

// noName is the empty file name, with the zeros before it that SQLite looks for
// in a name of its own. It lives as long as the process.
var noName [8]byte

// HideFile makes SQLite know no name of the file any more, so that no statement
// can ask for it. It is open already; the log's name and what the VFS keeps are
// separate. The journal mode must be set before: SQLite takes a database without
// a name for a temporary one, which has no write-ahead log.
func (c *Conn) HideFile() {
	db := (*lib.Tsqlite3)(ptr(c.db))
	tree := (*lib.TBtree)(ptr((*lib.TDb)(ptr(db.FaDb)).FpBt))
	(*lib.TPager)(ptr((*lib.TBtShared)(ptr(tree.FpBt)).FpPager)).FzFilename = address(noName[4:])
}

// Pages is the size of the database as the connection last saw it.
func (c *Conn) Pages() int {
	db := (*lib.Tsqlite3)(ptr(c.db))
	tree := (*lib.TBtree)(ptr((*lib.TDb)(ptr(db.FaDb)).FpBt))
	return int((*lib.TBtShared)(ptr(tree.FpBt)).FnPage)
}

// Backup copies the database of src into c's, page by page, as one transaction.
func (c *Conn) Backup(src *Conn, stop func() bool) error {
	main := c.cstring("main")
	defer libc.Xfree(c.tls, main)
	b := lib.Xsqlite3_backup_init(c.tls, c.db, main, src.db, main)
	if b == 0 {
		return c.fail(lib.SQLITE_ERROR)
	}
	var rc int32
	for {
		rc = lib.Xsqlite3_backup_step(c.tls, b, 256)
		if rc != lib.SQLITE_OK || stop != nil && stop() {
			break
		}
	}
	if end := lib.Xsqlite3_backup_finish(c.tls, b); end != lib.SQLITE_OK {
		return c.fail(end)
	}
	if rc != lib.SQLITE_DONE {
		return &Error{Code: Interrupt, Offset: -1, Message: "interrupted"}
	}
	return nil
}

// ProgressEvery sets how many operations pass between two calls of Hooks.Progress.
func (c *Conn) ProgressEvery(ops int) {
	(*lib.Tsqlite3)(ptr(c.db)).FnProgressOps = uint32(ops)
}

func onProgress(tls *libc.TLS, _ uintptr) int32 {
	if c := owners[tls.ID].Load(); c != nil && c.stopped() {
		return 1
	}
	return 0
}

func (c *Conn) stopped() bool { return c.hooks.Progress != nil && c.hooks.Progress() }

func onAuthorize(tls *libc.TLS, _ uintptr, action int32, a1, a2, schema, source uintptr) int32 {
	c := owners[tls.ID].Load()
	if c == nil || c.hooks.Authorize == nil {
		return lib.SQLITE_OK
	}
	return int32(c.hooks.Authorize(int(action), libc.GoString(a1), libc.GoString(a2), libc.GoString(schema), libc.GoString(source)))
}

func onCommit(tls *libc.TLS, _ uintptr) int32 {
	if c := owners[tls.ID].Load(); c != nil && c.hooks.Committing != nil {
		c.hooks.Committing()
	}
	return 0
}

func onWAL(tls *libc.TLS, _, _, _ uintptr, pages int32) int32 {
	if c := owners[tls.ID].Load(); c != nil && c.hooks.Committed != nil {
		c.hooks.Committed(int(pages))
	}
	return lib.SQLITE_OK
}

func onBusy(tls *libc.TLS, _ uintptr, tries int32) int32 {
	if c := owners[tls.ID].Load(); c != nil && c.hooks.Busy != nil && c.hooks.Busy(int(tries)) {
		return 1
	}
	return 0
}

// functionDef finds a function as SQLite keeps it, to set flags that no call sets.
func (c *Conn) functionDef(name string, args int) *lib.TFuncDef {
	db := (*lib.Tsqlite3)(ptr(c.db))
	for e := db.FaFunc.Ffirst; e != 0; e = (*lib.THashElem)(ptr(e)).Fnext {
		for d := (*lib.THashElem)(ptr(e)).Fdata; d != 0; d = (*lib.TFuncDef)(ptr(d)).FpNext {
			def := (*lib.TFuncDef)(ptr(d))
			if int(def.FnArg) == args && strings.EqualFold(libc.GoString(def.FzName), name) {
				return def
			}
		}
	}
	return nil
}
