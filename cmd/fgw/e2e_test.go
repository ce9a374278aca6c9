package main

import (
	"bufio"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The lines with which the README begins, as they stand.
func TestFirstLines(t *testing.T) {
	top := t.TempDir()
	g := startGateway(t, filepath.Join(top, "D"))
	g.must("namespaces", "create", "notes")
	app := filepath.Join(top, "guestbook")
	if got := fgw(t, "new", app); got.code != 0 {
		t.Fatal(got)
	}
	var deployed struct {
		Namespace, App, Bundle, URL string
		Version                     int
		Bytes                       int64
	}
	g.json(&deployed, "deploy", app, "--namespace", "notes")
	if deployed.Namespace != "notes" || deployed.App != "guestbook" || deployed.Version != 1 || len(deployed.Bundle) != 64 || deployed.Bytes < 1<<20 || deployed.URL == "" {
		t.Errorf("deploy says %+v", deployed)
	}
	status, page := g.get("/notes/alice/guestbook/")
	if status != 200 || !strings.Contains(page, "<html") {
		t.Fatalf("the page: %d %.300s", status, page)
	}
	if got := g.must("sql", "notes/alice/guestbook", "select count(*) from entry", "--output", "json"); got != "[{\"count(*)\":0}]\n" {
		t.Errorf("sql says %q", got)
	}
	var facets []map[string]any
	g.json(&facets, "facets", "ls")
	if len(facets) != 1 || facets[0]["address"] != "notes/alice/guestbook" || facets[0]["state"] != "running" || facets[0]["pid"] == nil {
		t.Errorf("facets ls says %v", facets)
	}
	var detail struct {
		Confinement struct {
			UID          int
			Seccomp      string
			Capabilities string
			NoNewPrivs   bool `json:"no_new_privs"`
		}
		Limits map[string]any
		Usage  map[string]any
	}
	g.json(&detail, "facets", "inspect", "notes/alice/guestbook")
	if c := detail.Confinement; c.UID == 0 || c.Seccomp != "filter" || c.Capabilities != "0" || !c.NoNewPrivs || len(detail.Limits) == 0 || len(detail.Usage) == 0 {
		t.Errorf("inspect says %+v", detail)
	}
}

func TestTheProgramIsStatic(t *testing.T) {
	f, err := elf.Open(program(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("bin/fgw needs a dynamic loader")
		}
	}
}

func TestExitCodes(t *testing.T) {
	top := t.TempDir()
	g := startGateway(t, filepath.Join(top, "data"))
	g.must("namespaces", "create", "t")
	text := filepath.Join(top, "text")
	if err := os.WriteFile(text, []byte("not an executable"), 0o755); err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(top, "library")
	for name, text := range map[string]string{"go.mod": "module library\n", "l.go": "package library\n"} {
		if err := errors.Join(os.MkdirAll(library, 0o755), os.WriteFile(filepath.Join(library, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		line string
		code int
		says string
	}{
		{"namespaces create t", exitConflict, "t"},
		{"namespaces create Bad_Name", exitUsage, "Bad_Name"},
		{"namespaces show nosuch", exitNotFound, "nosuch"},
		{"namespaces set t memory=banana", exitUsage, "memory"},
		{"namespaces set t nosuchkey=1", exitUsage, "nosuchkey"},
		{"namespaces rm t", exitUsage, "--yes"},
		{"namespaces ls --nosuchflag", exitUsage, "--nosuchflag"},
		{"namespaces ls --output yaml", exitUsage, "yaml"},
		{"namespaces", exitUsage, "namespaces"},
		{"nosuch", exitUsage, "nosuch"},
		{"apps versions t/nosuch", exitNotFound, "nosuch"},
		{"apps rollback t/nosuch", exitNotFound, "nosuch"},
		{"objects rm t/nosuch --yes", exitNotFound, "nosuch"},
		{"facets inspect t/nobody/probe", exitNotFound, "nobody"},
		{"facets inspect t/%zz/probe", exitUsage, "%zz"},
		{"facets delete t/nobody/probe", exitUsage, "--yes"},
		{"invoke t/nobody/probe /", exitFailed, "probe"},
		{"sql t/nobody/probe select+1", exitNotFound, "nobody"},
		{"deploy " + text + " --namespace t", exitFailed, "executable"},
		{"deploy /bin/true --namespace t --app dyn", exitFailed, "dynamic"},
		{"deploy " + top + "/nosuch --namespace t", exitNotFound, "nosuch"},
		{"deploy " + text, exitUsage, "--namespace"},
		{"deploy " + library + " --namespace t --app lib", exitFailed, "its package is not main"},
		{"deploy " + text + " --namespace nosuch", exitFailed, "executable"},
		{"namespaces show nosuch", exitNotFound, "hint: `fgw namespaces create"},
		{"apps versions t/nosuch", exitNotFound, "hint: `fgw apps ls`"},
		{"facets inspect t/nobody/probe", exitNotFound, "hint: `fgw objects ls"},
		{"logs nosuch", exitNotFound, `"nosuch"`},
		{"logs t/nobody", exitNotFound, "nobody"},
		{"logs t/nobody/probe", exitNotFound, "nobody"},
		{"logs --lines 0", exitUsage, "--lines 0"},
		{"invoke t/nobody/probe /", exitFailed, "hint: deploy one"},
		{"invoke nosuch/a/b /", exitFailed, "there is no namespace nosuch"},
		{"invoke t/nobody/probe / -X B@D", exitUsage, `the method "B@D"`},
		{"serve --listen nonsense", exitUsage, "missing port"},
		{"serve --listen 127.0.0.1:99999", exitUsage, "99999"},
	} {
		got := g.run(strings.Fields(test.line)...)
		if got.code != test.code || !strings.Contains(got.stderr, test.says) || !strings.HasPrefix(got.stderr, "fgw: ") && test.code != exitUsage {
			t.Errorf("fgw %s: exit %d, wanted %d with %q:\n%s", test.line, got.code, test.code, test.says, got.stderr)
		}
		if got.stdout != "" && !strings.HasPrefix(test.line, "invoke") {
			t.Errorf("fgw %s: standard output carries %q", test.line, got.stdout)
		}
	}
	for line, code := range map[string]string{"facets inspect t/nobody/probe": "object_not_found", "invoke t/nobody/nosuch": "app_not_found", "invoke nosuch/a/b": "namespace_not_found"} {
		got := g.run(append(strings.Fields(line), "--output", "json")...)
		lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
		var e struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil || e.Error.Code != code || e.Error.Message == "" {
			t.Errorf("fgw %s: the last line of standard error is %q (%v), wanted the code %s", line, lines[len(lines)-1], err, code)
		}
	}
}

// deployTemplate makes namespace t with an app from a template.
func deployTemplate(t *testing.T, g *testGateway, name string) string {
	t.Helper()
	g.must("namespaces", "create", "t")
	app := filepath.Join(t.TempDir(), name)
	if got := fgw(t, "new", app, "--template", name); got.code != 0 {
		t.Fatal(got.stderr)
	}
	g.must("deploy", app, "--namespace", "t")
	return app
}

func TestNewAppsBuildOffline(t *testing.T) {
	for _, template := range []string{"guestbook", "canvas", "counter"} {
		t.Run(template, func(t *testing.T) {
			top := t.TempDir()
			app := filepath.Join(top, "My App")
			if got := fgw(t, "new", app, "--template", template); got.code != 0 || !strings.Contains(got.stdout, "fgw deploy") {
				t.Fatal(got)
			}
			goFiles, err := filepath.Glob(filepath.Join(app, "*.go"))
			if err != nil || !slices.Equal(goFiles, []string{filepath.Join(app, "main.go"), filepath.Join(app, "main_test.go")}) {
				t.Errorf("its Go files are %v", goFiles)
			}
			for _, args := range [][]string{{"build", "-o", os.DevNull, "."}, {"vet", "./..."}, {"test", "./..."}} {
				cmd := exec.Command("go", args...)
				cmd.Dir = app
				cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "FGW="+program(t),
					"GOMODCACHE="+filepath.Join(top, "modules"))
				if said, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("go %v: %v\n%s", args, err, said)
				}
			}
		})
	}
	if got := fgw(t, "new", t.TempDir(), "--template", "nosuch"); got.code != exitUsage || !strings.Contains(got.stderr, "guestbook") {
		t.Errorf("an unknown template: %+v", got)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := fgw(t, "new", full); got.code != exitConflict {
		t.Errorf("a directory with something in it: %+v", got)
	}
}

func TestDeployPassesOnTheCompilersWords(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	app := deployTemplate(t, g, "counter")
	main, err := os.OpenFile(filepath.Join(app, "main.go"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(main, "\nfunc broken( {\n")
	main.Close()
	got := g.run("deploy", app, "--namespace", "t")
	if got.code != exitFailed || !regexp.MustCompile(`(?m)^\./main\.go:\d+:`).MatchString(got.stderr) {
		t.Errorf("exit %d:\n%s", got.code, got.stderr)
	}
	var versions []struct{ Version int }
	g.json(&versions, "apps", "versions", "t/counter")
	if len(versions) != 1 {
		t.Errorf("versions %v after a deploy that failed", versions)
	}
}

func TestDeployRollBackAndRemove(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	app := deployTemplate(t, g, "counter")
	source := filepath.Join(app, "main.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, []byte(strings.ReplaceAll(string(text), "<h1>Counter</h1>", "<h1>Second</h1>")), 0o644); err != nil {
		t.Fatal(err)
	}
	shows := func(want string) {
		t.Helper()
		if status, page := g.get("/t/a/counter/"); status != 200 || !strings.Contains(page, want) {
			t.Errorf("wanted %s: %d %s", want, status, page)
		}
	}
	shows("<h1>Counter</h1>")
	g.must("deploy", app, "--namespace", "t")
	shows("<h1>Second</h1>")
	g.must("apps", "rollback", "t/counter")
	shows("<h1>Counter</h1>")
	var versions []struct {
		Version int
		Live    bool
	}
	g.json(&versions, "apps", "versions", "t/counter")
	if len(versions) != 2 || versions[0].Version != 2 || versions[0].Live || !versions[1].Live {
		t.Errorf("versions %+v", versions)
	}
	g.must("objects", "rm", "t/a", "--yes")
	g.must("apps", "rm", "t/counter", "--yes")
	g.must("namespaces", "rm", "t", "--yes")
	if got := g.must("namespaces", "ls", "--output", "json"); got != "[]\n" {
		t.Errorf("left: %s", got)
	}
}

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

func TestInvoke(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	deployTemplate(t, g, "counter")
	if got := g.run("invoke", "t/a/counter"); got.code != 0 || !strings.Contains(got.stdout, "<output>0</output>") {
		t.Errorf("GET: %+v", got)
	}
	if got := g.run("invoke", "t/a/counter", "/", "-X", "POST", "-i"); got.code != 0 || !strings.HasPrefix(got.stdout, "HTTP/1.1 303 See Other\n") || !strings.Contains(got.stdout, "Location: ") {
		t.Errorf("POST: %+v", got)
	}
	if got := g.run("invoke", "t/a/counter", "-d", "x=1", "/"); got.code != 0 {
		t.Errorf("-d: %+v", got)
	}
	if got := g.run("invoke", "t/a/counter"); !strings.Contains(got.stdout, "<output>2</output>") {
		t.Errorf("after two POSTs: %+v", got)
	}
	if got := g.run("invoke", "t/a/counter", "/nosuch"); got.code != exitFailed {
		t.Errorf("404: %+v", got)
	}
}

func TestLogsFollow(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	app := deployTemplate(t, g, "counter")
	source := filepath.Join(app, "main.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "w.Header()", `f.Logger().InfoContext(r.Context(), "needle", "n", n); w.Header()`, 1))
	if err := os.WriteFile(source, text, 0o644); err != nil {
		t.Fatal(err)
	}
	g.must("deploy", app, "--namespace", "t")
	follow := exec.Command(program(t), "logs", "-f", "t/a/counter", "--data", g.data, "--output", "json")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		follow.Process.Kill()
		follow.Wait()
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	resp, err := http.Get("http://" + g.addr + "/t/a/counter/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case <-deadline:
			t.Fatal("the line did not come")
		case line, open := <-lines:
			if !open {
				t.Fatal("logs -f ended")
			}
			var r struct{ Address, Line, RequestID, Stream string }
			var raw map[string]any
			if json.Unmarshal([]byte(line), &raw) != nil || json.Unmarshal([]byte(line), &r) != nil {
				t.Fatalf("no JSON: %q", line)
			}
			if !strings.Contains(r.Line, "needle") {
				continue
			}
			if r.Address != "t/a/counter" || !strings.Contains(r.Line, "n=0") || raw["request_id"] != resp.Header.Get("X-Request-Id") {
				t.Errorf("the line says %s", line)
			}
			return
		}
	}
}

func TestRunShowsTheSamples(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: facets run with full confinement")
	}
	// The usual port is taken, by this test or by whoever else: any free one has to do.
	if l, err := net.Listen("tcp", defaultListen); err == nil {
		defer l.Close()
	}
	cmd := exec.Command(program(t), "run")
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	log := &lockedBuffer{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	urls := regexp.MustCompile(`http://((guestbook|canvas)--demo--apps\.localhost:(\d+))/`)
	var seen []string
	s := bufio.NewScanner(out)
	for s.Scan() {
		if m := urls.FindStringSubmatch(s.Text()); m != nil {
			req, err := http.NewRequest("GET", "http://127.0.0.1:"+m[3]+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = m[1]
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("%s: %s", m[0], resp.Status)
			}
			seen = append(seen, m[2])
		}
		if strings.HasPrefix(s.Text(), "^C") {
			break
		}
	}
	if !slices.Equal(seen, []string{"guestbook", "canvas"}) {
		t.Errorf("it showed %v; standard error:\n%s", seen, log)
	}
	family := descendants(cmd.Process.Pid)
	cmd.Process.Signal(syscall.SIGINT)
	for s.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("^C: %v; standard error:\n%s", err, log)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v (%v)", left, err)
	}
	for _, pid := range family {
		if alive(pid) {
			t.Errorf("process %d was left", pid)
		}
	}
}

func TestAloneCommands(t *testing.T) {
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"version"}, "fgw "},
		{[]string{"--version"}, "fgw "},
		{[]string{"version", "--output", "json"}, `"version":`},
		{[]string{"help"}, "facets"},
		{[]string{"help", "facets", "inspect"}, "ADDRESS"},
		{[]string{"completion", "bash"}, "complete "},
		{[]string{"completion", "zsh"}, "compdef"},
		{[]string{"completion", "fish"}, "complete -c fgw"},
		{[]string{"facets", "", completionFlag}, "inspect"},
		{[]string{"facets", "ins", completionFlag}, "inspect\n"},
		{[]string{"deploy", "--", completionFlag}, "--namespace"},
	} {
		if got := fgw(t, test.args...); got.code != 0 || !strings.Contains(got.stdout, test.says) || got.stderr != "" {
			t.Errorf("fgw %v: %+v", test.args, got)
		}
	}
	var layers []struct {
		Layer            string
		Active, Required bool
	}
	got := fgw(t, "doctor", "--output", "json")
	if err := json.Unmarshal([]byte(got.stdout), &layers); err != nil || len(layers) < 6 {
		t.Fatalf("doctor says %q (%v)", got.stdout, err)
	}
	if l := layers[len(layers)-1]; l.Layer != "toolchain" || l.Required || !l.Active {
		t.Errorf("doctor's last row is %+v; Go is here, or these tests were not", l)
	}
	missing := slices.ContainsFunc(layers, func(l struct {
		Layer            string
		Active, Required bool
	}) bool {
		return l.Required && !l.Active
	})
	if want := map[bool]int{false: 0, true: exitRefused}[missing]; got.code != want {
		t.Errorf("doctor: exit %d, wanted %d", got.code, want)
	}
}
