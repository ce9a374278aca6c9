package sqltest

import (
	"context"
	"database/sql"
	"sync"
	"testing"
)

func BenchmarkPointRead(b *testing.B) {
	db := newDB(b, `CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO t VALUES (1, 42)`)
	st, err := db.Prepare(`SELECT n FROM t WHERE id = ?`)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, v := range []struct {
		name string
		row  func() *sql.Row
	}{
		{"text", func() *sql.Row { return db.QueryRow(`SELECT n FROM t WHERE id = ?`, 1) }},
		{"cancellable", func() *sql.Row { return db.QueryRowContext(ctx, `SELECT n FROM t WHERE id = ?`, 1) }},
		{"prepared", func() *sql.Row { return st.QueryRow(1) }},
	} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var n int
				if err := v.row().Scan(&n); err != nil || n != 42 {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkPointReadBy64(b *testing.B) {
	const callers = 64
	db := newDB(b, `CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO t VALUES (1, 42)`)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range b.N / callers {
				var n int
				if err := db.QueryRow(`SELECT n FROM t WHERE id = ?`, 1).Scan(&n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkWrite(b *testing.B) {
	db := newDB(b, `CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO t VALUES (1, 0)`)
	b.Run("one statement", func(b *testing.B) {
		for b.Loop() {
			mustExec(b, db, `UPDATE t SET n = n + 1 WHERE id = 1`)
		}
	})
	b.Run("transaction", func(b *testing.B) {
		for b.Loop() {
			tx, err := db.Begin()
			if err != nil {
				b.Fatal(err)
			}
			var n int
			if err := tx.QueryRow(`UPDATE t SET n = n + 1 WHERE id = ? RETURNING n`, 1).Scan(&n); err != nil {
				b.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkThousandRows(b *testing.B) {
	db := newDB(b, `CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
		WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000) INSERT INTO t SELECT n, 'name ' || n FROM c`)
	b.ReportAllocs()
	for b.Loop() {
		rows, err := db.Query(`SELECT id, name FROM t`)
		if err != nil {
			b.Fatal(err)
		}
		count := 0
		for rows.Next() {
			var id int
			var name string
			if err := rows.Scan(&id, &name); err != nil {
				b.Fatal(err)
			}
			count++
		}
		if err := rows.Err(); err != nil || count != 1000 {
			b.Fatal(count, err)
		}
	}
}
