package sqld

import (
	"fmt"
	"time"

	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	lib "modernc.org/sqlite/lib"
)

// Limits of SQLite's on every connection.
var sqlLimits = map[int]int{
	lib.SQLITE_LIMIT_LENGTH:              4 << 20,
	lib.SQLITE_LIMIT_SQL_LENGTH:          maxSQL,
	lib.SQLITE_LIMIT_COLUMN:              500,
	lib.SQLITE_LIMIT_EXPR_DEPTH:          100,
	lib.SQLITE_LIMIT_COMPOUND_SELECT:     50,
	lib.SQLITE_LIMIT_VDBE_OP:             100_000,
	lib.SQLITE_LIMIT_FUNCTION_ARG:        127,
	lib.SQLITE_LIMIT_ATTACHED:            1, // VACUUM's own
	lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 5000,
	lib.SQLITE_LIMIT_VARIABLE_NUMBER:     sqlchan.MaxArgs,
	lib.SQLITE_LIMIT_TRIGGER_DEPTH:       50,
	lib.SQLITE_LIMIT_WORKER_THREADS:      0,
}

const (
	maxSQL        = 1 << 20  // bytes of SQL text in one request
	maxCachedSQL  = 16 << 10 // a longer text is not kept prepared
	maxCachedText = 128 << 10
	maxCached     = 64
)

// conn is a connection with its prepared statements. A task has it while it
// runs, a session from the first statement of a transaction to the last.
type conn struct {
	*sqlite.Conn
	db   *database
	task *task // whose statement is prepared or stepped
	seen seen
	// trusted statements are the worker's own: the authorizer lets them pass.
	trusted bool
	last    *session // whose counters the connection has

	ops        int   // between two calls of progress, as it is set
	committing bool  // db.commitMu is held
	alarm      int64 // set in the transaction that is open: unix milliseconds, -1 none, 0 untouched
	changed    bool  // a session changed its settings
	most       int64 // bytes up to which it may let the file grow
	broken     bool  // it panicked

	cache    map[string]*statement
	text     int // bytes of the texts in cache
	tick     uint64
	returned time.Time
	pos      int // in the worker's list of idle ones; its lock guards it
}

// statement is a prepared statement and what is known about it.
type statement struct {
	*sqlite.Stmt
	sql      string
	cached   bool
	vacuum   bool
	heavy    bool // calls functions that take long on long values
	used     uint64
	columns  []byte // the payload of COLUMNS; nil until it was asked for
	width    int
	compiled int // how often SQLite had compiled it anew when columns was made
}

