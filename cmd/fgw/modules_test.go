package main

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// publish puts a module into a directory that serves as a module server.
func publish(t *testing.T, server, module, version string) {
	t.Helper()
	mod := "module " + module + "\n\ngo 1.20\n"
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for name, text := range map[string]string{"go.mod": mod, "x.go": "package x\n\nconst Version = \"" + version + "\"\n"} {
		w, err := z.Create(module + "@" + version + "/" + name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(server, module, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	versions, _ := os.ReadFile(filepath.Join(dir, "list"))
	for name, text := range map[string]string{
		"list": string(versions) + version + "\n", version + ".mod": mod, version + ".zip": archive.String(),
		version + ".info": `{"Version":"` + version + `","Time":"2026-01-02T03:04:05Z"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestModules allows modules, another version of one, and takes one away; what can't be had changes nothing.
func TestModules(t *testing.T) {
	cached, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Skip("needs the Go toolchain: ", err)
	}
	program(t) // built with the settings as they are, not those below
	server, cache := t.TempDir(), t.TempDir()
	for _, version := range []string{"v1.0.0", "v1.1.0"} {
		publish(t, server, "example.org/one", version)
	}
	publish(t, server, "example.org/two", "v0.1.0")
	// What the SDK needs is in the cache that this test was built from.
	t.Setenv("GOPROXY", "file://"+server+",file://"+filepath.Join(strings.TrimSpace(string(cached)), "cache", "download"))
	t.Setenv("GOMODCACHE", cache)
	t.Setenv("GOSUMDB", "off")
	t.Setenv("GOTOOLCHAIN", "local")
	t.Cleanup(func() { exec.Command("go", "clean", "-modcache").Run() }) // its directories are read-only
	g := startGateway(t, filepath.Join(t.TempDir(), "D"))
	type module struct{ Path, Version string }
	for _, step := range []struct {
		args []string
		code int
		want []module
	}{
		{[]string{"allow", "example.org/one@v1.0.0"}, 0, []module{{"example.org/one", "v1.0.0"}}},
		{[]string{"allow", "example.org/two@v0.1.0", "example.org/one@latest"}, 0, []module{{"example.org/one", "v1.1.0"}, {"example.org/two", "v0.1.0"}}},
		{[]string{"allow", "example.org/none@latest"}, exitFailed, []module{{"example.org/one", "v1.1.0"}, {"example.org/two", "v0.1.0"}}},
		{[]string{"allow", "example.org/one"}, exitUsage, []module{{"example.org/one", "v1.1.0"}, {"example.org/two", "v0.1.0"}}},
		{[]string{"rm", "example.org/none"}, exitNotFound, []module{{"example.org/one", "v1.1.0"}, {"example.org/two", "v0.1.0"}}},
		{[]string{"rm", "example.org/one"}, 0, []module{{"example.org/two", "v0.1.0"}}},
		{[]string{"rm", "example.org/two"}, 0, []module{}},
	} {
		if got := g.run(append([]string{"modules"}, step.args...)...); got.code != step.code {
			t.Errorf("modules %v: %v", step.args, got)
		}
		var listed []module
		if g.json(&listed, "modules", "ls"); !slices.Equal(listed, step.want) {
			t.Errorf("after %v: %v, want %v", step.args, listed, step.want)
		}
	}
}
