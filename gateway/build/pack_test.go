package build

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// proxy is a module server in a directory.
type proxy struct{ dir string }

// add publishes a module.
func (p proxy) add(t *testing.T, module, version, mod string, files map[string]string) {
	t.Helper()
	within := map[string]string{}
	mod = "module " + module + "\n\ngo 1.20\n" + mod
	for name, text := range files {
		within[module+"@"+version+"/"+name] = text
	}
	within[module+"@"+version+"/go.mod"] = mod
	dir := filepath.Join(p.dir, module, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	list, _ := os.ReadFile(filepath.Join(dir, "list"))
	for name, text := range map[string][]byte{
		"list": append(list, version+"\n"...), version + ".mod": []byte(mod), version + ".zip": archiveOf(t, within),
		version + ".info": fmt.Appendf(nil, `{"Version":%q,"Time":"2026-01-02T03:04:05Z"}`, version),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPack fetches modules from a server, packs them, and has the archive taken.
func TestPack(t *testing.T) {
	sdk := builtIn(t)
	p := proxy{t.TempDir()}
	p.add(t, "example.org/needed", "v0.3.0", "", map[string]string{"n.go": "package needed\n\nconst Word = \"red\"\n"})
	p.add(t, "example.org/needed", "v0.4.0", "", map[string]string{"n.go": "package needed\n\nconst Word = \"green\"\n"})
	p.add(t, "example.org/colour", "v1.2.0", "require example.org/needed v0.4.0\n", map[string]string{
		"c.go": "package colour\n\nimport \"example.org/needed\"\n\nvar Name = needed.Word\n", "hue/h.go": "package hue\n", "cmd/x/main.go": "package main\n\nfunc main() {}\n",
		"internal/i.go": "package internal\n", "other/o_windows.go": "package other\n", "c/c.go": "package c\n\nimport \"C\"\n",
	})
	// yamux, which the SDK needs, comes from the module cache that this test was built from; nothing from the network.
	cached, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Skip("needs the Go toolchain: ", err)
	}
	cache := t.TempDir()
	packer := &Packer{SDK: sdk, Env: append(os.Environ(), "GOMODCACHE="+cache, "GOSUMDB=off", "GONOPROXY=none", "GOTOOLCHAIN=local",
		"GOPROXY=file://"+p.dir+",file://"+filepath.Join(strings.TrimSpace(string(cached)), "cache", "download"))}
	t.Cleanup(func() { // its directories are read-only
		clean := exec.Command("go", "clean", "-modcache")
		clean.Env = packer.Env
		clean.Run()
	})
	for _, test := range []struct{ query, want string }{{"latest", "v0.4.0"}, {"v0.3.0", "v0.3.0"}} {
		if m, err := packer.Resolve(t.Context(), "example.org/needed", test.query); err != nil || m.Version != test.want {
			t.Errorf("%s is %+v, %v", test.query, m, err)
		}
	}
	if _, err := packer.Resolve(t.Context(), "example.org/none", "latest"); err == nil {
		t.Error("a module that nobody has is found")
	}
	var archive bytes.Buffer
	got, err := packer.Pack(t.Context(), []Module{{"example.org/colour", "v1.2.0"}, {"example.org/needed", "v0.3.0"}}, &archive)
	if err != nil {
		if strings.Contains(err.Error(), "yamux") {
			t.Skip("the SDK's modules are not in the module cache: ", err)
		}
		t.Fatal(err)
	}
	if want := []Module{{"example.org/colour", "v1.2.0"}, {"example.org/needed", "v0.4.0"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("packed %v, want %v", got, want)
	}
	m, err := openModules(t.TempDir(), sdk)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Replace(&archive); err != nil {
		t.Fatal(err)
	}
	tree := m.acquire()
	for _, has := range []string{"example.org/colour", "example.org/colour/hue", "example.org/needed", "github.com/hashicorp/yamux", sdkModule + "/sdk"} {
		if !tree.has(has) {
			t.Errorf("the tree has no %s, but %v", has, tree.packages)
		}
	}
	for _, not := range []string{"example.org/colour/internal", "example.org/colour/cmd/x", "example.org/colour/other"} {
		if tree.has(not) {
			t.Errorf("the tree has %s", not)
		}
	}
	archive.Reset()
	if got, err := packer.Pack(t.Context(), nil, &archive); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if err := m.Replace(&archive); err != nil || len(m.List()) != 0 {
		t.Errorf("no modules: %v", err)
	}
}
