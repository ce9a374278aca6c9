package sqld

import (
	"fmt"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

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
