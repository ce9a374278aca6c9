package e2e_test

import (
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/admin"
)

// Each child's statements are counted: rows read and written, triggers included.
func TestRowsAreCounted(t *testing.T) {
	s := staged(t)
	s.script("a", "", `CREATE TABLE t (n INTEGER PRIMARY KEY)`, `CREATE TABLE log (n)`,
		`CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.n); END`)
	type used struct {
		RowsRead    int64 `json:"rows_read"`
		RowsWritten int64 `json:"rows_written"`
	}
	var before, after used
	s.Get(s.path("usage", "a", ""), &before)
	s.script("a", "", `INSERT INTO t SELECT value FROM generate_series(1, 1)`, `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100) INSERT INTO t SELECT n + 1000 FROM c`, `SELECT * FROM t`)
	s.Get(s.path("usage", "a", ""), &after)
	if w, r := after.RowsWritten-before.RowsWritten, after.RowsRead-before.RowsRead; w < 200 || w > 210 || r < 100 || r > 450 {
		t.Errorf("%d rows written, %d read", w, r)
	}
	var other used
	s.expect("b", "/count", "0")
	s.Get(s.path("usage", "b", ""), &other)
	if other.RowsWritten > 20 {
		t.Errorf("the sibling wrote %d rows", other.RowsWritten)
	}
}

// What one instance wrote is counted once, though an administrator's session with its database outlives it.
func TestRowsAreCountedOnce(t *testing.T) {
	s := staged(t)
	s.expect("a", "/count", "0")
	client, err := admin.Dial(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.SQLSession(t.Context(), s.address("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	written := func() int64 {
		var u struct {
			RowsWritten int64 `json:"rows_written"`
		}
		s.Get(s.path("usage", "a", ""), &u)
		return u.RowsWritten
	}
	s.script("a", "", `CREATE TABLE t (n)`, `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000) INSERT INTO t SELECT n FROM c`)
	before := written()
	for range 2 {
		s.done("abort", "a", "")
		s.on("a", "/mem") // another instance
	}
	if after := written(); before < 1000 || after > before+100 {
		t.Errorf("%d rows were written, and after the instance's end %d", before, after)
	}
}

// Nested transactions: an inner one is rolled back, the outer one stays.
func TestNestedTransactions(t *testing.T) {
	s := staged(t)
	s.script("a", "", `CREATE TABLE t (n)`)
	r := s.script("a", "?tx=commit", `INSERT INTO t VALUES (1)`, `SAVEPOINT one`, `INSERT INTO t VALUES (2)`, `SAVEPOINT two`, `INSERT INTO t VALUES (3)`,
		`ROLLBACK TO one`, `RELEASE one`, `INSERT INTO t VALUES (4)`)
	for i, x := range r {
		if x.Fault != nil {
			t.Errorf("statement %d: %+v", i, x.Fault)
		}
	}
	s.sees("a", `SELECT group_concat(n) FROM t`, "1,4")
	s.script("a", "?tx=rollback", `DELETE FROM t`)
	s.sees("a", `SELECT group_concat(n) FROM t`, "1,4")
}

// sees compares the one value that a query gives.
func (s *stage) sees(name, query, want string) {
	s.T.Helper()
	r := s.script(name, "", query)
	if r[0].Fault != nil || len(r[0].Rows) != 1 || r[0].Rows[0][0] != want {
		s.T.Errorf("%s gives %+v, not %s", query, r[0], want)
	}
}

// A deferred foreign key that is broken at the commit fails the commit; nothing of it stays, and the facet lives on.
func TestDeferredForeignKey(t *testing.T) {
	s := staged(t)
	s.script("a", "", `CREATE TABLE p (id INTEGER PRIMARY KEY)`, `CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)`)
	r := s.script("a", "?tx=commit&keys", `INSERT INTO c VALUES (7)`)
	if r[0].Fault != nil || r[1].Fault == nil || !strings.Contains(r[1].Fault.Message, "FOREIGN KEY") {
		t.Errorf("the commit: %+v", r)
	}
	s.sees("a", `SELECT count(*) || '' FROM c`, "0")
	r = s.script("a", "?tx=commit&keys", `INSERT INTO c VALUES (7)`, `INSERT INTO p VALUES (7)`)
	if r[2].Fault != nil {
		t.Errorf("a commit that is whole: %+v", r[2].Fault)
	}
	s.sees("a", `SELECT count(*) || '' FROM c`, "1")
	s.expect("a", "/mem", "0")
	if d := s.Inspect(s.address("a")); d.Usage.Starts != 1 {
		t.Errorf("it started %d times", d.Usage.Starts)
	}
}

// SQLITE_FULL: only committed rows stay, by each of the ways to run into it.
func TestFullDatabaseKeepsCommittedRows(t *testing.T) {
	s := staged(t)
	for name, run := range map[string][]string{
		"statement":   {"", `INSERT INTO t SELECT randomblob(3000000)`},
		"transaction": {"?tx=commit", `INSERT INTO t VALUES ('lost')`, `INSERT INTO t SELECT randomblob(3000000)`},
		"savepoint":   {"?tx=commit", `INSERT INTO t VALUES ('lost')`, `SAVEPOINT x`, `INSERT INTO t SELECT randomblob(3000000)`},
		"many":        {"", `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000) INSERT INTO t SELECT randomblob(1000) FROM c`},
	} {
		s.plan(name, plan{"storage": 1 << 20})
		s.script(name, "", `CREATE TABLE t (v)`, `INSERT INTO t VALUES ('kept')`)
		r := s.script(name, run[0], run[1:]...)
		failed := r[len(run)-2].Fault
		if failed == nil || failed.Code != "storage_quota" {
			t.Errorf("%s: %+v", name, failed)
		}
		s.sees(name, `SELECT count(*) || ' ' || min(v) FROM t WHERE v = 'kept'`, "1 kept")
		s.sees(name, `SELECT count(*) || '' FROM t WHERE typeof(v) = 'blob'`, "0")
		s.script(name, "", `INSERT INTO t VALUES ('after')`)
		s.sees(name, `SELECT count(*) || '' FROM t WHERE v = 'after'`, "1")
		s.expect(name, "/mem", "0")
	}
}

// Neither the supervisor reads a child's database, nor a child the supervisor's or a sibling's.
func TestDatabasesAreApart(t *testing.T) {
	s := staged(t)
	s.script("a", "", `CREATE TABLE treasure (word)`)
	for name, run := range map[string]func() []result{
		"sibling": func() []result {
			return s.script("b", "", `SELECT * FROM treasure`, `ATTACH '1.db' AS x`, `ATTACH '../x' AS x`, `VACUUM INTO 'x'`)
		},
	} {
		for i, r := range run() {
			if r.Fault == nil && i < 4 {
				t.Errorf("%s: statement %d succeeded", name, i)
			}
		}
	}
	out := s.Run("sql", s.address(), "SELECT * FROM treasure")
	if out.Code == 0 || !strings.Contains(out.Stderr, "no such table") {
		t.Errorf("the supervisor's database: exit %d %s", out.Code, out.Stderr)
	}
}
