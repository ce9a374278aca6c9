package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// The commands against a real admin API with a real registry, but with facets
// that are only told of: what a person sees, without root and without a
// process. The end-to-end tests have the processes.

// toldFacets is a runtime in which these facets are, and nothing happens.
type toldFacets struct {
	admin.Runtime // what no test asks for
	facets        []admin.FacetInfo
	done          []string // what was asked of it
}

func (r *toldFacets) Facets(_ context.Context, prefix address.Address) ([]admin.FacetInfo, error) {
	var found []admin.FacetInfo
	for _, f := range r.facets {
		if a, err := address.Parse(f.Address); err == nil && prefix.Contains(a) {
			found = append(found, f)
		}
	}
	return found, nil
}

func (r *toldFacets) Inspect(_ context.Context, a address.Address) (*admin.FacetDetail, error) {
	for _, f := range r.facets {
		if f.Address == a.String() {
			return &admin.FacetDetail{FacetInfo: f, Limits: registry.DefaultLimits(),
				Confinement: json.RawMessage(`{"uid":70001,"namespaces":["pid","net"],"cgroups":{"memory":"/fgw/1"},"seccomp":"filter","no_new_privs":true,"capabilities":"0","landlock":true}`),
				LastExit:    &admin.LastExit{Reason: "crashed", Detail: "panic: \x1b[31moh\nexit status 2"}}, nil
		}
	}
	return nil, fmt.Errorf("facet %s %w", a, registry.ErrNotFound)
}

func (r *toldFacets) Abort(_ context.Context, a address.Address, reason string) error {
	r.done = append(r.done, "abort "+a.String()+": "+reason)
	return nil
}

func (r *toldFacets) Delete(_ context.Context, a address.Address) error {
	r.done = append(r.done, "delete "+a.String())
	return nil
}

func (r *toldFacets) SQL(context.Context, address.Address) (admin.Session, error) {
	return toldRows{}, nil
}

// toldRows answers any SQL with two rows of every type.
type toldRows struct{}

func (toldRows) Query(_ context.Context, sql string) (admin.Rows, error) {
	if strings.HasPrefix(sql, "BAD") {
		return nil, &sqlchan.Failure{Code: sqlchan.CodeSQL, Message: `near "BAD": syntax error`}
	}
	rows := &rowsOf{columns: []sqlchan.Column{{Name: "i"}, {Name: "t"}, {Name: "n"}, {Name: "r"}, {Name: "b"}}}
	rows.rows = [][]any{{int64(1), `x,"y"`, nil, 2.5, []byte{0, 255}}, {int64(9223372036854775807), "<ü>", int64(3), -1e300, []byte{}}}
	return rows, nil
}

func (toldRows) Close() error { return nil }

type rowsOf struct {
	columns []sqlchan.Column
	rows    [][]any
}

func (r *rowsOf) Columns() []sqlchan.Column { return r.columns }
func (r *rowsOf) Result() sqlchan.Result    { return sqlchan.Result{} }
func (r *rowsOf) Close() error              { return nil }
func (r *rowsOf) Next(row []any) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	copy(row, r.rows[0])
	r.rows = r.rows[1:]
	return nil
}

// console runs commands against one admin API.
type console struct {
	t       *testing.T
	dir     string
	runtime *toldFacets
}

