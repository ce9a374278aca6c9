package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSQLModes(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	deployTemplate(t, g, "counter")
	g.get("/t/a/counter/")
	const rows = `SELECT 1 AS i, 'x,"y"' AS t, NULL AS n, 2.5 AS r, x'00ff' AS b UNION ALL SELECT 9223372036854775807, 'ü', 3, -1e300, x''`
	for _, test := range []struct{ flag, want string }{
		{"--output=json", `[{"i":1,"t":"x,\"y\"","n":null,"r":2.5,"b":{"base64":"AP8="}},` + "\n" +
			`{"i":9223372036854775807,"t":"ü","n":3,"r":-1e+300,"b":{"base64":""}}]` + "\n"},
		{"--mode=csv", "i,t,n,r,b\n1,\"x,\"\"y\"\"\",,2.5,00ff\n9223372036854775807,ü,3,-1e+300,\n"},
		{"--mode=line", "i = 1\nt = x,\"y\"\nn = NULL\nr = 2.5\nb = x'00ff'\n\ni = 9223372036854775807\nt = ü\nn = 3\nr = -1e+300\nb = x''\n"},
		{"--mode=table", "i                    t      n     r        b\n1                    x,\"y\"  NULL  2.5      x'00ff'\n9223372036854775807  ü      3     -1e+300  x''\n"},
	} {
		if got := g.must("sql", "t/a/counter", rows, test.flag); got != test.want {
			t.Errorf("%s:\n%s\nwanted\n%s", test.flag, got, test.want)
		}
	}
	for _, test := range []struct{ sql, want string }{
		{"SELECT 1 WHERE 0", "[]\n"},
		{"CREATE TABLE x (a); INSERT INTO x VALUES (1), (2)", "[]\n"},
		{"-- a comment\nSELECT count(*) AS c FROM x", "[{\"c\":2}]\n"},
		{"DELETE FROM x WHERE a = 2 RETURNING a; SELECT 5 AS b", "[{\"a\":2}]\n[{\"b\":5}]\n"},
		{"INSERT INTO x VALUES (2)", "[]\n"},
	} {
		if got := g.must("sql", "t/a/counter", test.sql, "--output", "json"); got != test.want {
			t.Errorf("%s: %q, wanted %q", test.sql, got, test.want)
		}
	}
	file := filepath.Join(t.TempDir(), "x.sql")
	if err := os.WriteFile(file, []byte("INSERT INTO x VALUES (3);\nSELECT count(*) AS c FROM x;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := g.must("sql", "t/a/counter", "--file", file, "--output", "json"); got != "[{\"c\":3}]\n" {
		t.Errorf("a file: %q", got)
	}
	for _, test := range []struct {
		sql  string
		code int
		says string
	}{
		{"SELECT * FROM nosuch", exitFailed, "no such table: nosuch"},
		{"SELEC 1", exitFailed, `near "SELEC": syntax error`},
		{"ATTACH DATABASE '/tmp/x' AS x", exitRefused, "ATTACH"},
	} {
		if got := g.run("sql", "t/a/counter", test.sql); got.code != test.code || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%s: exit %d, wanted %d with %q: %s", test.sql, got.code, test.code, test.says, got.stderr)
		}
	}
	big := g.must("sql", "t/a/counter", "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 100000) SELECT n, 'some text' AS s FROM c", "--mode", "csv")
	if lines := strings.Count(big, "\n"); lines != 100001 {
		t.Errorf("a big result has %d lines", lines)
	}
}
