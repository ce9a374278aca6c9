package sqld

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// serveLimits serves a file with limits of its own.
func serveLimits(t testing.TB, change func(l *control.Limits), message func(*control.Message)) (*client, *channel) {
	t.Helper()
	if err := sqlite.Init(aloneMemory); err != nil {
		t.Fatal(err)
	}
	l := DefaultLimits()
	change(&l)
	fd, theirs := socketpair(t)
	own, err := ownCopy(theirs)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	w := newWorker(aloneMemory/2, func(*control.Message, bool) bool { return true })
	m := &control.Message{Limits: &l}
	if message != nil {
		message(m)
	}
	ch, err := w.attach(own, 1, filepath.Join(t.TempDir(), "1.db"), nil, m)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, fd)
	t.Cleanup(func() { c.close(); w.stop() })
	return c, ch
}

func TestTransactions(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))

	a := c.ok(c.begin(1, sqlchan.Immediate))
	if !a.result.InTx {
		t.Error("BEGIN does not tell of a transaction")
	}
	c.ok(c.exec(1, "INSERT INTO t VALUES (1)"))
	began := time.Now()
	if v := c.value(2, "SELECT count(*) FROM t"); v != int64(0) {
		t.Errorf("another session sees %v uncommitted rows", v)
	}
	if d := time.Since(began); d > 200*time.Millisecond {
		t.Errorf("a plain read waited %v for an open write transaction", d)
	}
	if a := c.ok(c.commit(1)); a.result.InTx {
		t.Error("COMMIT leaves a transaction")
	}
	if v := c.value(2, "SELECT count(*) FROM t"); v != int64(1) {
		t.Errorf("count %v after the commit", v)
	}

	c.ok(c.begin(1, sqlchan.Immediate))
	c.ok(c.exec(1, "DELETE FROM t"))
	c.ok(c.rollback(1))
	c.ok(c.rollback(1)) // of nothing: no error
	if v := c.value(1, "SELECT count(*) FROM t"); v != int64(1) {
		t.Errorf("count %v after the rollback", v)
	}

	// As gorm does it: raw SQL, nested.
	for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (2)", "SAVEPOINT sp1", "INSERT INTO t VALUES (3)", "ROLLBACK TO SAVEPOINT sp1", "RELEASE sp1", "COMMIT"} {
		a := c.ok(c.exec(1, sql))
		if want := sql != "COMMIT"; a.result.InTx != want {
			t.Errorf("%s: in a transaction: %v", sql, a.result.InTx)
		}
	}
	if v := c.value(2, "SELECT group_concat(a) FROM t"); v != "1,2" {
		t.Errorf("rows %v", v)
	}

	c.ok(c.begin(3, sqlchan.ReadOnly))
	c.fails(sqlchan.CodeDenied, c.exec(3, "INSERT INTO t VALUES (4)"))
	if v := c.value(3, "SELECT count(*) FROM t"); v != int64(2) {
		t.Errorf("count %v", v)
	}
	c.ok(c.exec(1, "INSERT INTO t VALUES (5)"))
	if v := c.value(3, "SELECT count(*) FROM t"); v != int64(2) {
		t.Errorf("a read transaction sees a later commit: %v", v)
	}
	c.ok(c.commit(3))
	c.ok(c.exec(3, "INSERT INTO t VALUES (6)"))

	f := c.fails(sqlchan.CodeConstraint, c.exec(1, "CREATE TABLE u (a UNIQUE); INSERT INTO u VALUES (1),(1)"))
	if f.SQLite != 2067 {
		t.Errorf("extended code %d", f.SQLite)
	}
	f = c.fails(sqlchan.CodeSQL, c.exec(1, "SELECT nothing FROM t"))
	if f.Offset != 7 || !strings.Contains(f.Message, "nothing") {
		t.Errorf("failure %+v", f)
	}
}

func TestClosedSessionRollsBack(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	c.ok(c.begin(1, sqlchan.Immediate))
	c.ok(c.exec(1, "INSERT INTO t VALUES (1)"))
	c.ok(c.wait(1, c.start(sqlchan.Close, 1, nil)))
	c.ok(c.exec(2, "INSERT INTO t VALUES (2)"))
	if v := c.value(2, "SELECT group_concat(a) FROM t"); v != "2" {
		t.Errorf("rows %v", v)
	}
}

