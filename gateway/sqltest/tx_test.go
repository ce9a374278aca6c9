package sqltest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk"
	"github.com/facetgateway/fgw/sdk/facettest"
)

const endless = `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c`

func count(t testing.TB, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRow(`SELECT count(*) FROM t`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTransactions(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	for name, c := range map[string]struct {
		end  func(*sql.Tx) error
		want int
	}{"commit": {(*sql.Tx).Commit, 2}, "rollback": {(*sql.Tx).Rollback, 0}} {
		t.Run(name, func(t *testing.T) {
			mustExec(t, db, `DELETE FROM t`)
			tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := tx.Exec(`INSERT INTO t DEFAULT VALUES`); err != nil {
					t.Fatal(err)
				}
			}
			if n := count(t, db); n != 0 {
				t.Errorf("another connection sees %d rows of an open transaction", n)
			}
			if err := c.end(tx); err != nil {
				t.Error(err)
			}
			if n := count(t, db); n != c.want {
				t.Errorf("%d rows, wanted %d", n, c.want)
			}
		})
	}
}

func TestTransactionOptions(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a)`)
	for _, level := range []sql.IsolationLevel{sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelSnapshot, sql.LevelLinearizable} {
		if _, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level}); err == nil {
			t.Errorf("%s is accepted", level)
		}
	}
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`INSERT INTO t VALUES (1)`); err == nil {
		t.Error("a read-only transaction writes")
	}
	mustExec(t, db, `INSERT INTO t VALUES (1)`) // while it is open
	var n int
	if err := tx.QueryRow(`SELECT count(*) FROM t`).Scan(&n); err != nil {
		t.Error(err)
	}
}

func TestStatementsWhileAResultIsOpen(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY, b);
		WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000) INSERT INTO t SELECT n, hex(randomblob(20)) FROM c`)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	rows, err := tx.Query(`SELECT a FROM t ORDER BY a`)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for rows.Next() {
		var a int
		if err := rows.Scan(&a); err != nil {
			t.Fatal(err)
		}
		if seen++; a%1000 == 0 {
			if _, err := tx.Exec(`UPDATE t SET b = 'seen' WHERE a = ?`, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := rows.Err(); err != nil || seen != 20000 {
		t.Errorf("%d rows, %v", seen, err)
	}
	var n int
	if err := tx.QueryRow(`SELECT count(*) FROM t WHERE b = 'seen'`).Scan(&n); err != nil || n != 20 {
		t.Error(n, err)
	}
}

// A write that returns rows is done whether or not its rows are read.
func TestReturning(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	const rows = 100_000 // far more than is sent unasked
	insert := fmt.Sprintf(`WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < %d) INSERT INTO t SELECT n FROM c RETURNING a`, rows)
	var a int
	if err := db.QueryRow(insert).Scan(&a); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db); n != rows {
		t.Errorf("%d rows, wanted %d", n, rows)
	}
}

func TestSeveralStatementsAndResults(t *testing.T) {
	db := newFacet(t).DB()
	mustExec(t, db, `CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t (b) VALUES ('x'); -- and a comment`)
	r := mustExec(t, db, `INSERT INTO t (b) VALUES (?), (?); UPDATE t SET b = ?`, 1, 2, 3)
	if id, err := r.LastInsertId(); id != 3 || err != nil {
		t.Error(id, err)
	}
	var b string
	if err := db.QueryRow(`INSERT INTO t (a, b) VALUES (9, 'y'); SELECT b FROM t WHERE a = 9`).Scan(&b); err != nil || b != "y" {
		t.Error(b, err)
	}
	if n, err := mustExec(t, db, `DELETE FROM t WHERE a < 9`).RowsAffected(); n != 3 || err != nil {
		t.Error(n, err)
	}
}

func TestRawTransactionsOnOneConnection(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`BEGIN`, `INSERT INTO t VALUES (1)`, `SAVEPOINT s`, `INSERT INTO t VALUES (2)`, `ROLLBACK TO s`, `RELEASE s`, `COMMIT`,
		`SAVEPOINT outer`, `INSERT INTO t VALUES (3)`, `RELEASE outer`, `PRAGMA foreign_keys = ON`,
	} {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db); n != 2 {
		t.Errorf("%d rows, wanted 1 and 3", n)
	}
}

