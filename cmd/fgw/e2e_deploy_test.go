package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

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
	edit(t, app, "<h1>Counter</h1>", "<h1>Second</h1>")
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
