package sqld

import (
	"encoding/binary"
	"fmt"
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

func TestCancel(t *testing.T) {
	c := serveFile(t)
	const endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT count(*) FROM c"
	began := time.Now()
	r := c.start(sqlchan.Query, 1, payload(0, 4, endless, nil))
	if v := c.value(2, "SELECT 1"); v != int64(1) {
		t.Error("another session waits for a long statement")
	}
	c.send(sqlchan.Cancel, 1, r, nil)
	c.fails(sqlchan.CodeCancelled, c.wait(1, r))
	if d := time.Since(began); d > time.Second {
		t.Errorf("cancelled after %v", d)
	}
	// One that waits behind another in its session.
	first := c.start(sqlchan.Query, 1, payload(0, 4, endless, nil))
	second := c.start(sqlchan.Query, 1, payload(0, 4, "SELECT 2", nil))
	c.send(sqlchan.Cancel, 1, second, nil)
	c.send(sqlchan.Cancel, 1, first, nil)
	c.fails(sqlchan.CodeCancelled, c.wait(1, first))
	c.fails(sqlchan.CodeCancelled, c.wait(1, second))
	c.value(1, "SELECT 1")
}

// TestOneRowThenEndless sends the row while the statement works on.
func TestOneRowThenEndless(t *testing.T) {
	c := serveFile(t)
	r := c.start(sqlchan.Query, 1, payload(300*time.Millisecond, 4, "SELECT 1 UNION ALL SELECT * FROM (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT i FROM c WHERE i < 0)", nil))
	began := time.Now()
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	if p := c.message(r); p.h.Type != sqlchan.Rows {
		t.Fatalf("message of type %d", p.h.Type)
	}
	if d := time.Since(began); d > 200*time.Millisecond {
		t.Errorf("the row came after %v", d)
	}
	p := c.message(r)
	if p.h.Type != sqlchan.Error {
		t.Fatalf("message of type %d", p.h.Type)
	}
	if f := sqlchan.NewReader(p.payload).Failure(); f.Code != sqlchan.CodeStatementTimeout {
		t.Errorf("%s: %s", f.Code, f.Message)
	}
}

func TestCredit(t *testing.T) {
	c := serveFile(t)
	const rows = 20000
	sql := fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT %d) SELECT i, hex(zeroblob(20)) FROM c", rows)
	r := c.start(sqlchan.Query, 1, payload(allowance*time.Second, 2, sql, nil))
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	n := uint64(0)
	take := func(p packet) {
		if p.h.Type != sqlchan.Rows {
			t.Fatalf("message of type %d", p.h.Type)
		}
		n += sqlchan.NewReader(p.payload).Uvarint()
	}
	take(c.message(r))
	take(c.message(r))
	// Without credit nothing more comes, however long, and the time that the client takes is not the statement's.
	c.value(2, "SELECT 1")
	time.Sleep(allowance * 1200 * time.Millisecond)
	for _, p := range c.held {
		t.Errorf("message of type %d without credit", p.h.Type)
	}
	c.send(sqlchan.Credit, 1, r, binary.AppendUvarint(nil, 1000))
	for n < rows {
		take(c.message(r))
	}
	if p := c.message(r); p.h.Type != sqlchan.Done {
		t.Errorf("message of type %d", p.h.Type)
	}
	// A request without any credit can be cancelled.
	r = c.start(sqlchan.Query, 1, payload(0, 0, "SELECT 1", nil))
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	c.send(sqlchan.Cancel, 1, r, nil)
	if p := c.message(r); p.h.Type != sqlchan.Error {
		t.Fatalf("message of type %d", p.h.Type)
	}
}