func TestSeveralStatements(t *testing.T) {
	c := serveFile(t)
	a := c.ok(c.exec(1, `-- a script
		CREATE TABLE t (a, b); INSERT INTO t VALUES (?, ?); INSERT INTO t VALUES (?, :name);
		/* the end */ ;`, 1, "x", 2, sqlchan.Arg{Name: "name", Value: "y"}))
	if a.result.RowsAffected != 2 {
		t.Errorf("rows affected %d", a.result.RowsAffected)
	}
	q := c.ok(c.query(1, "UPDATE t SET b = 'z' WHERE a = 2; SELECT group_concat(a || b) FROM t;  "))
	if len(q.rows) != 1 || q.rows[0][0] != "1x,2z" {
		t.Errorf("rows %v", q.rows)
	}
	q = c.ok(c.query(1, " -- nothing"))
	if q.columns == nil || len(q.columns) != 0 || len(q.rows) != 0 {
		t.Errorf("nothing gave %v", q)
	}
	c.ok(c.exec(1, ""))
	for _, tt := range []struct {
		sql  string
		args []any
	}{
		{"SELECT ?", nil}, {"SELECT ?, ?", []any{1}}, {"SELECT ?", []any{1, 2}}, {"SELECT 1", []any{1}}, {"SELECT :a", []any{sqlchan.Arg{Name: "b", Value: int64(1)}}},
		{"INSERT INTO t VALUES (8, 8); SELECT ?", nil}, {"", []any{1}},
	} {
		c.fails(sqlchan.CodeSQL, c.query(1, tt.sql, tt.args...))
	}
	if v := c.value(1, "SELECT ?2 || ?1 || ?2", "a", "b"); v != "bab" {
		t.Errorf("numbered parameters: %v", v)
	}
	if v := c.value(1, "SELECT :a || @b || $a", sqlchan.Arg{Name: "a", Value: "1"}, sqlchan.Arg{Name: "b", Value: "2"}); v != "121" {
		t.Errorf("named parameters: %v", v)
	}
	if v := c.value(1, "SELECT typeof(?1) || typeof(?2) || typeof(?3) || typeof(?4) || typeof(?5) || typeof(?6)", nil, int64(-5), 2.5, "", []byte{}, []byte("b")); v != "nullintegerrealtextblobblob" {
		t.Errorf("kinds: %v", v)
	}
}

func TestPrepare(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a INTEGER, b TEXT)"))
	a := c.ok(c.wait(1, c.start(sqlchan.Prepare, 1, sqlchan.AppendText(nil, "SELECT a, b FROM t WHERE a = ? OR b = ?"))))
	if a.result.RowsAffected != 2 || !a.result.InTx || len(a.columns) != 2 || a.columns[1].DeclType != "TEXT" {
		t.Errorf("prepared %+v", a)
	}
	a = c.ok(c.wait(1, c.start(sqlchan.Prepare, 1, sqlchan.AppendText(nil, "DELETE FROM t"))))
	if a.result.InTx || len(a.columns) != 0 {
		t.Errorf("prepared %+v", a)
	}
	c.fails(sqlchan.CodeSQL, c.wait(1, c.start(sqlchan.Prepare, 1, sqlchan.AppendText(nil, "SELEC"))))

	c.ok(c.query(1, "SELECT * FROM t"))
	c.ok(c.exec(2, "ALTER TABLE t RENAME COLUMN b TO c"))
	if a := c.ok(c.query(1, "SELECT * FROM t")); a.columns[1].Name != "c" {
		t.Errorf("columns after an ALTER: %v", a.columns)
	}
}

