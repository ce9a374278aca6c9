package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// aSupervisor starts one child from the app counter, with bounds and with things that nobody else is to see.
const aSupervisor = `package main

import (
	"context"
	"net/http"

	"github.com/facetgateway/fgw/sdk"
)

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	kid := f.Facets().Get("kid", func(context.Context) (*sdk.Start, error) {
		return &sdk.Start{
			Code: sdk.App("counter", 0), Props: "hush", Env: map[string]string{"COLOUR": "hush"}, Secrets: map[string]string{"KEY": "hush"},
			Limits: sdk.Limits{Rows: 2, Memory: 64 << 20}, Egress: sdk.EgressTo("hush.example"), Children: true,
		}, nil
	})
	return kid, nil
}
`

func TestATreeOfFacets(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	g := startGateway(t, data)
	deployTemplate(t, g, "counter")
	boss := filepath.Join(t.TempDir(), "boss")
	if got := fgw(t, "new", boss, "--template", "counter"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	if err := os.WriteFile(filepath.Join(boss, "main.go"), []byte(aSupervisor), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(boss, "main_test.go")); err != nil {
		t.Fatal(err)
	}
	g.must("deploy", boss, "--namespace", "t")
	g.must("namespaces", "set", "t", "supervisor=boss")
	var deployed struct{ URL, Origin string }
	g.json(&deployed, "deploy", boss, "--namespace", "t")
	if deployed.URL != "http://"+g.addr+"/t/me/" || !strings.HasPrefix(deployed.Origin, "http://me--t.localhost:") {
		t.Errorf("deploy says %+v", deployed)
	}
	if status, page := g.get("/t/me/"); status != 200 || !strings.Contains(page, "<h1>Counter</h1>") {
		t.Fatalf("%d %s", status, page)
	}
	tree := g.must("facets", "ls")
	lines := strings.Split(tree, "\n")
	if len(lines) < 3 || !strings.HasPrefix(lines[1], "t/me/ ") || !strings.HasPrefix(lines[2], "└ kid ") {
		t.Errorf("the tree is\n%s", tree)
	}
	text := g.must("facets", "inspect", "t/me/kid", "--output", "json")
	for _, want := range []string{`"rows":2`, `"egress":"hosts"`, `"env":["COLOUR"]`, `"children":true`, `"memory":"64MiB"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if people := g.must("facets", "inspect", "t/me/kid"); strings.Contains(text+people, "hush") || strings.Contains(text+people, "KEY") {
		t.Errorf("inspect tells too much: %s\n%s", text, people)
	}
	const three = "SELECT 1 UNION SELECT 2 UNION SELECT 3"
	if got := g.run("sql", "t/me/kid", three); got.code != exitRefused || !strings.Contains(got.stderr, "rows=2") {
		t.Errorf("more rows than the limit: %+v", got)
	}
	g.must("sql", "t/me/", three) // the supervisor has no such limit
	g.stop()
	g = startGateway(t, data)
	var facets []struct{ Address, App, State string }
	g.json(&facets, "facets", "ls", "t/me")
	if len(facets) != 2 || facets[0].Address != "t/me/" || facets[0].App != "boss" || facets[0].State != "stopped" || facets[1].Address != "t/me/kid" {
		t.Errorf("after a restart: %+v", facets)
	}
}