func openConn(db *database, first bool) (*conn, error) {
	c := &conn{db: db, cache: map[string]*statement{}, trusted: true}
	var err error
	c.Conn, err = sqlite.Open(db.file, db.account, sqlite.Hooks{
		Progress:   func() bool { return c.task != nil && c.task.progress() },
		Expired:    func() bool { return c.task != nil && c.task.expired() },
		Authorize:  c.authorize,
		Committing: c.commit,
		Committed:  c.committed,
		Busy:       c.busy,
	})
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := c.configure(first); err != nil {
		c.Conn.Close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if first {
		if err := c.readAlarm(); err != nil {
			c.Conn.Close()
			return nil, fmt.Errorf("read the alarm: %w", err)
		}
	}
	c.trusted = false
	return c, nil
}

// committed is called when a transaction has committed. The alarm that it set is shown before the
// commit is counted, so that the gateway learns of it before anybody learns of the commit.
func (c *conn) committed(pages int) {
	if c.alarm != 0 {
		c.db.slot.Load().Alarm.Store(c.alarm)
		c.alarm = 0
	}
	c.db.committed(pages)
}

// readAlarm shows the alarm of a database that is opened: the gateway may have been killed between
// its commit and taking note of it.
func (c *conn) readAlarm() error {
	at := int64(-1)
	s, _, err := c.prepare([]byte("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_fgw_alarm'"))
	if err != nil {
		return err
	}
	found, err := s.Step()
	c.done(s)
	if err == nil && found {
		if s, _, err = c.prepare([]byte("SELECT at FROM _fgw_alarm")); err != nil {
			return err
		}
		if found, err = s.Step(); found {
			at = s.ColumnInt64(0)
		}
		c.done(s)
	}
	c.db.slot.Load().Alarm.Store(at)
	return err
}

func (c *conn) configure(first bool) error {
	for _, o := range []struct {
		op int
		on bool
	}{
		{lib.SQLITE_DBCONFIG_DEFENSIVE, true},
		{lib.SQLITE_DBCONFIG_TRUSTED_SCHEMA, false},
		{lib.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, false},
	} {
		if err := c.Config(o.op, o.on); err != nil {
			return err
		}
	}
	for id, n := range sqlLimits {
		c.Limit(id, n)
	}
	if err := c.PersistWAL(); err != nil {
		return err
	}
	c.most = c.db.limits().Storage
	settings := []string{
		"PRAGMA cache_size=-1000", "PRAGMA temp_store=MEMORY", "PRAGMA synchronous=NORMAL", "PRAGMA cell_size_check=ON",
		"PRAGMA journal_size_limit=4194304",
		fmt.Sprintf("PRAGMA max_page_count=%d", max(c.most/pageSize, 1)),
	}
	if first {
		settings = append(settings, "PRAGMA journal_mode=WAL")
	}
	for _, s := range settings {
		if err := c.Exec(s); err != nil {
			return err
		}
	}
	c.HideFile()
	return nil
}

func (c *conn) close() {
	for _, s := range c.cache {
		s.Close()
	}
	c.cache = nil
	c.trusted = true
	c.Conn.Close()
	c.afterCommit()
}

// trust has statements pass as the worker's own until the returned function is called. One may be run for another, which
// SQLite may still have to compile anew: so what held before holds again.
func (c *conn) trust() (end func()) {
	before := c.trusted
	c.trusted = true
	return func() { c.trusted = before }
}

// authorize is the connection's authorizer.
func (c *conn) authorize(action int, arg1, arg2, schema, source string) sqlite.Verdict {
	if c.trusted {
		return sqlite.Allow
	}
	return c.seen.authorize(action, arg1, arg2, schema, source)
}

// commit is called before a write transaction commits. From here to afterCommit
// nobody's answer leaves that may have seen what is not counted yet.
func (c *conn) commit() {
	if !c.committing {
		c.db.commitMu.Lock()
		c.committing = true
		c.db.committing.Store(true)
	}
}

func (c *conn) afterCommit() {
	if c.committing {
		c.committing = false
		c.db.committing.Store(false)
		c.db.commitMu.Unlock()
	}
}

// busy waits for a lock of SQLite's, which another connection of this database
// holds for a moment (a checkpoint, the recovery of a log).
func (c *conn) busy(tries int) bool {
	if c.task == nil {
		time.Sleep(time.Millisecond)
		return tries < 1000
	}
	if c.task.progress() {
		return false
	}
	time.Sleep(min(time.Duration(tries+1)*200*time.Microsecond, 5*time.Millisecond))
	return true
}

// pace sets how often a statement's progress is looked at.
func (c *conn) pace(s *statement) {
	ops := sqlite.OrdinaryOps
	if s.heavy {
		ops = sqlite.HeavyOps
	}
	if c.ops != ops {
		c.ops = ops
		c.ProgressEvery(ops)
	}
}

// find returns the kept statement that sql is, alone.
func (c *conn) find(sql []byte) *statement {
	s := c.cache[string(sql)]
	if s != nil {
		c.tick++
		s.used = c.tick
	}
	return s
}

// prepare compiles the first statement of sql; nil where there is none. rest is what follows it.
func (c *conn) prepare(sql []byte) (s *statement, rest []byte, err error) {
	c.seen = seen{}
	persistent := len(sql) <= maxCachedSQL
	p, used, err := c.Conn.Prepare(sql, persistent)
	if err != nil {
		return nil, nil, err
	}
	rest = sql[used:]
	if p == nil {
		return nil, rest, nil
	}
	s = &statement{Stmt: p, width: -1, heavy: c.seen.heavy}
	if !c.trusted {
		c.seen.checkText(sql[:used])
		s.vacuum = !p.ReadOnly && firstWord(sql[:used]) == "vacuum"
		if c.seen.denied != "" {
			p.Close()
			return nil, nil, &sqlite.Error{Code: sqlite.Auth, Offset: -1, Message: c.seen.denied}
		}
		if c.seen.flag {
			c.changed = true
		}
	}
	if persistent && !c.seen.pragma && !s.vacuum && len(skipSpace(rest)) == 0 {
		c.keep(s, string(sql))
		rest = nil
	}
	return s, rest, nil
}

// keep caches a statement, dropping the ones used least recently.
func (c *conn) keep(s *statement, sql string) {
	for len(c.cache) >= maxCached || c.text+len(sql) > maxCachedText {
		var oldest *statement
		for _, x := range c.cache {
			if oldest == nil || x.used < oldest.used {
				oldest = x
			}
		}
		c.forget(oldest)
	}
	c.tick++
	s.sql, s.cached, s.used = sql, true, c.tick
	c.cache[sql] = s
	c.text += len(sql)
}

func (c *conn) forget(s *statement) {
	delete(c.cache, s.sql)
	c.text -= len(s.sql)
	s.Close()
}

// done ends a statement's execution. That commits where the statement has written all its rows, but not
// all that it returns of them were taken.
func (c *conn) done(s *statement) {
	if s.cached {
		s.Reset()
	} else {
		s.Close()
	}
	if c.committing {
		c.countLate()
		c.afterCommit()
	}
}

// countLate counts a commit of which SQLite has not told, since it does so where a statement comes to its end only.
func (c *conn) countLate() {
	task, trusted, before := c.task, c.trusted, c.db.slot.Load().Committed.Load()
	c.task, c.trusted = nil, true // the task may be told to stop, which this must not be
	c.Exec("SELECT 1")
	c.task, c.trusted = task, trusted
	if c.db.slot.Load().Committed.Load() == before { // there was no memory even for that: one commit too many does no harm
		c.committed(int(c.db.walPages.Load()))
	}
}

// columnsOf is the payload of COLUMNS for a statement.
func (s *statement) columnsOf() []byte {
	n := s.Columns()
	if compiled := s.Recompiled(); s.width != n || s.compiled != compiled {
		s.compiled = compiled
		cols := make([]sqlchan.Column, n)
		for i := range cols {
			cols[i] = sqlchan.Column{Name: s.ColumnName(i), DeclType: s.ColumnDeclType(i)}
		}
		s.columns, s.width = sqlchan.AppendColumns(s.columns[:0], cols), n
	}
	return s.columns
}