// A transaction that was begun with SQL in the pool and forgotten must not stay open.
func TestForgottenTransactionIsUndone(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	mustExec(t, db, `BEGIN IMMEDIATE; INSERT INTO t VALUES (1)`)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := db.ExecContext(ctx, `INSERT INTO t VALUES (2)`); err != nil {
		t.Errorf("a later write: %v", err)
	}
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestContexts(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	for name, run := range map[string]func(ctx context.Context) error{
		"exec": func(ctx context.Context) error { _, err := db.ExecContext(ctx, endless); return err },
		"query": func(ctx context.Context) error {
			var n int
			return db.QueryRowContext(ctx, endless).Scan(&n)
		},
		"one row, then endless": func(ctx context.Context) error {
			rows, err := db.QueryContext(ctx, `SELECT 1 UNION ALL `+`SELECT count(*) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c)`)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		},
	} {
		t.Run(name+" cancelled", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			timer := time.AfterFunc(50*time.Millisecond, cancel)
			defer timer.Stop()
			start := time.Now()
			if err := run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
		t.Run(name+" past its deadline", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
	}
	mustExec(t, db, `INSERT INTO t VALUES (1)`) // every connection still works
}

// A writer that does not get its turn before its deadline says so, and nothing else suffers.
func TestWritersTakeTurns(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`INSERT INTO t VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.BeginTx(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second writer: %v", err)
	}
	if n := count(t, db); n != 0 {
		t.Errorf("a reader sees %d rows", n)
	}
	done := make(chan error)
	go func() { _, err := db.Exec(`INSERT INTO t VALUES (2)`); done <- err }()
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the writer that waited: %v", err)
	}
}

func TestManyCallers(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (1, 0)`)
	var wg sync.WaitGroup
	const callers, each = 64, 25
	for range callers {
		wg.Go(func() {
			for range each {
				tx, err := db.BeginTx(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				var n int
				err = tx.QueryRow(`UPDATE t SET n = n + 1 WHERE a = 1 RETURNING n`).Scan(&n)
				if err = errors.Join(err, tx.Commit()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	var n int
	if err := db.QueryRow(`SELECT n FROM t`).Scan(&n); err != nil || n != callers*each {
		t.Errorf("%d, %v", n, err)
	}
	if open := db.Stats().OpenConnections; open > 16 {
		t.Errorf("%d connections", open)
	}
}

func TestPrepared(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	if _, err := db.Prepare(`SELECT * FROM nosuch`); err == nil {
		t.Error("a statement that is none was prepared")
	}
	st, err := db.Prepare(`INSERT INTO t VALUES (?)`)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := st.Exec(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Stmt(st).Exec(1000); err != nil {
		t.Error(err)
	}
	tx.Commit()
	if n := count(t, db); n != 51 {
		t.Error(n)
	}
}

func TestKV(t *testing.T) {
	f := newFacet(t)
	kv, ctx := f.KV(), t.Context()
	if _, err := kv.Get(ctx, "none"); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("%v", err)
	}
	for i := range 1000 {
		if err := kv.Put(ctx, fmt.Sprintf("p/%04d", i), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	kv.Put(ctx, "q", nil)
	kv.Put(ctx, "p/0003", []byte("three"))
	if v, err := kv.Get(ctx, "p/0003"); string(v) != "three" || err != nil {
		t.Errorf("%q %v", v, err)
	}
	if v, err := kv.Get(ctx, "q"); len(v) != 0 || err != nil {
		t.Errorf("%q %v", v, err)
	}
	if err := kv.Delete(ctx, "p/0004"); err != nil {
		t.Error(err)
	}
	if err := kv.Delete(ctx, "p/0004"); err != nil {
		t.Errorf("again: %v", err)
	}
	n, last := 0, ""
	for k, v := range kv.List(ctx, "p/") {
		if k <= last || len(v) == 0 {
			t.Fatalf("%q after %q", k, last)
		}
		n, last = n+1, k
	}
	if n != 999 {
		t.Errorf("%d keys", n)
	}
	for name, err := range map[string]error{
		"empty key":   kv.Put(ctx, "", nil),
		"long key":    kv.Put(ctx, string(make([]byte, sdk.MaxKeyBytes+1)), nil),
		"large value": kv.Put(ctx, "k", make([]byte, sdk.MaxValueBytes+1)),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	// in a transaction with everything else
	mustExec(t, f.DB(), `CREATE TABLE t (a)`)
	tx, err := f.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	tx.Exec(`INSERT INTO t VALUES (1)`)
	if err := kv.Tx(tx).Put(ctx, "in", []byte("tx")); err != nil {
		t.Fatal(err)
	}
	if v, err := kv.Tx(tx).Get(ctx, "in"); string(v) != "tx" || err != nil {
		t.Errorf("%q %v", v, err)
	}
	tx.Rollback()
	if _, err := kv.Get(ctx, "in"); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("after a rollback: %v", err)
	}
	if _, err := f.DB().Exec(`SELECT * FROM _fgw_kv`); err == nil {
		t.Error("SQL reads the reserved table")
	}
	var failed error
	done, cancel := context.WithCancel(ctx)
	cancel()
	for range kv.List(done, "", &failed) {
		t.Error("a key")
	}
	if !errors.Is(failed, context.Canceled) {
		t.Errorf("%v", failed)
	}
}

func TestWithoutDatabase(t *testing.T) {
	f := facettest.New(t, noHandler, facettest.WithoutDatabase()).Facet
	_, err := f.DB().Exec(`SELECT 1`)
	var e *sdk.SQLError
	if !errors.As(err, &e) || e.Code != "no_database" {
		t.Errorf("%v", err)
	}
	if _, err := f.KV().Get(t.Context(), "x"); !errors.As(err, &e) {
		t.Errorf("%v", err)
	}
}

// What a transaction is begun with (BeginTx, or its first statement where there is no deadline) may fail; what
// comes after it in the transaction must then not be done outside of it.
func TestTransactionThatDoesNotBegin(t *testing.T) {
	db := newDB(t, `CREATE TABLE t (a INTEGER PRIMARY KEY)`)
	first, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for _, c := range []*sql.Conn{first, second} { // known to the worker from here on
		if err := c.PingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	holder, err := first.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(`INSERT INTO t VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	tx, err := second.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := tx.ExecContext(ctx, `INSERT INTO t VALUES (2)`); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no turn to write: %v", err)
	}
	if err := holder.Commit(); err != nil {
		t.Error(err)
	}
	if _, err := tx.Exec(`INSERT INTO t VALUES (3)`); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("a statement behind the one that failed to begin: %v", err)
	}
	if err := tx.Commit(); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("a commit of what did not begin: %v", err)
	}
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows", n)
	}
	// The end of the transaction's context stops the statement that waits to begin it.
	if holder, err = first.BeginTx(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(`INSERT INTO t VALUES (4)`); err != nil {
		t.Fatal(err)
	}
	begun, stop := context.WithCancel(t.Context())
	if tx, err = second.BeginTx(begun, nil); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Millisecond, stop)
	defer timer.Stop()
	if _, err := tx.Exec(`INSERT INTO t VALUES (5)`); !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended: %v", err)
	}
	if err := holder.Rollback(); err != nil {
		t.Error(err)
	}
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows", n)
	}
}
