package build

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/appvendor"
)

func builtIn(t testing.TB) *appvendor.Set {
	t.Helper()
	sdk, err := appvendor.Open()
	if err != nil {
		t.Skipf("needs the archive of the SDK's sources, which `make appvendor` makes: %v", err)
	}
	return sdk
}

// archiveOf makes an archive of modules from its files.
func archiveOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range sorted(files) {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(files[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// colour is an archive of one allowed module with one that it needs.
func colour(word string) map[string]string {
	return map[string]string{
		"manifest.json": `{"modules":[{"path":"example.org/colour","version":"v1.2.0"}],"requires":[{"path":"example.org/colour","version":"v1.2.0"},{"path":"example.org/needed","version":"v0.3.0","indirect":true}],"packages":["example.org/colour","example.org/colour/hue"]}`,
		"vendor/modules.txt": "# example.org/colour v1.2.0\n## explicit; go 1.20\nexample.org/colour\nexample.org/colour/hue\n" +
			"# example.org/needed v0.3.0\n## explicit\nexample.org/needed\n",
		"vendor/example.org/colour/c.go":     "package colour\n\nimport \"example.org/needed\"\n\nvar Name = needed.Word\n",
		"vendor/example.org/colour/hue/h.go": "package hue\n",
		"vendor/example.org/needed/n.go":     "package needed\n\nconst Word = \"" + word + "\"\n",
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	m, err := openModules(dir, builtIn(t))
	if err != nil {
		t.Fatal(err)
	}
	bare := m.acquire()
	if !bare.has(sdkModule+"/sdk") || bare.allows("example.org/colour") != nil || len(m.List()) != 0 {
		t.Errorf("tree %+v", bare)
	}
	if err := m.Replace(bytes.NewReader(archiveOf(t, colour("red")))); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.dir(bare.number)); err != nil {
		t.Errorf("a tree in use is gone: %v", err)
	}
	m.release(bare)
	if _, err := os.Stat(m.dir(bare.number)); err == nil {
		t.Error("an old tree that nobody uses is still there")
	}
	full := m.acquire()
	if !full.has("example.org/colour/hue") || full.allows("example.org/colour/hue") == nil || full.allows("example.org/needed") != nil || full.hash == bare.hash {
		t.Errorf("tree %+v", full)
	}
	if mod := full.goMod("app", ""); !strings.Contains(mod, "\texample.org/colour v1.2.0\n") || !strings.Contains(mod, "\texample.org/needed v0.3.0 // indirect\n") {
		t.Errorf("go.mod is\n%s", mod)
	}
	info, err := os.Stat(filepath.Join(m.dir(full.number), "vendor", "example.org", "needed", "n.go"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	m.release(full)
	// The next start finds the same modules, under another number.
	if m, err = openModules(dir, builtIn(t)); err != nil {
		t.Fatal(err)
	}
	again := m.acquire()
	if again.hash != full.hash || again.number <= full.number || !slices.Equal(m.List(), []Module{{"example.org/colour", "v1.2.0"}}) {
		t.Errorf("tree %+v", again)
	}
}

func TestBadArchives(t *testing.T) {
	m, err := openModules(t.TempDir(), builtIn(t))
	if err != nil {
		t.Fatal(err)
	}
	without := func(name string) []byte {
		files := colour("red")
		delete(files, name)
		return archiveOf(t, files)
	}
	with := func(name, text string) []byte {
		files := colour("red")
		files[name] = text
		return archiveOf(t, files)
	}
	for what, archive := range map[string][]byte{
		"no archive":            []byte("text"),
		"empty":                 nil,
		"no manifest":           without("manifest.json"),
		"no list":               without("vendor/modules.txt"),
		"the SDK itself":        with("vendor/modules.txt", "# "+sdkModule+" v1.0.0\n## explicit\n"+sdkModule+"/sdk\n"),
		"a path out of it":      with("vendor/modules.txt", "# ../../x v1.0.0\n## explicit\n"),
		"a manifest of no sort": with("manifest.json", "["),
	} {
		if err := m.Replace(bytes.NewReader(archive)); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if entries, _ := os.ReadDir(m.trees); len(entries) != 1 || len(m.List()) != 0 {
		t.Errorf("left: %v", entries)
	}
	// A file's name that leads out is not followed: such a one is not found in the archive at all.
	if err := m.Replace(bytes.NewReader(with("vendor/../../escaped", "x"))); err == nil {
		if _, err := os.Stat(filepath.Join(m.trees, "..", "..", "escaped")); err == nil {
			t.Error("a file escaped")
		}
	}
}

func TestVersions(t *testing.T) {
	ordered := []string{"1.9", "1.20", "1.21beta1", "1.21rc2", "1.21rc10", "1.21.0", "1.21.9", "1.21.10", "1.26", "1.26.0"}
	for i, a := range ordered {
		for j, b := range ordered {
			if newer(a, b) != (i > j) {
				t.Errorf("%s newer than %s: %t", a, b, newer(a, b))
			}
		}
	}
}
