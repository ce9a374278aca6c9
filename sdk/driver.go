package sdk

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// driverName is the name under which an app that runs finds its database with sql.Open, should a library insist on that.
const driverName = "facet"

// openDB returns the pool over the channel; nil is the database of a facet that has none.
func openDB(c *client.Client) *sql.DB {
	db := sql.OpenDB(connector{c})
	db.SetMaxOpenConns(sqlchan.MaxSessions)
	db.SetMaxIdleConns(sqlchan.MaxSessions)
	return db
}

// register makes the database known to sql.Open under an empty data source name. Of several facets in one
// process (there are some in tests alone) it is the first's.
func register(c *client.Client) {
	if !slices.Contains(sql.Drivers(), driverName) {
		sql.Register(driverName, connector{c})
	}
}

// connector opens sessions; it is the driver as well.
type connector struct{ c *client.Client }

var errNoDatabase = &SQLError{Code: sqlchan.CodeNoDatabase, Offset: -1, Message: "this facet has no database: it runs as a dynamic worker"}

// Connect opens a session. That costs nothing: the worker hears of it with its first statement.
func (d connector) Connect(context.Context) (driver.Conn, error) {
	if d.c == nil {
		return nil, errNoDatabase
	}
	s, err := d.c.Session()
	if err != nil {
		return nil, sqlError(nil, err)
	}
	return &conn{c: d.c, s: s}, nil
}

// Driver returns the connector itself.
func (d connector) Driver() driver.Driver { return d }

// Open is what sql.Open uses; the only data source there is has an empty name.
func (d connector) Open(name string) (driver.Conn, error) {
	if name != "" {
		return nil, fmt.Errorf("data source %q: a facet has one database, its name is the empty string", name)
	}
	return d.Connect(context.Background())
}

// conn is one session. database/sql gives it to one goroutine at a time.
type conn struct {
	c    *client.Client
	s    *client.Session
	args []sqlchan.Arg // room for a statement's arguments

	// Of a transaction that the next statement begins (BeginTx): its context, nil if there is none, and its mode.
	begun context.Context
	mode  byte

	inTx bool // from BeginTx to Commit or Rollback
	over bool // an error has ended the transaction before that
}

// errTxOver keeps what an app does in a transaction that an error has ended from being done outside of any.
var errTxOver = fmt.Errorf("%w by the error of an earlier statement", sql.ErrTxDone)

var (
	_ driver.Pinger             = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.SessionResetter    = (*conn)(nil)
	_ driver.Validator          = (*conn)(nil)
	_ driver.NamedValueChecker  = (*conn)(nil)
)

func (c *conn) Ping(ctx context.Context) error {
	_, err := c.ExecContext(ctx, "SELECT 1", nil)
	return err
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.over {
		return nil, errTxOver
	}
	begun := c.beginning()
	d, err := c.s.Exec(ctx, query, c.arguments(args))
	if begun != nil && c.beginAgain(begun, err) {
		d, err = c.s.Exec(ctx, query, c.args)
	}
	if err != nil {
		return nil, c.failed(either(ctx, begun), err)
	}
	return result{d}, nil
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.over {
		return nil, errTxOver
	}
	begun := c.beginning()
	r, err := c.query(ctx, query, args)
	if begun != nil && c.beginAgain(begun, err) {
		r, err = c.query(ctx, query, args)
	}
	if err != nil {
		return nil, c.failed(either(ctx, begun), err)
	}
	return newRows(ctx, r), nil
}

// failed translates a statement's error, and notes whether it has ended the transaction.
func (c *conn) failed(ctx context.Context, err error) error {
	c.over = c.inTx && !c.s.InTx() && c.s.Lost() == nil
	return sqlError(ctx, err)
}

func (c *conn) query(ctx context.Context, query string, args []driver.NamedValue) (*client.Rows, error) {
	if len(args) == 1 {
		if b, ok := args[0].Value.(*builtin); ok {
			return c.s.Builtin(ctx, b.number, builtinArguments(b))
		}
	}
	return c.s.Query(ctx, query, c.arguments(args))
}

// arguments translates arguments into room that the next statement uses again.
func (c *conn) arguments(args []driver.NamedValue) []sqlchan.Arg {
	clear(c.args)
	c.args = c.args[:0]
	for _, a := range args {
		c.args = append(c.args, sqlchan.Arg{Name: a.Name, Value: a.Value})
	}
	return c.args
}

func builtinArguments(b *builtin) []sqlchan.Arg {
	args := make([]sqlchan.Arg, len(b.args))
	for i, a := range b.args {
		args[i].Value = a
	}
	return args
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	p, err := c.s.Prepare(ctx, query)
	if err != nil {
		return nil, sqlError(ctx, err)
	}
	return &stmt{c, query, p.ReadOnly}, nil
}

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// BeginTx begins a transaction. One that writes waits for its turn: here where ctx has a deadline, else with the
// transaction's first statement, along with which it is begun. Then what kept it from beginning is that
// statement's error; the end of ctx stops its waiting in both cases.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	switch level := sql.IsolationLevel(opts.Isolation); level {
	case sql.LevelDefault, sql.LevelSerializable:
	default:
		return nil, fmt.Errorf("isolation level %s is not offered: transactions are always serializable", level)
	}
	mode := sqlchan.Immediate
	if opts.ReadOnly {
		mode = sqlchan.ReadOnly
	}
	deferred, err := c.s.BeginNext(ctx, mode)
	if err == nil && !deferred {
		err = c.s.Begin(ctx, mode)
	}
	if err != nil {
		return nil, sqlError(ctx, err)
	}
	if c.inTx = true; deferred {
		c.begun, c.mode = ctx, mode
	}
	return tx{c}, nil
}