func newConsole(t *testing.T, facets ...admin.FacetInfo) *console {
	t.Helper()
	c := &console{t: t, dir: t.TempDir(), runtime: &toldFacets{facets: facets}}
	r, err := registry.Open(t.Context(), c.dir)
	if err != nil {
		t.Fatal(err)
	}
	bundles, err := bundle.NewStore(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := logs.Open(logs.Config{Dir: filepath.Join(c.dir, "logs")})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(c.dir, admin.SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	h := admin.NewServer(admin.Config{Registry: r, Bundles: bundles, Logs: lines, Runtime: c.runtime, Version: "test",
		Invoke: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Saw", r.Header.Get("X-Given"))
			switch r.URL.Path {
			case "/cut":
				panic(http.ErrAbortHandler)
			case "/upgrade":
				conn, _, _ := http.NewResponseController(w).Hijack()
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nhello\n")
				conn.Read(make([]byte, 1)) // until the client leaves
				return
			}
			if r.URL.Path == "/missing" {
				w.WriteHeader(http.StatusNotFound)
			}
			fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.RequestURI(), body)
		})})
	go func() { served <- admin.Serve(ctx, l, h, nil, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		<-served
		lines.Close()
		r.Close()
	})
	return c
}

// run carries out a command line as main would, in this process.
func (c *console) run(args ...string) outcome {
	c.t.Helper()
	var out, err bytes.Buffer
	code := run(c.t.Context(), append(append([]string{"fgw"}, args...), "--data", c.dir), stdio{strings.NewReader(""), &out, &err})
	return outcome{out.String(), err.String(), code}
}

func facet(address, state string) admin.FacetInfo {
	f := admin.FacetInfo{Address: address, Namespace: "t", Object: "a", Facet: address[strings.LastIndex(address, "/")+1:], App: "probe", Version: 2, State: state, StorageBytes: 4096}
	if state == admin.StateRunning {
		pid, since := 4321, time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
		f.PID, f.Since, f.MemoryBytes = &pid, &since, 5<<20
	}
	return f
}

func TestFacetsAsATree(t *testing.T) {
	c := newConsole(t, facet("t/b/probe", "stopped"), facet("t/a/app/child", "stopped"), facet("t/a/app", "running"), facet("t/a/", "running"), facet("t/a/app/child/deep%2F", "backoff"), facet("t/a/app/zoe", "stopped"), facet("t/a/web", "stopped"))
	c.run("namespaces", "create", "t")
	want := `FACET         STATE    APP       PID   SINCE                REQUESTS  MEMORY  STORAGE
t/a/          running  probe v2  4321  2026-01-02 03:04:05  0         5 MiB   4 KiB
├ app         running  probe v2  4321  2026-01-02 03:04:05  0         5 MiB   4 KiB
│ ├ child     stopped  probe v2  -     -                    0         -       4 KiB
│ │ └ deep%2F backoff  probe v2  -     -                    0         -       4 KiB
│ └ zoe       stopped  probe v2  -     -                    0         -       4 KiB
└ web         stopped  probe v2  -     -                    0         -       4 KiB
t/b/probe     stopped  probe v2  -     -                    0         -       4 KiB
`
	if got := c.run("facets", "ls"); squeeze(got.stdout) != squeeze(want) || got.code != 0 {
		t.Errorf("got\n%s%s", got.stdout, got.stderr)
	}
	got := c.run("facets", "ls", "t/b", "--output", "json")
	if want := `[{"address":"t/b/probe","namespace":"t","object":"a","facet":"probe","app":"probe","version":2,"state":"stopped","pid":null,"since":null,"requests":0,"memory_bytes":0,"storage_bytes":4096}]` + "\n"; got.stdout != want {
		t.Errorf("got %s", got.stdout)
	}
	if got := c.run("facets", "ls", "t/c", "--output", "json"); got.stdout != "[]\n" || got.code != 0 {
		t.Errorf("none: %+v", got)
	}
	if got := c.run("facets", "inspect", "t/a/app"); !strings.Contains(got.stdout, "4321") || !strings.Contains(got.stdout, "landlock") || !strings.Contains(got.stdout, `panic: \x1b[31moh`) {
		t.Errorf("inspect:\n%s%s", got.stdout, got.stderr)
	}
}

