// Command appvendor makes the archive that package gateway/appvendor embeds:
// the sources that an app is built from, as a vendor directory, and the
// templates of `fgw new`. Run it from the root of the module.
//
// The archive is a function of the sources alone: no times, files in order, so
// that a build can be repeated bit by bit.
package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/appvendor"
)

// roots are the packages that apps and their tests import.
var roots = []string{"./sdk", "./sdk/facettest"}

// pkg is what `go list` tells of a package.
type pkg struct {
	ImportPath, Dir            string
	Standard                   bool
	GoFiles, IgnoredGoFiles    []string
	SFiles, HFiles, EmbedFiles []string
	CgoFiles                   []string
	Module                     *module
}

type module struct {
	Path, Version, Dir, GoVersion string
	Main                          bool
}

func main() {
	out := flag.String("o", "gateway/appvendor/files/appvendor.zip", "the archive")
	version := flag.String("version", "v0.0.0", "the version that apps require of the SDK")
	flag.Parse()
	if err := run(*out, *version, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "appvendor:", err)
		os.Exit(1)
	}
}

// run writes the archive. Each of templates is a directory with a main.go,
// named after its last element.
func run(out, version string, templates []string) error {
	pkgs, err := list(roots)
	if err != nil {
		return err
	}
	contents := map[string][]byte{}
	if err := addPackages(contents, pkgs); err != nil {
		return err
	}
	manifest, modules := describe(pkgs, version)
	contents["vendor/modules.txt"] = modules
	if contents["manifest.json"], err = json.MarshalIndent(manifest, "", "\t"); err != nil {
		return err
	}
	for _, dir := range templates {
		if err := addTemplate(contents, dir); err != nil {
			return err
		}
	}
	archive, err := pack(contents)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(out); err == nil && bytes.Equal(old, archive) {
		return nil // an untouched file keeps the build cache warm
	}
	return os.WriteFile(out, archive, 0o644)
}

// list returns the packages and all that they import, without the standard
// library.
func list(roots []string) ([]pkg, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json"}, roots...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(text)); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			return nil, err
		}
		if p.Standard {
			continue
		}
		if p.Module == nil || len(p.CgoFiles) > 0 {
			return nil, fmt.Errorf("%s can't be vendored: no module, or cgo", p.ImportPath)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pkg) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return all, nil
}

// addPackages takes every source but the tests, those for other machines
// included: an app may be built for one.
func addPackages(contents map[string][]byte, pkgs []pkg) error {
	for _, p := range pkgs {
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles, p.SFiles, p.HFiles, p.EmbedFiles) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return err
			}
			contents[path.Join("vendor", p.ImportPath, filepath.ToSlash(name))] = text
		}
		if err := addLicence(contents, p.Module); err != nil {
			return err
		}
	}
	return nil
}

// addLicence takes a module's licence along with its sources.
func addLicence(contents map[string][]byte, m *module) error {
	for _, name := range []string{"LICENSE", "LICENSE.md", "LICENSE.txt", "COPYING", "NOTICE"} {
		text, err := os.ReadFile(filepath.Join(m.Dir, name))
		if err == nil {
			contents[path.Join("vendor", m.Path, name)] = text
		} else if !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// describe makes the manifest and vendor/modules.txt, which the go command
// compares with go.mod word by word.
func describe(pkgs []pkg, version string) (appvendor.Manifest, []byte) {
	var manifest appvendor.Manifest
	var order []string
	modules := map[string]*module{}
	packages := map[string][]string{}
	for _, p := range pkgs {
		if modules[p.Module.Path] == nil {
			order = append(order, p.Module.Path)
			modules[p.Module.Path] = p.Module
		}
		packages[p.Module.Path] = append(packages[p.Module.Path], p.ImportPath)
	}
	var text strings.Builder
	for _, name := range order {
		m := modules[name]
		if m.Main {
			m.Version = version
			manifest.Go = m.GoVersion
		}
		manifest.Requires = append(manifest.Requires, appvendor.Module{Path: name, Version: m.Version, Indirect: !m.Main})
		fmt.Fprintf(&text, "# %s %s\n## explicit", name, m.Version)
		if m.GoVersion != "" {
			fmt.Fprintf(&text, "; go %s", m.GoVersion)
		}
		fmt.Fprintf(&text, "\n%s\n", strings.Join(packages[name], "\n"))
	}
	slices.SortStableFunc(manifest.Requires, func(a, b appvendor.Module) int {
		switch {
		case a.Indirect == b.Indirect:
			return 0
		case a.Indirect:
			return 1
		}
		return -1
	})
	return manifest, []byte(text.String())
}

// addTemplate takes the Go files of a sample app, its tests, and what they embed.
func addTemplate(contents map[string][]byte, dir string) error {
	cmd := exec.Command("go", "list", "-json=GoFiles,TestGoFiles,EmbedFiles", "./"+dir)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("template %s: go list: %w", dir, err)
	}
	var p struct{ GoFiles, TestGoFiles, EmbedFiles []string }
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if !slices.Contains(p.GoFiles, "main.go") {
		return fmt.Errorf("template %s has no main.go", dir)
	}
	for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.EmbedFiles) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		contents[path.Join("templates", filepath.Base(dir), filepath.ToSlash(name))] = text
	}
	return nil
}

func pack(contents map[string][]byte) ([]byte, error) {
	names := make([]string, 0, len(contents))
	for name := range contents {
		names = append(names, name)
	}
	slices.Sort(names)
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for _, name := range names {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(contents[name]); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}
