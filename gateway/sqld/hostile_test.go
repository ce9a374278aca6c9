package sqld

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// chain is a SELECT whose value doubles with each of n subselects.
func chain(n int) string {
	sql := "SELECT 'x' AS a"
	for range n {
		sql = "SELECT a||a AS a FROM (" + sql + ")"
	}
	return sql
}

// aliases is a SELECT in which each of n subselects names the one before it twice.
func aliases(n int) string {
	sql := "SELECT 1 AS a"
	for range n {
		sql = "SELECT a+a AS a FROM (" + sql + ")"
	}
	return sql
}

func generatedColumns(n int) string {
	var b strings.Builder
	b.WriteString("CREATE TABLE generated (c0 INT")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, ", c%d AS (c%d+c%d)", i, i-1, i-1)
	}
	return b.String() + ")"
}

// TestHostile has a row for each statement that was found to hang or swell a
// plain SQLite. Each gets its named error, or a quick answer, within bounds, and
// the session lives on.
func TestHostile(t *testing.T) {
	const (
		endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) "
		million = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT 1000000) "
		budget  = allowance * 300 * time.Millisecond
	)
	big := strings.Repeat("a", 1<<20)
	tests := []struct {
		name string
		sql  string
		args []any
		code string // "" = must succeed
		any  bool   // any of timeout or success will do: fast machines finish
	}{
		{name: "infinite CTE", sql: endless + "SELECT count(*) FROM c", code: sqlchan.CodeStatementTimeout},
		{name: "cross join", sql: million + "SELECT count(*) FROM c, c AS d, c AS e", code: sqlchan.CodeStatementTimeout},
		{name: "window", sql: million + "SELECT sum(i) OVER (ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM c, (SELECT 1 UNION SELECT 2) LIMIT 1", code: sqlchan.CodeStatementTimeout, any: true},
		{name: "LIKE join", sql: million + "SELECT count(*) FROM c, c AS d WHERE c.i LIKE '%' || d.i || '%'", code: sqlchan.CodeStatementTimeout},
		{name: "one row, then endless", sql: "SELECT 1 UNION ALL SELECT * FROM (" + endless + "SELECT i FROM c WHERE i < 0)", code: sqlchan.CodeStatementTimeout},
		{name: "endless rows", sql: endless + "SELECT i, hex(zeroblob(1000)) FROM c", code: sqlchan.CodeResultLimit, any: true},
		{name: "zeroblob of a billion", sql: "SELECT zeroblob(1000000000)", code: sqlchan.CodeSizeLimit},
		{name: "printf of a billion", sql: "SELECT printf('%1000000000d', 1)", code: sqlchan.CodeSizeLimit},
		{name: "printf precision", sql: "SELECT length(printf('%.100000000f', 1.0))", code: sqlchan.CodeSizeLimit},
		{name: "hex of randomblob", sql: "SELECT hex(randomblob(500000000))", code: sqlchan.CodeSizeLimit},
		{name: "nested replace", sql: "SELECT replace(replace(replace(hex(zeroblob(50000)),'0','00000000000'),'0','00000000000'),'0','00000000000')", code: sqlchan.CodeSizeLimit},
		{name: "group_concat", sql: endless + "SELECT group_concat(hex(zeroblob(1000))) FROM c", code: sqlchan.CodeSizeLimit, any: true},
		{name: "json_group_array", sql: endless + "SELECT json_group_array(hex(zeroblob(1000))) FROM c", code: sqlchan.CodeMemoryLimit, any: true},
		{name: "doubling values", sql: chain(40), code: sqlchan.CodeMemoryLimit},
		{name: "doubling aliases", sql: aliases(40), code: sqlchan.CodeMemoryLimit},
		{name: "generated columns", sql: generatedColumns(30), code: sqlchan.CodeMemoryLimit},
		{name: "instr", sql: "SELECT instr(?1 || ?1, ?1 || 'b')", args: []any{big}},
		{name: "replace", sql: "SELECT length(replace(?1, substr(?1, 1, 500000) || 'b', ''))", args: []any{big}},
		{name: "trim", sql: "SELECT length(trim(?1, ?2))", args: []any{strings.Repeat("z", 1<<20), strings.Repeat("abcdefghijklmnopqrstuvwxy", 40000) + "z"}},
		{name: "trim of broken UTF-8", sql: "SELECT length(trim(?1, ?2))", args: []any{strings.Repeat("z", 1<<20), strings.Repeat("\xc0\x80\x80\x80\x80", 200000)}, code: sqlchan.CodeStatementTimeout, any: true},
		{name: "unhex", sql: "SELECT length(unhex(?1, ?2))", args: []any{strings.Repeat("-", 1<<20), strings.Repeat("x", 1<<20) + "-"}},
		{name: "json_patch", sql: "SELECT json_patch('{}', '{}')", code: sqlchan.CodeDenied},
		{name: "jsonb_patch", sql: "SELECT jsonb_patch('{}', '{}')", code: sqlchan.CodeDenied},
		{name: "sorter", sql: million + "SELECT i FROM c, (SELECT 1 UNION SELECT 2) ORDER BY hex(zeroblob(500)) || i LIMIT 1", code: sqlchan.CodeMemoryLimit, any: true},
		{name: "DISTINCT", sql: endless + "SELECT count(*) FROM (SELECT DISTINCT hex(zeroblob(500)) || i FROM c)", code: sqlchan.CodeMemoryLimit, any: true},
		{name: "materialised CTE", sql: endless + ", m(x) AS MATERIALIZED (SELECT hex(zeroblob(1000)) FROM c) SELECT count(*) FROM m, m AS n", code: sqlchan.CodeMemoryLimit, any: true},
		{name: "TEMP TABLE", sql: "CREATE TEMP TABLE x (a)", code: sqlchan.CodeDenied},
		{name: "TEMP VIEW", sql: "CREATE TEMP VIEW x AS SELECT 1", code: sqlchan.CodeDenied},
		{name: "temp schema", sql: "CREATE TABLE temp.x (a)", code: sqlchan.CodeDenied},
		{name: "growth", sql: "CREATE TABLE growth (a); INSERT INTO growth " + endless + "SELECT randomblob(100000) FROM c", code: sqlchan.CodeStorageQuota, any: true},
		{name: "parentheses", sql: "SELECT " + strings.Repeat("(", 100000) + "1" + strings.Repeat(")", 100000), code: sqlchan.CodeSizeLimit},
		{name: "sum", sql: "SELECT 1" + strings.Repeat("+1", 100000), code: sqlchan.CodeSizeLimit},
		{name: "NOT", sql: "SELECT " + strings.Repeat("NOT ", 100000) + "1", code: sqlchan.CodeSizeLimit},
		{name: "JSON nesting", sql: "SELECT json(?1)", args: []any{strings.Repeat("[", 100000)}, code: sqlchan.CodeSQL},
		{name: "variable number", sql: "SELECT ?1000000", code: sqlchan.CodeSizeLimit},
		{name: "long text", sql: "SELECT '" + strings.Repeat("a", 2<<20) + "'", code: sqlchan.CodeSizeLimit},
		{name: "LIKE with wildcards", sql: "SELECT ?1 LIKE ?2", args: []any{strings.Repeat("a", 4<<20-100), strings.Repeat("%a_", 24) + "b"}, code: sqlchan.CodeStatementTimeout, any: true},
		{name: "LIKE with a long pattern", sql: "SELECT ?1 LIKE ?2", args: []any{big, "%" + strings.Repeat("a", 4900) + "b"}, code: sqlchan.CodeStatementTimeout, any: true},
		{name: "LIKE with too long a pattern", sql: "SELECT ?1 LIKE ?2", args: []any{big, strings.Repeat("a", 12000)}, code: sqlchan.CodeSizeLimit},
		{name: "GLOB", sql: "SELECT ?1 GLOB ?2", args: []any{big, "*" + strings.Repeat("[a-z]", 900) + "b"}, code: sqlchan.CodeStatementTimeout, any: true},
		{name: "64-way join", sql: "SELECT count(*) FROM " + strings.TrimSuffix(strings.Repeat("(SELECT 1),", 60), ",")},
		{name: "65-way join", sql: "SELECT count(*) FROM " + strings.TrimSuffix(strings.Repeat("sqlite_schema,", 65), ","), code: sqlchan.CodeSizeLimit},
		{name: "load_extension", sql: "SELECT load_extension('x')", code: sqlchan.CodeDenied},
		{name: "readfile", sql: "SELECT readfile('/etc/passwd')", code: sqlchan.CodeSQL},
		{name: "ATTACH", sql: "ATTACH '../other/1.db' AS o", code: sqlchan.CodeDenied},
		{name: "ATTACH memory", sql: "ATTACH ':memory:' AS o", code: sqlchan.CodeDenied},
		{name: "ATTACH nothing", sql: "ATTACH '' AS o", code: sqlchan.CodeDenied},
		{name: "ATTACH by argument", sql: "ATTACH ? AS o", args: []any{"/tmp/x.db"}, code: sqlchan.CodeDenied},
		{name: "DETACH", sql: "DETACH main", code: sqlchan.CodeDenied},
		{name: "VACUUM INTO", sql: "VACUUM INTO '/tmp/fgw-vacuum.db'", code: sqlchan.CodeDenied},
		{name: "VACUUM INTO argument", sql: "VACUUM main INTO ?", args: []any{"/tmp/fgw-vacuum.db"}, code: sqlchan.CodeDenied},
		{name: "VACUUM INTO behind a comment", sql: "VACUUM/**/INTO/**/'/tmp/fgw-vacuum.db'", code: sqlchan.CodeDenied},
		{name: "VACUUM of a quoted schema INTO", sql: "/* a */ vacuum \"main\" into '/tmp/fgw-vacuum.db'", code: sqlchan.CodeDenied},
		{name: "writable_schema", sql: "PRAGMA writable_schema = 1", code: sqlchan.CodeDenied},
		{name: "sqlite_schema", sql: "DELETE FROM sqlite_schema", code: sqlchan.CodeSQL},
		{name: "dbpage", sql: "UPDATE sqlite_dbpage SET data = zeroblob(4096)", code: sqlchan.CodeSQL},
		{name: "read dbpage", sql: "SELECT * FROM sqlite_dbpage", code: sqlchan.CodeDenied},
		{name: "dbstat", sql: "SELECT * FROM dbstat", code: sqlchan.CodeDenied},
		{name: "fts5 shadow", sql: "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f_data VALUES (1, 'x')", code: sqlchan.CodeSQL},
		{name: "geopoly", sql: "CREATE VIRTUAL TABLE g USING geopoly(a)", code: sqlchan.CodeDenied},
		{name: "journal_mode", sql: "PRAGMA journal_mode = DELETE", code: sqlchan.CodeDenied},
		{name: "max_page_count", sql: "PRAGMA max_page_count = 1000000000", code: sqlchan.CodeDenied},
		{name: "temp_store_directory", sql: "PRAGMA temp_store_directory = '/tmp'", code: sqlchan.CodeDenied},
		{name: "hard_heap_limit", sql: "PRAGMA hard_heap_limit = 1", code: sqlchan.CodeDenied},
		{name: "soft_heap_limit", sql: "PRAGMA soft_heap_limit = 1", code: sqlchan.CodeDenied},
		{name: "case_sensitive_like", sql: "PRAGMA case_sensitive_like = 1", code: sqlchan.CodeDenied},
		{name: "module list", sql: "SELECT * FROM pragma_module_list", code: sqlchan.CodeDenied},
		{name: "compile options", sql: "PRAGMA compile_options", code: sqlchan.CodeDenied},
		{name: "second statement", sql: "SELECT 1; ATTACH 'x' AS y", code: sqlchan.CodeDenied},
		{name: "NUL", sql: "SELECT 1\x00; ATTACH 'x' AS y", code: sqlchan.CodeDenied},
	}
	os.Remove("/tmp/fgw-vacuum.db")
	c := serveFile(t)
	fresh := c.value(1, "SELECT 1")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			began := time.Now()
			req := c.start(sqlchan.Query, 1, payload(budget, 4, tt.sql, tt.args))
			a := c.discard(1, req)
			took := time.Since(began)
			if took > budget+slack*700*time.Millisecond {
				t.Errorf("took %v", took)
			}
			if _, err := os.Stat("/tmp/fgw-vacuum.db"); err == nil {
				os.Remove("/tmp/fgw-vacuum.db")
				t.Error("a file was written")
			}
			if used := sqlite.Total(); used > 80<<20 {
				t.Errorf("SQLite holds %d MiB", used>>20)
			}
			switch {
			case a.failure == nil && tt.code == "", a.failure == nil && tt.any:
			case a.failure == nil:
				t.Errorf("no error, want %s", tt.code)
			case a.failure.Code != tt.code && !(tt.any && a.failure.Code == sqlchan.CodeStatementTimeout):
				t.Errorf("%s: %s, want %q", a.failure.Code, a.failure.Message, tt.code)
			case strings.Contains(a.failure.Message, "/") || strings.Contains(a.failure.Message, "unable to open"):
				t.Errorf("the message tells a path: %s", a.failure.Message)
			case tt.code == sqlchan.CodeDenied && !strings.Contains(a.failure.Message, "allowed"):
				t.Errorf("the message tells no reason: %s", a.failure.Message)
			}
			c.exec(1, "DROP TABLE IF EXISTS growth")
			if v := c.value(1, "SELECT 1"); v != fresh {
				t.Errorf("the session is gone: %v", v)
			}
		})
	}
	c.t = t
}

// discard waits for an answer's end and drops its rows.
func (c *client) discard(session uint16, request uint32) (a answer) {
	c.t.Helper()
	for {
		p := c.message(request)
		switch p.h.Type {
		case sqlchan.Rows:
			a.batches++
			c.send(sqlchan.Credit, session, request, binary.AppendUvarint(nil, 1))
		case sqlchan.Done, sqlchan.WholeResult:
			return a
		case sqlchan.Error:
			a.failure = sqlchan.NewReader(p.payload).Failure()
			return a
		}
	}
}
