package sqld

import (
	"reflect"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

func TestStatements(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, at DATETIME)"))
	a := c.ok(c.exec(1, "INSERT INTO t (b) VALUES (?), (?)", "x", nil))
	if a.result.RowsAffected != 2 || a.result.LastInsertID != 2 || a.result.InTx {
		t.Errorf("result %+v", a.result)
	}
	q := c.ok(c.query(1, "SELECT a, b, at, 1.5, x'00ff' FROM t ORDER BY a"))
	want := [][]any{{int64(1), "x", nil, 1.5, []byte{0, 255}}, {int64(2), nil, nil, 1.5, []byte{0, 255}}}
	if !reflect.DeepEqual(q.rows, want) {
		t.Errorf("rows %v", q.rows)
	}
	if c := q.columns; c[0].DeclType != "INTEGER" || c[2].DeclType != "DATETIME" || c[2].Name != "at" || c[3].DeclType != "" {
		t.Errorf("columns %v", c)
	}
	if v := c.value(2, "SELECT count(*) FROM t WHERE b = :b", sqlchan.Arg{Name: "b", Value: "x"}); v != int64(1) {
		t.Errorf("count %v", v)
	}
}
