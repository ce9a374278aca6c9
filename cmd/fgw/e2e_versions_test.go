package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// edit changes the source of an app.
func edit(t *testing.T, app, from, to string) {
	t.Helper()
	source := filepath.Join(app, "main.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		t.Fatalf("%s has no %q", source, from)
	}
	if err := os.WriteFile(source, []byte(strings.ReplaceAll(string(text), from, to)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCanary(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	app := deployTemplate(t, g, "counter")
	const objects = 12
	// second asks every object, and tells which run the second version.
	second := func() (which [objects]bool, n int) {
		t.Helper()
		for i := range objects {
			status, page := g.get(fmt.Sprintf("/t/object-%d/counter/", i))
			if status != 200 {
				t.Fatalf("object %d: %d %s", i, status, page)
			}
			if which[i] = strings.Contains(page, "<h1>Second</h1>"); which[i] {
				n++
			}
		}
		return which, n
	}
	if _, n := second(); n != 0 {
		t.Fatalf("%d objects run what was not deployed", n)
	}
	edit(t, app, "<h1>Counter</h1>", "<h1>Second</h1>")
	var deployed struct {
		Version, Canary int
	}
	g.json(&deployed, "deploy", app, "--namespace", "t", "--canary", "40")
	if deployed.Version != 2 || deployed.Canary != 40 {
		t.Errorf("deploy says %+v", deployed)
	}
	some, n := second()
	if n == 0 || n == objects {
		t.Errorf("%d of %d objects run the canary of 40 %%", n, objects)
	}
	g.json(&deployed, "deploy", app, "--namespace", "t", "--canary", "80")
	if deployed.Version != 2 || deployed.Canary != 80 {
		t.Errorf("with the same code, deploy says %+v", deployed)
	}
	more, m := second()
	for i := range some {
		if some[i] && !more[i] {
			t.Errorf("object %d went back", i)
		}
	}
	if m < n || m == objects {
		t.Errorf("%d of %d objects run the canary of 80 %%, %d did of 40", m, objects, n)
	}
	if got := g.must("apps", "versions", "t/counter"); !strings.Contains(got, "canary 80 %") {
		t.Errorf("apps versions says\n%s", got)
	}
	g.must("apps", "rollback", "t/counter")
	if _, n := second(); n != 0 {
		t.Errorf("%d objects run a canary that has ended", n)
	}
	g.must("deploy", app, "--namespace", "t", "--canary", "40")
	if got := g.must("apps", "promote", "t/counter"); !strings.Contains(got, "t/counter version 3 is live") {
		t.Errorf("promote says %q", got)
	}
	if _, n := second(); n != objects {
		t.Errorf("%d of %d objects run what was promoted", n, objects)
	}
	for _, test := range []struct {
		line string
		code int
		says string
	}{
		{"apps promote t/counter", exitNotFound, "canary"},
		{"deploy " + app + " --namespace t --canary 101", exitUsage, "1 to 100"},
		{"deploy " + app + " --namespace t --app other --canary 10", exitNotFound, "other"},
	} {
		if got := g.run(strings.Fields(test.line)...); got.code != test.code || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%s: %+v", test.line, got)
		}
	}
}

// An app that is removed runs no more, and the command says that it is done.
func TestAppsRemoveStopsWhatRuns(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	deployTemplate(t, g, "counter")
	g.get("/t/a/counter/")
	g.must("apps", "rm", "t/counter", "--yes")
	eventually(t, "the facet stops", func() bool {
		var facets []struct{ State string }
		g.json(&facets, "facets", "ls", "t")
		return len(facets) == 1 && facets[0].State == "stopped"
	})
	if status, body := g.get("/t/a/counter/"); status != 404 || !strings.Contains(body, "app_not_found") {
		t.Errorf("%d %s", status, body)
	}
	if got := g.run("apps", "rm", "t/counter", "--yes"); got.code != exitNotFound {
		t.Errorf("removed twice: %+v", got)
	}
}

// What deploy prints can be clicked.
func TestDeploysAddresses(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	app := deployTemplate(t, g, "counter")
	var deployed struct{ URL, Origin string }
	g.json(&deployed, "deploy", app, "--namespace", "t")
	if deployed.URL != "http://"+g.addr+"/t/me/counter/" || !strings.HasPrefix(deployed.Origin, "http://counter--me--t.localhost:") {
		t.Fatalf("deploy says %+v", deployed)
	}
	for _, url := range []string{deployed.URL, deployed.Origin} {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Host = g.addr // names below localhost resolve in browsers, not everywhere
		req.Host, _, _ = strings.Cut(strings.TrimPrefix(url, "http://"), "/")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", url, resp.Status)
		}
	}
	said := g.must("deploy", app, "--namespace", "t")
	for _, want := range []string{deployed.URL, deployed.Origin, "any object's name"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
}

func TestAuditCommand(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	g := startGateway(t, data)
	deployTemplate(t, g, "counter")
	if got := g.run("audit", "t/a/counter", "on"); got.code != exitNotFound {
		t.Errorf("of a facet that never was: %+v", got)
	}
	g.get("/t/a/counter/")
	logged := func(text string) func() bool {
		return func() bool {
			for _, line := range strings.Split(g.must("logs", "t/a/counter", "--output", "json"), "\n") {
				if strings.Contains(line, `"stream":"sql"`) && strings.Contains(line, text) && strings.Contains(line, " rows=") {
					return true
				}
			}
			return false
		}
	}
	g.must("audit", "t/a/counter", "on")
	g.must("invoke", "t/a/counter", "/", "-X", "POST") // the instance runs already
	eventually(t, "the app's statement", logged("UPDATE"))
	g.stop()
	g = startGateway(t, data)
	g.must("sql", "t/a/counter", "SELECT 'by hand'")
	eventually(t, "the administrator's statement after a restart", logged("by=administrator"))
	g.must("audit", "t/a/counter", "off")
	g.must("sql", "t/a/counter", "SELECT 'unseen'")
	g.must("audit", "t/a/counter", "on")
	g.must("sql", "t/a/counter", "SELECT 'the last'")
	eventually(t, "the last statement", logged("the last"))
	if logged("unseen")() {
		t.Error("a statement was logged while the audit was off")
	}
	if got := g.run("audit", "t/a/counter", "maybe"); got.code != exitUsage {
		t.Errorf("neither on nor off: %+v", got)
	}
	for _, name := range []string{"fgw_sql_statements_total", "fgw_sql_rows_read_total", "fgw_sql_result_bytes_total"} {
		if got := rig.Metric(t, g.data, name); got == 0 {
			t.Errorf("%s is 0", name)
		}
	}
}

func TestFacetsUsageAndStart(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	deployTemplate(t, g, "counter")
	g.must("apps", "set", "t/counter", "env.COLOUR=hush", "secret.KEY=hush")
	g.get("/t/a/counter/")
	var detail struct {
		Start *struct {
			Bundle, Egress string
			Env, Services  []string
			Children       bool
			Limits         map[string]any
		}
	}
	text := g.must("facets", "inspect", "t/a/counter", "--output", "json")
	if strings.Contains(text, "hush") || strings.Contains(text, "KEY") {
		t.Errorf("inspect tells too much: %s", text)
	}
	g.json(&detail, "facets", "inspect", "t/a/counter")
	if s := detail.Start; s == nil || len(s.Bundle) != 64 || len(s.Env) != 1 || s.Env[0] != "COLOUR" || s.Egress != "none" || s.Children || len(s.Limits) == 0 {
		t.Errorf("it was started with %+v", s)
	}
	var usage struct {
		Requests, Starts int
		StorageBytes     int64 `json:"storage_bytes"`
	}
	g.json(&usage, "facets", "usage", "t/a/counter")
	if usage.Requests < 1 || usage.Starts != 1 || usage.StorageBytes == 0 {
		t.Errorf("usage says %+v", usage)
	}
	g.must("invoke", "t/a/counter", "/", "-X", "POST")
	g.must("facets", "clone", "t/a/counter", "t/a/copy")
	if got := g.run("facets", "clone", "t/a/counter", "t/a/copy"); got.code != exitUsage {
		t.Errorf("over one that exists, without --yes: %+v", got)
	}
	const all = "SELECT group_concat(sql) AS s FROM sqlite_schema"
	if a, b := g.must("sql", "t/a/counter", all), g.must("sql", "t/a/copy", all); a != b {
		t.Errorf("the copy holds\n%s\nand not\n%s", b, a)
	}
}