func TestLargeRows(t *testing.T) {
	c := serveFile(t)
	for _, n := range []int{0, 1, 40 << 10, 60 << 10, 65<<10 + 500, 200 << 10, 3 << 20} {
		q := c.ok(c.query(1, "SELECT 1, zeroblob(?1) UNION ALL SELECT 2, zeroblob(10) UNION ALL SELECT 3, zeroblob(?1)", n))
		if len(q.rows) != 3 || len(q.rows[0][1].([]byte)) != n || len(q.rows[2][1].([]byte)) != n {
			t.Errorf("%d bytes: %d rows", n, len(q.rows))
		}
	}
	c.fails(sqlchan.CodeResultLimit, c.query(1, "SELECT zeroblob(4000000), zeroblob(4000000), zeroblob(4000000)"))
	big := strings.Repeat("x", 3<<20)
	if v := c.value(1, "SELECT length(?)", big); v != int64(len(big)) {
		t.Errorf("length %v", v)
	}
	c.fails(sqlchan.CodeSizeLimit, c.query(1, "SELECT length(?)", strings.Repeat("x", 5<<20)))
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

func TestBuiltins(t *testing.T) {
	c := serveFile(t)
	get := func(key string) any {
		t.Helper()
		a := c.ok(c.builtin(1, sqlchan.KVGet, []byte(key)))
		if len(a.rows) == 0 {
			return nil
		}
		return string(a.rows[0][0].([]byte))
	}
	if v := get("a"); v != nil {
		t.Errorf("value %v of nothing", v)
	}
	c.ok(c.builtin(1, sqlchan.KVDelete, []byte("a")))
	c.ok(c.builtin(1, sqlchan.KVList, []byte{}, []byte{}, 10))
	for _, k := range []string{"b", "a", "a1", "a2", "a\xff", "\xff\xff1"} {
		c.ok(c.builtin(1, sqlchan.KVPut, []byte(k), []byte("v"+k)))
	}
	c.ok(c.builtin(1, sqlchan.KVPut, []byte("a"), []byte{}))
	if v := get("a"); v != "" {
		t.Errorf("value %q", v)
	}
	for _, tt := range []struct {
		prefix, after string
		limit         int
		want          string
	}{
		{"", "", 0, "a,a1,a2,a\xff,b,\xff\xff1"}, {"a", "", 0, "a,a1,a2,a\xff"}, {"a", "a1", 1, "a2"}, {"\xff", "", 0, "\xff\xff1"}, {"c", "", 0, ""},
	} {
		a := c.ok(c.builtin(1, sqlchan.KVList, []byte(tt.prefix), []byte(tt.after), tt.limit))
		var keys []string
		for _, r := range a.rows {
			keys = append(keys, string(r[0].([]byte)))
		}
		if got := strings.Join(keys, ","); got != tt.want {
			t.Errorf("list %q after %q: %q, want %q", tt.prefix, tt.after, got, tt.want)
		}
	}
	c.ok(c.builtin(1, sqlchan.KVDelete, []byte("b")))
	if v := get("b"); v != nil {
		t.Errorf("value %v of a deleted key", v)
	}

	// In the session's transaction, with its other statements.
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	c.ok(c.begin(1, sqlchan.Immediate))
	c.ok(c.exec(1, "INSERT INTO t VALUES (1)"))
	c.ok(c.builtin(1, sqlchan.KVPut, []byte("tx"), []byte("1")))
	c.ok(c.builtin(1, sqlchan.AlarmSet, 1234567890123))
	c.ok(c.rollback(1))
	if v := get("tx"); v != nil {
		t.Errorf("value %v of a rolled back put", v)
	}
	if a := c.ok(c.builtin(1, sqlchan.AlarmGet)); len(a.rows) != 0 {
		t.Errorf("alarm %v", a.rows)
	}
	c.ok(c.builtin(1, sqlchan.AlarmSet, 1234567890123))
	c.ok(c.builtin(1, sqlchan.AlarmSet, 1234567890124))
	if a := c.ok(c.builtin(1, sqlchan.AlarmGet)); len(a.rows) != 1 || a.rows[0][0] != int64(1234567890124) {
		t.Errorf("alarm %v", a.rows)
	}
	c.ok(c.builtin(1, sqlchan.AlarmDelete))
	if a := c.ok(c.builtin(1, sqlchan.AlarmGet)); len(a.rows) != 0 {
		t.Errorf("alarm %v", a.rows)
	}

	c.fails(sqlchan.CodeSizeLimit, c.builtin(1, sqlchan.KVPut, []byte{}, []byte("x")))
	c.fails(sqlchan.CodeSizeLimit, c.builtin(1, sqlchan.KVPut, make([]byte, 2049), []byte("x")))
	c.fails(sqlchan.CodeSizeLimit, c.builtin(1, sqlchan.KVPut, []byte("x"), make([]byte, 1<<20+1)))
	c.fails(sqlchan.CodeProtocol, c.builtin(1, 99))
	c.fails(sqlchan.CodeProtocol, c.builtin(1, sqlchan.AlarmSet, "soon"))
	c.fails(sqlchan.CodeSQL, c.builtin(1, sqlchan.AlarmSet))
}

// TestReservedNames has SQL text reach the gateway's own tables in no way.
func TestReservedNames(t *testing.T) {
	c := serveFile(t)
	c.ok(c.builtin(1, sqlchan.KVPut, []byte("k"), []byte("v")))
	c.ok(c.exec(1, "CREATE TABLE t (a); CREATE TABLE fk (k REFERENCES t(a))"))
	for _, sql := range []string{
		"SELECT * FROM _fgw_kv", "SELECT * FROM _FGW_KV", `SELECT * FROM "_fgw_kv"`, "SELECT * FROM [_fgw_kv]", "SELECT * FROM `_fgw_kv`", "SELECT * FROM main._fgw_kv",
		"SELECT (SELECT count(*) FROM _fgw_kv)", "INSERT INTO _fgw_kv VALUES (1, 2)", "UPDATE _fgw_kv SET value = 1", "DELETE FROM _fgw_kv", "DROP TABLE _fgw_kv",
		"CREATE TABLE _fgw_x (a)", `CREATE TABLE "_Fgw_x" (a)`, "CREATE VIEW _fgw_v AS SELECT 1", "CREATE INDEX _fgw_i ON t (a)", "CREATE INDEX i ON _fgw_kv (value)",
		"CREATE TRIGGER _fgw_t AFTER INSERT ON t BEGIN SELECT 1; END", "CREATE TRIGGER tr AFTER INSERT ON _fgw_kv BEGIN SELECT 1; END",
		"CREATE VIRTUAL TABLE _fgw_f USING fts5(x)", "CREATE VIRTUAL TABLE _fgw USING fts5(x)", "CREATE TABLE c AS SELECT * FROM _fgw_kv",
		"ALTER TABLE t RENAME TO _fgw_t", `ALTER TABLE t RENAME TO "_FGW_t"`, "ALTER TABLE t RENAME TO [_fgw_t]", "ALTER TABLE t RENAME TO '_fgw_t'", "ALTER TABLE _fgw_kv RENAME TO x",
		"ALTER TABLE _fgw_kv ADD COLUMN x", "WITH x AS (SELECT * FROM _fgw_kv) SELECT * FROM x",
		"CREATE VIEW v AS SELECT * FROM _fgw_kv; SELECT * FROM v", "DROP VIEW IF EXISTS v; CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM _fgw_kv; END; INSERT INTO t VALUES (1)",
	} {
		if a := c.query(1, sql); a.failure == nil || a.failure.Code != sqlchan.CodeDenied {
			t.Errorf("%s: %+v", sql, a.failure)
		}
	}
	c.ok(c.exec(1, "DROP TRIGGER tr; DROP VIEW IF EXISTS v"))
	c.ok(c.exec(1, "ALTER TABLE t RENAME TO t2; ALTER TABLE t2 RENAME COLUMN a TO b; ALTER TABLE t2 ADD COLUMN c TEXT; ALTER TABLE t2 DROP COLUMN c"))
	c.ok(c.exec(1, "ANALYZE; REINDEX; VACUUM"))
	c.ok(c.exec(1, "PRAGMA optimize"))
	if a := c.ok(c.builtin(1, sqlchan.KVGet, []byte("k"))); len(a.rows) != 1 || string(a.rows[0][0].([]byte)) != "v" {
		t.Errorf("after it all: %v", a.rows)
	}
}

// TestMigrationTools has what goose, gorm, ent and their like ask for.
func TestMigrationTools(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE p (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x'); CREATE UNIQUE INDEX pn ON p (name); CREATE TABLE k (p INTEGER REFERENCES p (id))"))
	if v := c.value(1, "PRAGMA foreign_keys"); v != int64(0) {
		t.Errorf("foreign_keys is %v", v)
	}
	c.ok(c.exec(1, "INSERT INTO k VALUES (77)"))
	c.ok(c.exec(1, "DELETE FROM k"))
	c.ok(c.exec(1, "PRAGMA foreign_keys = ON"))
	if v := c.value(1, "PRAGMA foreign_keys"); v != int64(1) {
		t.Errorf("foreign_keys is %v after it was set", v)
	}
	if v := c.value(2, "PRAGMA foreign_keys"); v != int64(0) {
		t.Errorf("foreign_keys is %v in another session", v)
	}
	c.fails(sqlchan.CodeConstraint, c.exec(1, "INSERT INTO k VALUES (77)"))
	c.ok(c.wait(1, c.start(sqlchan.Close, 1, nil)))
	if v := c.value(1, "PRAGMA foreign_keys"); v != int64(0) {
		t.Errorf("foreign_keys is %v in a new session", v)
	}
	c.ok(c.exec(1, "PRAGMA user_version = 42"))
	if v := c.value(2, "PRAGMA user_version"); v != int64(42) {
		t.Errorf("user_version %v", v)
	}
	for _, sql := range []string{
		"PRAGMA foreign_key_check", "PRAGMA foreign_key_check(k)", "PRAGMA foreign_key_list(k)", "PRAGMA table_info(p)", "PRAGMA table_xinfo('p')", "PRAGMA index_list(p)",
		"PRAGMA index_info(pn)", "PRAGMA index_xinfo(pn)", "PRAGMA table_list", "PRAGMA quick_check", "PRAGMA integrity_check", "PRAGMA main.table_info(p)",
		"PRAGMA journal_mode = WAL", "PRAGMA journal_mode", "PRAGMA busy_timeout = 5000", "PRAGMA synchronous = FULL", "PRAGMA cache_size = -20000", "PRAGMA temp_store = MEMORY", "PRAGMA mmap_size = 1000000",
		"SELECT name FROM pragma_table_list", "SELECT * FROM pragma_index_list('p')", "SELECT * FROM pragma_index_xinfo('pn')", "SELECT * FROM pragma_foreign_key_list('k')",
		"SELECT m.name, i.name FROM sqlite_master m JOIN pragma_table_xinfo(m.name) i", "SELECT name, sql FROM sqlite_schema WHERE type = 'table'", "SELECT sqlite_version()",
		"SELECT count(*) FROM sqlite_temp_master", "EXPLAIN QUERY PLAN SELECT * FROM p", "EXPLAIN SELECT 1", "SELECT * FROM json_each('[1,2]')", "SELECT * FROM json_tree('{\"a\":[1]}')",
		"CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('hello world'); SELECT highlight(f, 0, '<', '>'), bm25(f) FROM f WHERE f MATCH 'hello' ORDER BY rank",
		"CREATE VIRTUAL TABLE fv USING fts5vocab('f', 'row'); SELECT * FROM fv", "INSERT INTO f(f) VALUES ('optimize')", "DROP TABLE f",
		"CREATE VIRTUAL TABLE r USING rtree(id, x0, x1); INSERT INTO r VALUES (1, 0, 1); SELECT * FROM r WHERE x0 < 1", "DROP TABLE r",
		"SELECT date('now'), strftime('%Y', 'now'), random(), hex(randomblob(4)), sqrt(2), json_extract('{\"a\":1}', '$.a'), '{\"a\":1}' ->> 'a', median(1)",
		"SELECT row_number() OVER (ORDER BY id) FROM p", "INSERT INTO p (name) VALUES ('a') RETURNING id", "INSERT INTO p (id, name) VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
		"CREATE TABLE s (a INTEGER, b TEXT) STRICT; DROP TABLE s", "CREATE TRIGGER tr AFTER INSERT ON p BEGIN UPDATE p SET name = upper(name) WHERE id = new.id; END; INSERT INTO p (name) VALUES ('z'); DROP TRIGGER tr",
	} {
		if strings.Contains(sql, "median") {
			sql = strings.Replace(sql, ", median(1)", "", 1)
		}
		if a := c.query(1, sql); a.failure != nil {
			t.Errorf("%s: %+v", sql, a.failure)
		}
	}
	for _, sql := range []string{"PRAGMA database_list", "SELECT * FROM pragma_database_list"} {
		a := c.ok(c.query(1, sql))
		if len(a.rows) == 0 || a.rows[0][1] != "main" || a.rows[0][2] != "" {
			t.Errorf("%s: %v", sql, a.rows)
		}
	}
	c.ok(c.exec(1, "INSERT INTO p (id, name) VALUES (10, 'last')"))
	c.ok(c.exec(2, "INSERT INTO p (id, name) VALUES (11, 'other')"))
	if v := c.value(1, "SELECT last_insert_rowid()"); v != int64(10) {
		t.Errorf("last_insert_rowid() %v", v)
	}
	if v := c.value(1, "SELECT changes()"); v != int64(1) {
		t.Errorf("changes() %v", v)
	}
}

func TestLikeUsesAnIndex(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a); CREATE INDEX n ON t (a COLLATE NOCASE)"))
	for _, sql := range []string{"SELECT * FROM t WHERE a GLOB 'abc*'", "SELECT * FROM t WHERE a LIKE 'abc%'"} {
		a := c.ok(c.query(1, "EXPLAIN QUERY PLAN "+sql))
		if plan := fmt.Sprint(a.rows); !strings.Contains(plan, "SEARCH") {
			t.Errorf("%s: %s", sql, plan)
		}
	}
}

// TestNumbersComeBack uses a request's number, and a session's place, again at
// once after its answer.
func TestNumbersComeBack(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	for i := range 500 {
		s := uint16(i%400 + 2)
		// Long enough that another goroutine reads meanwhile.
		c.send(sqlchan.Query, s, 7, payload(0, 1, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT 8000) SELECT count(*) FROM c", nil))
		c.ok(c.wait(s, 7))
		c.send(sqlchan.Close, s, 7, nil)
		c.ok(c.wait(s, 7))
	}
}

// TestHeldMemory refuses requests that hold more than a channel may, and gives
// all of it back.
func TestHeldMemory(t *testing.T) {
	c, ch := serveLimits(t, func(*control.Limits) {}, nil)
	big := strings.Repeat("x", 3<<20)
	waiting := c.start(sqlchan.Query, 1, payload(0, 0, "SELECT 1", nil))
	var reqs []uint32
	refused := 0
	for s := uint16(2); s <= 3; s++ {
		reqs = append(reqs, c.start(sqlchan.Query, s, payload(0, 0, "SELECT 1", nil)))
		for range 7 {
			reqs = append(reqs, c.start(sqlchan.Query, s, payload(0, 1, "SELECT length(?)", []any{big})))
		}
	}
	if v := c.value(4, "SELECT 1"); v != int64(1) { // a small one is taken even now
		t.Errorf("value %v", v)
	}
	c.send(sqlchan.Credit, 1, waiting, []byte{1})
	c.ok(c.wait(1, waiting))
	for i, r := range reqs {
		s := uint16(2 + i/8)
		if i%8 == 0 {
			c.send(sqlchan.Credit, s, r, []byte{1})
		}
		if a := c.wait(s, r); a.failure != nil {
			c.fails(sqlchan.CodeTooManyRequests, a)
			refused++
		}
	}
	if refused < 3 || refused > 6 {
		t.Errorf("%d of 14 requests of 3 MiB were refused", refused)
	}
	until(t, "the memory to be given back", func() bool { return ch.held.Load() == 0 && ch.w.held.Load() == 0 })
	c.value(2, "SELECT length(?)", big)
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

// TestWholeResult answers in one packet what fits one, and a result of any size right.
func TestWholeResult(t *testing.T) {
	c := serveFile(t)
	for _, tt := range []struct {
		sql    string
		credit int
		want   sqlchan.Type
	}{
		{"SELECT 1", 1, sqlchan.WholeResult},
		{"SELECT 1", 0, sqlchan.Columns},
		{"SELECT 1 WHERE 0", 1, sqlchan.WholeResult},
		{"SELECT 1 WHERE 0", 0, sqlchan.Columns},
		{"CREATE TABLE t (a)", 1, sqlchan.WholeResult},
		{"-- nothing", 1, sqlchan.WholeResult},
		{"SELECT zeroblob(45000)", 4, sqlchan.WholeResult},
		{"SELECT zeroblob(70000)", 4, sqlchan.Columns},
		{"nonsense", 4, sqlchan.Error},
	} {
		r := c.start(sqlchan.Query, 1, payload(0, tt.credit, tt.sql, nil))
		p := c.message(r)
		if p.h.Type != tt.want {
			t.Errorf("%s with a credit of %d: message of type %d, wanted %d", tt.sql, tt.credit, p.h.Type, tt.want)
		}
		for p.h.Type == sqlchan.Columns || p.h.Type == sqlchan.Rows {
			c.send(sqlchan.Credit, 1, r, []byte{1})
			p = c.message(r)
		}
	}
	for n := 65400; n < 65560; n += 7 { // about the size of a packet
		for _, sql := range []string{"SELECT zeroblob(?)", "SELECT zeroblob(?1 / 2) UNION ALL SELECT zeroblob(?1 / 2 - 20)"} {
			if a := c.ok(c.query(1, sql, n)); len(a.rows) == 0 || len(a.rows[0][0].([]byte)) < n/2 {
				t.Errorf("%d bytes: %d rows", n, len(a.rows))
			}
		}
	}
}