// beginning tells of the transaction that the statement about to be sent begins: its context, or nil.
func (c *conn) beginning() context.Context {
	begun := c.begun
	c.begun = nil
	return begun
}

// beginAgain begins a transaction on another session where the worker went away before this one had begun. So
// a worker that is replaced costs what has not begun a moment, as it does where database/sql begins again by itself.
func (c *conn) beginAgain(begun context.Context, err error) bool {
	if !errors.Is(err, client.ErrLost) {
		return false
	}
	s, err := c.c.Session()
	if err != nil {
		return false
	}
	if err := s.Begin(begun, c.mode); err != nil {
		s.Close()
		return false
	}
	c.s.Close()
	c.s = s
	return true
}

// either is the context whose end made a statement fail: its own or the one that began its transaction.
func either(ctx, begun context.Context) context.Context {
	if begun != nil && ctx.Err() == nil && begun.Err() != nil {
		return begun
	}
	return ctx
}

func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

func (c *conn) Close() error { return sqlError(nil, c.s.Close()) }

// ResetSession tells the pool not to use a session whose worker is gone.
func (c *conn) ResetSession(context.Context) error {
	if c.s.Lost() != nil {
		return driver.ErrBadConn
	}
	return nil
}

// IsValid tells the pool what not to keep. A transaction that was begun by way of SQL and never
// ended would hold up every writer, and its statements would mix with another caller's: closing the session undoes it.
func (c *conn) IsValid() bool { return c.s.Lost() == nil && !c.s.InTx() }

// tx ends the session's transaction.
type tx struct{ c *conn }

func (t tx) Commit() error {
	if over := t.end(); over {
		return errTxOver
	}
	return sqlError(nil, t.c.s.Commit(context.Background()))
}

func (t tx) Rollback() error {
	t.end()
	return rolledBack(t.c.s)
}

// end notes that the connection is in no transaction any more, and tells whether an error has ended it before.
func (t tx) end() (over bool) {
	over = t.c.over
	t.c.begun, t.c.inTx, t.c.over = nil, false, false
	return over
}

// rolledBack rolls back, unless an error or a lost worker has done so already.
func rolledBack(s *client.Session) error {
	if !s.InTx() || s.Lost() != nil {
		return nil
	}
	err := s.Rollback(context.Background())
	if errors.Is(err, client.ErrLost) {
		return nil
	}
	return sqlError(nil, err)
}

// result is what a statement changed.
type result struct{ d sqlchan.Result }

func (r result) LastInsertId() (int64, error) { return r.d.LastInsertID, nil }
func (r result) RowsAffected() (int64, error) { return r.d.RowsAffected, nil }

// stmt is a statement that was found to be one. Its text goes along each time it runs; the worker
// keeps what it has compiled.
type stmt struct {
	c        *conn
	query    string
	readOnly bool
}

func (s *stmt) Close() error { return nil }

// NumInput leaves it to the worker to count: one name may stand for several places.
func (s *stmt) NumInput() int { return -1 }

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.c.ExecContext(ctx, s.query, args)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.c.QueryContext(ctx, s.query, args)
}

func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), named(args))
}

func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), named(args))
}

func named(args []driver.Value) []driver.NamedValue {
	all := make([]driver.NamedValue, len(args))
	for i, a := range args {
		all[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return all
}

// deadlineSlack is how early the worker's clock may run out before the context's own.
const deadlineSlack = 10 * time.Millisecond

// sqlError translates an error of the channel's client into one that apps know. What database/sql
// may safely try again on another session is driver.ErrBadConn; nothing else is.
func sqlError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var f *sqlchan.Failure
	switch {
	case errors.As(err, &f):
		e := &SQLError{Code: f.Code, Message: f.Message, SQLite: f.SQLite, Offset: f.Offset}
		if cause := interrupted(ctx, f.Code); cause != nil {
			return fmt.Errorf("%w: %w", cause, e)
		}
		return e
	case errors.Is(err, client.ErrLost):
		return fmt.Errorf("%w: %w", driver.ErrBadConn, err)
	}
	return err
}

// interrupted returns the context's error where that is why the statement failed.
func interrupted(ctx context.Context, code string) error {
	if ctx == nil {
		return nil
	}
	switch code {
	case sqlchan.CodeCancelled, sqlchan.CodeStatementTimeout, sqlchan.CodeBusy:
		if err := ctx.Err(); err != nil {
			return err
		}
		if at, ok := ctx.Deadline(); ok && time.Until(at) < deadlineSlack {
			return context.DeadlineExceeded
		}
	}
	return nil
}