// squeeze makes one blank of many, so that tests don't count columns.
func squeeze(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestDestructionIsConfirmed(t *testing.T) {
	c := newConsole(t, facet("t/a/app", "running"))
	if got := c.run("facets", "delete", "t/a/app"); got.code != exitUsage || !strings.Contains(got.stderr, "--yes") || len(c.runtime.done) > 0 {
		t.Errorf("%+v %v", got, c.runtime.done)
	}
	if got := c.run("facets", "clone", "t/a/b", "t/a/app"); got.code != exitUsage || !strings.Contains(got.stderr, "--yes") {
		t.Errorf("a clone onto what exists: %+v", got)
	}
	if got := c.run("facets", "abort", "t/a/app", "--reason", "enough"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if got := c.run("facets", "delete", "t/a/app", "-y"); got.code != 0 || strings.Join(c.runtime.done, "; ") != "abort t/a/app: enough; delete t/a/app" {
		t.Errorf("%+v %v", got, c.runtime.done)
	}
}

func TestNamespaceCommands(t *testing.T) {
	c := newConsole(t)
	if got := c.run("namespaces", "ls", "--output", "json"); got.stdout != "[]\n" {
		t.Errorf("none: %+v", got)
	}
	for _, test := range []struct {
		line string
		code int
		out  string
		says string
	}{
		{"namespaces create notes", 0, "namespace notes created\n  fgw deploy DIR --namespace notes --data " + c.dir + "\n", ""},
		{"namespaces create notes", exitConflict, "", "fgw: namespaces create: "},
		{"namespaces create Notes", exitUsage, "", "bad name"},
		{"namespaces set notes memory=64MiB cpu=0.5 create=admin", 0, "64MiB", ""},
		{"namespaces set notes memory=1", exitUsage, "", "memory"},
		{"namespaces set notes memory", exitUsage, "", "KEY=VALUE"},
		{"namespaces show notes", 0, "admin", ""},
		{"namespaces show nosuch", exitNotFound, "", "nosuch"},
		{"namespaces ls", 0, "notes", ""},
		{"objects ls notes", 0, "", ""},
		{"objects create notes/a%20b", 0, "notes/a%20b", ""},
		{"objects create notes/a%20b", exitConflict, "", "exists"},
		{"objects ls notes", 0, "notes/a%20b", ""},
		{"objects create notes", exitUsage, "", "NAMESPACE/OBJECT"},
		{"apps ls", 0, "", ""},
		{"apps versions notes", exitUsage, "", "NAMESPACE/APP"},
		{"apps rollback notes/x zero", exitUsage, "", "zero"},
		{"logs notes --lines 5", 0, "", ""},
		{"logs --since yesterday", exitUsage, "", "yesterday"},
	} {
		got := c.run(strings.Fields(test.line)...)
		if got.code != test.code || !strings.Contains(got.stdout, test.out) || !strings.Contains(got.stderr, test.says) || test.code == 0 && got.stderr != "" {
			t.Errorf("fgw %s: %+v", test.line, got)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	c := newConsole(t)
	got := c.run("namespaces", "show", "nosuch", "--output", "json")
	if got.code != exitNotFound || got.stdout != "" || !strings.HasSuffix(got.stderr, "\n"+`{"error":{"code":"namespace_not_found","message":"namespaces show: namespace \"nosuch\" not found"}}`+"\n") {
		t.Errorf("%+v", got)
	}
}

func TestRowsInEachMode(t *testing.T) {
	c := newConsole(t, facet("t/a/app", "stopped"))
	for _, test := range []struct{ flag, want string }{
		{"--output=json", `[{"i":1,"t":"x,\"y\"","n":null,"r":2.5,"b":{"base64":"AP8="}},` + "\n" +
			`{"i":9223372036854775807,"t":"<ü>","n":3,"r":-1e+300,"b":{"base64":""}}]` + "\n"},
		{"--mode=csv", "i,t,n,r,b\n1,\"x,\"\"y\"\"\",,2.5,00ff\n9223372036854775807,<ü>,3,-1e+300,\n"},
		{"--mode=line", "i = 1\nt = x,\"y\"\nn = NULL\nr = 2.5\nb = x'00ff'\n\ni = 9223372036854775807\nt = <ü>\nn = 3\nr = -1e+300\nb = x''\n"},
		{"--mode=table", "i                    t      n     r        b\n1                    x,\"y\"  NULL  2.5      x'00ff'\n9223372036854775807  <ü>    3     -1e+300  x''\n"},
	} {
		if got := c.run("sql", "t/a/app", "SELECT", test.flag); got.stdout != test.want || got.code != 0 {
			t.Errorf("%s: %d\n%s%s\nwanted\n%s", test.flag, got.code, got.stdout, got.stderr, test.want)
		}
	}
	if got := c.run("sql", "t/a/app", "BAD"); got.code != exitFailed || got.stderr != "fgw: sql: near \"BAD\": syntax error\n" {
		t.Errorf("%+v", got)
	}
	file := filepath.Join(t.TempDir(), "x.sql")
	if err := os.WriteFile(file, []byte("SELECT 1;\n\nBAD;\nSELECT 2;"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := c.run("sql", "t/a/app", "--file", file, "--mode", "csv"); got.code != exitFailed || got.stderr != "fgw: sql: line 3: near \"BAD\": syntax error\n" || strings.Count(got.stdout, "\n") != 3 {
		t.Errorf("%+v", got)
	}
}

// A facet that cuts its answer off is no gateway that is not there.
func TestInvokeOfAnAnswerThatBreaksOff(t *testing.T) {
	c := newConsole(t, facet("t/a/app", "stopped"))
	if got := c.run("invoke", "t/a/app", "/cut"); got.code != exitFailed || !strings.Contains(got.stderr, "broke off") {
		t.Errorf("%+v", got)
	}
}

// writes is a writer that calls when something is written.
type writes func()

func (f writes) Write(p []byte) (int, error) { f(); return len(p), nil }

func TestInvokeOfAnUpgradeIsInterrupted(t *testing.T) {
	c := newConsole(t, facet("t/a/app", "stopped"))
	ctx, interrupt := context.WithCancel(t.Context())
	ended, said := make(chan int), &bytes.Buffer{}
	go func() {
		ended <- run(ctx, []string{"fgw", "invoke", "t/a/app", "/upgrade", "-H", "Connection: Upgrade", "-H", "Upgrade: shout", "--data", c.dir},
			stdio{strings.NewReader(""), writes(interrupt), said})
	}()
	select {
	case code := <-ended:
		if code != exitFailed || said.String() != "fgw: invoke: interrupted\n" {
			t.Errorf("%d, %s", code, said)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on after it was interrupted")
	}
}

func TestInvokeMakesTheRequest(t *testing.T) {
	c := newConsole(t, facet("t/a/app", "stopped"))
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"t/a/app"}, 0, "GET / "},
		{[]string{"t/a/app", "/x//y?q=1%202"}, 0, "GET /x//y?q=1%202 "},
		{[]string{"t/a/app", "/x", "-d", "data"}, 0, "POST /x data"},
		{[]string{"t/a/app", "-XPUT", "-d", ""}, 0, "PUT / "},
		{[]string{"t/a/app", "/missing"}, exitFailed, "GET /missing "},
	} {
		if got := c.run(append([]string{"invoke"}, test.args...)...); got.code != test.code || got.stdout != test.want {
			t.Errorf("%v: %+v, wanted %q", test.args, got, test.want)
		}
	}
	got := c.run("invoke", "t/a/app", "-i", "-H", "X-Given: a, b")
	if head, body, _ := strings.Cut(got.stdout, "\n\n"); !strings.HasPrefix(head, "HTTP/1.1 200 OK\n") || !strings.Contains(head, "\nX-Saw: a, b") || body != "GET / " {
		t.Errorf("%+v", got)
	}
}
