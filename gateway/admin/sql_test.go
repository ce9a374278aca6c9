package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/facetgateway/fgw/gateway/sqld"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// serveSQL, where set, makes this test program a SQL worker. It is a process of
// its own: the worker configures SQLite before any database is opened.
const serveSQL = "FGW_TEST_SQL"

func worker() int {
	if err := sqld.ServeOne(context.Background(), os.NewFile(3, "channel"), ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// database gives sessions with one database, served by a real SQL worker.
func database(t *testing.T) func(context.Context) (Session, error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[0]), "channel")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveSQL+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	c, err := client.New(os.NewFile(uintptr(fds[1]), "client"), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close() // which ends the worker
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return func(context.Context) (Session, error) {
		s, err := c.Session()
		if err != nil {
			return nil, err
		}
		return NewSession(s, nil), nil
	}
}

func TestSQL(t *testing.T) {
	g := serve(t, t.TempDir())
	g.runtime.sql = database(t)
	c := dial(t, g.dir)
	ctx := t.Context()

	const types = `SELECT 1 AS i, -9223372036854775808 AS least, 9007199254740993 AS big, 2.0 AS r, 1e300 AS e, 9e999 AS inf,
		'x' || char(10) || '<é>' AS t, CAST(x'ff61' AS TEXT) AS bad, x'00ff' AS b, x'' AS empty, NULL AS n`
	rows, err := c.SQL(ctx, "n/o/f", types)
	if err != nil {
		t.Fatal(err)
	}
	if cols := rows.Columns(); len(cols) != 11 || cols[0].Name != "i" {
		t.Errorf("columns are %v", cols)
	}
	want := []any{int64(1), int64(math.MinInt64), int64(9007199254740993), 2.0, 1e300, math.Inf(1), "x\n<é>", "\xffa", []byte{0, 0xff}, []byte{}, nil}
	if !rows.Next() || !reflect.DeepEqual(rows.Values(), want) {
		t.Errorf("got %#v, want %#v (%v)", rows.Values(), want, rows.Err())
	}
	if rows.Next() || rows.Err() != nil {
		t.Errorf("another row, %v", rows.Err())
	}
	if err := rows.Close(); err != nil {
		t.Error(err)
	}

	rows, err = c.SQL(ctx, "n/o/f", `CREATE TABLE t (a INTEGER PRIMARY KEY, b DATETIME); INSERT INTO t VALUES (7, 'x'), (8, 'y')`)
	if err != nil {
		t.Fatal(err)
	}
	if rows.Next() || rows.Result() != (SQLResult{RowsAffected: 2, LastInsertID: 8}) || len(rows.Columns()) != 0 {
		t.Errorf("%+v, %v", rows.Result(), rows.Err())
	}
	rows.Close()
	_, err = c.SQL(ctx, "n/o/f", `SELEC 1`)
	wants(t, "a syntax error", err, 422, sqlchan.CodeSQL)
	if !strings.Contains(err.Error(), `near "SELEC": syntax error`) {
		t.Errorf("not SQLite's own words: %v", err)
	}
	_, err = c.SQL(ctx, "n/o/f", `ATTACH '/etc/passwd' AS p`)
	wants(t, "ATTACH", err, 403, sqlchan.CodeDenied)
	_, err = c.SQL(ctx, "n/nobody/f", `SELECT 1`)
	wants(t, "a facet of no namespace", err, 404, "namespace_not_found")
	if _, err := c.NamespacesCreate(ctx, "n"); err != nil {
		t.Fatal(err)
	}
	_, err = c.SQL(ctx, "n/nobody/f", `SELECT 1`)
	wants(t, "an unknown facet", err, 404, "facet_not_found")
	_, err = c.SQL(ctx, "n/o", `SELECT 1`)
	wants(t, "an object", err, 400, "bad_name")
}

func TestSQLSession(t *testing.T) {
	g := serve(t, t.TempDir())
	g.runtime.sql = database(t)
	c := dial(t, g.dir)
	s, err := c.SQLSession(t.Context(), "n/o/f")
	if err != nil {
		t.Fatal(err)
	}
	run := func(sql string) *SQLRows {
		t.Helper()
		rows, err := s.Query(sql)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	run(`CREATE TABLE t (a)`)
	run(`BEGIN`)
	run(`INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n`)
	if _, err := s.Query(`SELECT nothing`); err == nil {
		t.Error("no error")
	}
	rows := run(`SELECT a FROM t`)
	for i := range 1000 {
		if !rows.Next() || rows.Values()[0] != int64(i+1) {
			t.Fatalf("row %d is %v, %v", i+1, rows.Values(), rows.Err())
		}
	}
	// The rest of a result that is not read does not disturb the next.
	rows = run(`SELECT count(*) FROM t`)
	if !rows.Next() || rows.Values()[0] != int64(100000) {
		t.Errorf("%v, %v", rows.Values(), rows.Err())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s2, err := c.SQL(t.Context(), "n/o/f", `SELECT count(*) FROM t`)
	if err != nil {
		t.Fatal(err)
	}
	defer s2.Close()
	if !s2.Next() || s2.Values()[0] != int64(0) {
		t.Errorf("after a session that ended in a transaction: %v, %v", s2.Values(), s2.Err())
	}
}

// hanging is a session whose statement ends only when it is told to.
type hanging struct{ started, ended chan struct{} }

func (h hanging) Query(ctx context.Context, _ string) (Rows, error) {
	close(h.started)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (h hanging) Close() error {
	close(h.ended)
	return nil
}

func TestSQLClientGone(t *testing.T) {
	g := serve(t, t.TempDir())
	h := hanging{make(chan struct{}), make(chan struct{})}
	g.runtime.sql = func(context.Context) (Session, error) { return h, nil }
	c := dial(t, g.dir)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-h.started
		cancel()
	}()
	if _, err := c.SQL(ctx, "n/o/f", `SELECT 1`); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-h.ended // the statement was stopped and the session closed
}

// endless gives rows for as long as somebody takes them.
type endless struct{ ended chan struct{} }

func (e endless) Query(context.Context, string) (Rows, error) { return endlessRows{}, nil }

func (e endless) Close() error {
	close(e.ended)
	return nil
}

type endlessRows struct{}

func (endlessRows) Columns() []sqlchan.Column { return []sqlchan.Column{{Name: "a"}} }
func (endlessRows) Next(row []any) error      { row[0] = int64(1); return nil }
func (endlessRows) Result() sqlchan.Result    { return sqlchan.Result{} }
func (endlessRows) Close() error              { return nil }

func TestSQLStreams(t *testing.T) {
	g := serve(t, t.TempDir())
	e := endless{make(chan struct{})}
	g.runtime.sql = func(context.Context) (Session, error) { return e, nil }
	rows, err := dial(t, g.dir).SQL(t.Context(), "n/o/f", `SELECT 1`)
	if err != nil {
		t.Fatal(err)
	}
	for range 100_000 {
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
	}
	rows.Close()
	<-e.ended
}

func TestSQLByHand(t *testing.T) {
	g := serve(t, t.TempDir())
	g.runtime.sql = database(t)
	c := dial(t, g.dir)
	req, err := newRequest(t.Context(), "POST", pathSQL, query("address", "n/o/f"), strings.NewReader(`{"sql":"SELECT 1 AS a, 'x' AS b"}{"sql":"SELECT"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.send(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	lines := strings.Split(string(b), "\n")
	if err != nil || len(lines) != 5 || lines[0] != `{"columns":[{"name":"a","type":""},{"name":"b","type":""}]}` || lines[1] != `{"row":[1,"x"]}` ||
		!strings.HasPrefix(lines[2], `{"done":`) || !strings.HasPrefix(lines[3], `{"error":{"code":"sql_error"`) {
		t.Errorf("%q, %v", lines, err)
	}
}

func FuzzValue(f *testing.F) {
	for _, s := range []string{`null`, `1`, `-1.5e3`, `"x"`, `{"base64":"AA=="}`, `{"text":"/w=="}`, `{"real":"+Inf"}`, `{}`, `[1]`, `1e999`, `true`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v value
		if json.Unmarshal(b, &v) != nil {
			return
		}
		text := appendValue(nil, v.v)
		var again value
		if err := json.Unmarshal(text, &again); err != nil || fmt.Sprint(again.v) != fmt.Sprint(v.v) || reflect.TypeOf(again.v) != reflect.TypeOf(v.v) {
			t.Fatalf("%q -> %#v -> %s -> %#v, %v", b, v.v, text, again.v, err)
		}
	})
}

func BenchmarkSQLRows(b *testing.B) {
	g := serve(b, b.TempDir())
	g.runtime.sql = func(context.Context) (Session, error) { return endless{make(chan struct{})}, nil }
	rows, err := dial(b, g.dir).SQL(b.Context(), "n/o/f", `SELECT 1`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	b.ReportAllocs()
	for b.Loop() {
		if !rows.Next() {
			b.Fatal(rows.Err())
		}
	}
}
