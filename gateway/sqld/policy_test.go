package sqld

import (
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	lib "modernc.org/sqlite/lib"
)

func TestTexts(t *testing.T) {
	for _, tt := range []struct {
		sql, word string
		plain     bool
	}{
		{"VACUUM", "vacuum", true},
		{" ;\n-- a\n/* b */VaCuUm ; ", "vacuum", true},
		{`VACUUM "main";`, "vacuum", true},
		{"VACUUM main", "vacuum", true},
		{"VACUUM -- end\n", "vacuum", true},
		{"VACUUM INTO 'x'", "vacuum", false},
		{"VACUUM/**/INTO x", "vacuum", false},
		{"VACUUM main INTO ?", "vacuum", false},
		{"VACUUM into", "vacuum", false},
		{"SELECT 1", "select", false},
		{"/* open", "", false},
		{"-- only", "", false},
		{"", "", false},
	} {
		if got := firstWord([]byte(tt.sql)); got != tt.word {
			t.Errorf("first word of %q: %q", tt.sql, got)
		}
		if tt.word == "vacuum" && plainVacuum([]byte(tt.sql)) != tt.plain {
			t.Errorf("%q is taken for plain: %v", tt.sql, !tt.plain)
		}
	}
}

func FuzzTexts(f *testing.F) {
	f.Add([]byte("/* a */ -- b\n vacuum main into 'x'"))
	f.Fuzz(func(t *testing.T, sql []byte) {
		if firstWord(sql) == "vacuum" {
			plainVacuum(sql)
		}
	})
}

// TestUnknownActions denies what a later SQLite may ask about.
func TestUnknownActions(t *testing.T) {
	for action := range 100 {
		var s seen
		v := s.authorize(action, "a", "b", "main", "")
		known := action >= lib.SQLITE_CREATE_INDEX && action <= lib.SQLITE_RECURSIVE
		if !known && (v != sqlite.Deny || s.denied == "") {
			t.Errorf("action %d: %v, %q", action, v, s.denied)
		}
	}
}

// TestReservedShadows refuses names that begin as the gateway's own, of tables and of virtual tables, whose shadow tables begin with their names.
func TestReservedShadows(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE plain (a); CREATE VIRTUAL TABLE words USING fts5(x); CREATE VIRTUAL TABLE boxes USING rtree(id, a, b)"))
	for _, sql := range []string{
		"CREATE TABLE _FGW_kv (a)", "ALTER TABLE plain RENAME TO _fgw_kv", "CREATE VIRTUAL TABLE _fgw USING fts5(x)", "CREATE VIRTUAL TABLE _Fgw USING rtree(id, a, b)",
		"ALTER TABLE words RENAME TO _Fgw", "ALTER TABLE boxes RENAME TO \"_fgw\"",
	} {
		if f := c.fails(sqlchan.CodeDenied, c.exec(1, sql)); !strings.Contains(f.Message, "reserved for the gateway") {
			t.Errorf("%s: %s", sql, f.Message)
		}
	}
	if n := c.value(1, "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_fgw%' ESCAPE '\\'"); n != int64(0) {
		t.Errorf("%v reserved names are taken", n)
	}
}

func TestUnsynced(t *testing.T) {
	var u unsynced
	for i := uint64(1); i <= 100; i++ {
		u.add(i, 100_000, 0)
	}
	if n := u.bytes(); n != 10_000_000 {
		t.Errorf("%d bytes", n)
	}
	if len(u.sums) > 12 {
		t.Errorf("%d sums are kept", len(u.sums))
	}
	u.durable(50)
	if n := u.bytes(); n < 5_000_000 || n > 6_200_000 {
		t.Errorf("%d bytes after half is durable", n)
	}
	u.durable(100)
	if n := u.bytes(); n != 0 {
		t.Errorf("%d bytes after all is durable", n)
	}
}