// TestWritersQueue has writers that wait get their turn in the order in which they came.
func TestWritersQueue(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, s)"))
	c.ok(c.begin(1, sqlchan.Immediate))
	var reqs []uint32
	for s := 2; s <= 10; s++ {
		reqs = append(reqs, c.start(sqlchan.Exec, uint16(s), payload(0, -1, "INSERT INTO t (s) VALUES (?)", []any{s})))
	}
	late := c.start(sqlchan.Exec, 11, payload(50*time.Millisecond, -1, "INSERT INTO t (s) VALUES (11)", nil))
	f := c.fails(sqlchan.CodeBusy, c.wait(11, late))
	if !strings.Contains(f.Message, "50ms") {
		t.Errorf("message %q", f.Message)
	}
	cancelled := c.start(sqlchan.Begin, 12, []byte{0, 0})
	c.send(sqlchan.Cancel, 12, cancelled, nil)
	c.fails(sqlchan.CodeCancelled, c.wait(12, cancelled))
	c.ok(c.commit(1))
	for i, r := range reqs {
		c.ok(c.wait(uint16(i+2), r))
	}
	if v := c.value(1, "SELECT group_concat(s) FROM (SELECT s FROM t ORDER BY a)"); v != "2,3,4,5,6,7,8,9,10" {
		t.Errorf("order %v", v)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := serveFile(t)
	for s := 1; s <= sqlchan.MaxSessions; s++ {
		c.value(uint16(s), "SELECT 1")
	}
	c.fails(sqlchan.CodeTooManySessions, c.query(100, "SELECT 1"))
	c.ok(c.wait(7, c.start(sqlchan.Close, 7, nil)))
	c.value(100, "SELECT 1")

	slow := c.start(sqlchan.Query, 1, payload(0, 0, "SELECT 1", nil)) // waits for credit
	var reqs []uint32
	for range sqlchan.MaxPipeline + 1 {
		reqs = append(reqs, c.start(sqlchan.Query, 1, payload(0, 1, "SELECT 1", nil)))
	}
	c.fails(sqlchan.CodeTooManyRequests, c.wait(1, reqs[sqlchan.MaxPipeline]))
	c.send(sqlchan.Credit, 1, slow, []byte{1})
	c.ok(c.wait(1, slow))
	for _, r := range reqs[:sqlchan.MaxPipeline] {
		c.ok(c.wait(1, r))
	}
}

func TestIdleTransaction(t *testing.T) {
	c, ch := serveLimits(t, func(l *control.Limits) { l.TxIdle = 100 * time.Millisecond }, nil)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	c.ok(c.begin(1, sqlchan.Immediate))
	c.ok(c.exec(1, "INSERT INTO t VALUES (1)"))
	if n := ch.db.slot.Load().Transactions.Load(); n != 1 {
		t.Errorf("%d transactions are told", n)
	}
	c.ok(c.exec(2, "INSERT INTO t VALUES (2)")) // gets the turn once the other has expired
	f := c.fails(sqlchan.CodeTxIdle, c.exec(1, "INSERT INTO t VALUES (3)"))
	if f.InTx {
		t.Error("the transaction is told to be open")
	}
	c.ok(c.exec(1, "INSERT INTO t VALUES (4)"))
	if v := c.value(1, "SELECT group_concat(a) FROM t"); v != "2,4" {
		t.Errorf("rows %v", v)
	}
	if n := ch.db.slot.Load().Transactions.Load(); n != 0 {
		t.Errorf("%d transactions are told", n)
	}
}

