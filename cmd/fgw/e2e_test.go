package main

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