func TestStorageQuota(t *testing.T) {
	c, _ := serveLimits(t, func(l *control.Limits) { l.Storage = 1 << 20 }, nil)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	f := c.fails(sqlchan.CodeStorageQuota, c.exec(1, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) INSERT INTO t SELECT randomblob(10000) FROM c"))
	if !strings.Contains(f.Message, "1 MiB") {
		t.Errorf("message %q", f.Message)
	}
	c.ok(c.exec(1, "INSERT INTO t VALUES (zeroblob(500000))"))
	c.fails(sqlchan.CodeStorageQuota, c.exec(1, "INSERT INTO t VALUES (zeroblob(600000))"))
	c.ok(c.exec(1, "DELETE FROM t; INSERT INTO t VALUES (zeroblob(600000)); VACUUM"))
	if v := c.value(1, "PRAGMA max_page_count"); v != int64(256) {
		t.Errorf("max_page_count %v", v)
	}
}

// A built-in statement that SQLite compiles anew is still the worker's own, though a setting was made before it in the same request.
func TestBuiltinIsCompiledAnew(t *testing.T) {
	c, _ := serveLimits(t, func(l *control.Limits) { l.Storage, l.Object = 8<<20, 8<<20 }, nil)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	for i, change := range []func() answer{
		func() answer { return c.builtin(2, sqlchan.KVPut, []byte("a"), []byte("b")) },
		func() answer { return c.builtin(2, sqlchan.AlarmSet, 1<<40) },
	} {
		c.ok(c.begin(1, sqlchan.ReadOnly))
		c.value(1, "SELECT count(*) FROM t") // it holds a connection, so that session 2 has the other one
		c.ok(change())
		c.ok(c.rollback(1))
		c.ok(c.exec(1, "CREATE TABLE t"+string(rune('a'+i))+" (a); INSERT INTO t VALUES (zeroblob(3000000))")) // by the first connection; what the other one may take is halved
		c.ok(c.begin(1, sqlchan.ReadOnly))
		c.value(1, "SELECT count(*) FROM t")
		c.ok(change())
		c.ok(c.rollback(1))
		c.ok(c.exec(1, "DELETE FROM t; VACUUM"))
	}
}

func TestReadOnlyChannel(t *testing.T) {
	c, _ := serveLimits(t, func(*control.Limits) {}, func(m *control.Message) { m.ReadOnly = true })
	c.value(1, "SELECT 1")
	for _, sql := range []string{"CREATE TABLE t (a)", "PRAGMA user_version = 3", "BEGIN IMMEDIATE", "VACUUM"} {
		c.fails(sqlchan.CodeDenied, c.exec(1, sql))
	}
	c.fails(sqlchan.CodeDenied, c.begin(1, sqlchan.Immediate))
	c.fails(sqlchan.CodeDenied, c.builtin(1, sqlchan.KVPut, []byte("a"), []byte("b")))
	c.ok(c.builtin(1, sqlchan.KVGet, []byte("a")))
}

// beginning sends a statement that begins a transaction.
func (c *client) beginning(flag byte, session uint16, timeout time.Duration, sql string) answer {
	c.t.Helper()
	c.request++
	h := sqlchan.Header{Type: sqlchan.Query, Flags: flag, Session: session, Request: c.request, Epoch: c.epoch}
	if err := sqlchan.Split(h, payload(timeout, 4, sql, nil), nil, func(p []byte) error {
		return restart(func() (err error) { _, err = unix.Write(c.fd, p); return err })
	}); err != nil {
		c.t.Fatal("send:", err)
	}
	return c.wait(session, c.request)
}

// TestStatementThatBegins begins transactions along with their first statements.
func TestStatementThatBegins(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a INTEGER PRIMARY KEY)"))
	inTx := func(a answer, want bool) {
		t.Helper()
		got := a.result.InTx
		if a.failure != nil {
			got = a.failure.InTx
		}
		if got != want {
			t.Errorf("in a transaction: %v", got)
		}
	}
	a := c.ok(c.beginning(sqlchan.BeginImmediate, 1, 0, "INSERT INTO t VALUES (1) RETURNING a"))
	inTx(a, true)
	if len(a.rows) != 1 {
		t.Errorf("rows %v", a.rows)
	}
	if v := c.value(2, "SELECT count(*) FROM t"); v != int64(0) {
		t.Errorf("another session sees %v rows", v)
	}
	a = c.beginning(sqlchan.BeginImmediate, 2, 50*time.Millisecond, "INSERT INTO t VALUES (2)")
	c.fails(sqlchan.CodeBusy, a)
	inTx(a, false)
	a = c.beginning(sqlchan.BeginImmediate, 1, 0, "SELECT 1") // in a transaction
	c.fails(sqlchan.CodeSQL, a)
	inTx(a, true)
	c.ok(c.commit(1))
	a = c.beginning(sqlchan.BeginImmediate, 2, 0, "INSERT INTO t VALUES (1)") // the statement fails, the transaction stays
	c.fails(sqlchan.CodeConstraint, a)
	inTx(a, true)
	c.ok(c.rollback(2))
	inTx(c.ok(c.beginning(sqlchan.BeginReadOnly, 2, 0, "SELECT a FROM t")), true)
	c.ok(c.exec(1, "INSERT INTO t VALUES (2)")) // which does not wait for it
	c.fails(sqlchan.CodeDenied, c.exec(2, "INSERT INTO t VALUES (3)"))
	if v := c.value(2, "SELECT count(*) FROM t"); v != int64(1) {
		t.Errorf("the snapshot has %v rows", v)
	}
	c.ok(c.commit(2))
	inTx(c.ok(c.beginning(sqlchan.BeginImmediate, 2, 0, "SELECT '"+strings.Repeat("x", 100<<10)+"'")), true) // several packets
	c.ok(c.rollback(2))
	c.ok(c.exec(1, "INSERT INTO t VALUES (4)"))
}
