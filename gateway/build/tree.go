package build

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/appvendor"
)

// Module is one that sources may import, at its one version.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// Bounds of an archive of modules.
const (
	maxTreeFiles = 50_000
	maxTreeBytes = 512 << 20
)

// archiveManifest describes the modules of an archive, beside their sources.
type archiveManifest struct {
	Modules  []Module           `json:"modules"`  // that may be imported
	Requires []appvendor.Module `json:"requires"` // they and what they need, as go.mod has to list them
	Packages []string           `json:"packages"` // of the allowed modules, those that can be built here
}

// tree is a directory with the sources of everything that may be imported: a vendor directory, written once. A
// change of the allowed modules makes another one.
type tree struct {
	number   int64
	hash     string // of names and contents
	goLine   string // the language version that the SDK needs
	requires []appvendor.Module
	allowed  []Module
	packages []string // import paths, in order
	sdk      []string // of them, the SDK's and those of what it needs
	extra    []string // of them, the allowed modules', but for what is for other machines

	refs  int  // guarded by Modules.mu
	stale bool // guarded by Modules.mu: goes with the last reference
}

// goMod is the go.mod of a source. It requires every module of the tree, which is what makes the vendor directory fit,
// whatever is imported. version is the language version that the source asks for.
func (t *tree) goMod(module, version string) string {
	if version == "" || newer(t.goLine, version) {
		version = t.goLine
	}
	var b strings.Builder
	fmt.Fprintf(&b, "module %s\n\ngo %s\n\nrequire (\n", module, version)
	for _, m := range t.requires {
		fmt.Fprintf(&b, "\t%s %s", m.Path, m.Version)
		if m.Indirect {
			b.WriteString(" // indirect")
		}
		b.WriteString("\n")
	}
	b.WriteString(")\n")
	return b.String()
}

// allows gives the allowed module that a package would be of.
func (t *tree) allows(target string) *Module {
	var best *Module
	for i, m := range t.allowed {
		if within(target, m.Path) && (best == nil || len(m.Path) > len(best.Path)) {
			best = &t.allowed[i]
		}
	}
	return best
}

// has reports whether the tree holds a package.
func (t *tree) has(target string) bool {
	_, ok := slices.BinarySearch(t.packages, target)
	return ok
}

// writeTree writes a tree into dir, which does not exist yet: the SDK, and on it the modules of an archive, nil for none.
func writeTree(dir string, sdk *appvendor.Set, archive *zip.Reader) (*tree, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := sdk.WriteVendor(dir); err != nil {
		return nil, err
	}
	vendor := filepath.Join(dir, "vendor")
	text, err := os.ReadFile(filepath.Join(vendor, "modules.txt"))
	if err != nil {
		return nil, err
	}
	listed := parseModulesText(string(text))
	t := &tree{goLine: sdk.Manifest.Go, requires: slices.Clone(sdk.Manifest.Requires)}
	for _, m := range listed {
		t.sdk = append(t.sdk, m.packages...)
	}
	if archive != nil {
		if err := t.extract(vendor, archive, &listed); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(vendor, "modules.txt"), []byte(modulesText(listed)), 0o644); err != nil {
		return nil, err
	}
	for _, m := range listed {
		t.packages = append(t.packages, m.packages...)
	}
	slices.Sort(t.packages)
	t.hash, err = seal(dir)
	return t, err
}

// extract adds an archive's modules. Where the SDK needs one of them too, the archive's version, which was
// chosen with the SDK in mind, takes its place.
func (t *tree) extract(vendor string, archive *zip.Reader, listed *[]listedModule) error {
	var manifest archiveManifest
	text, err := fs.ReadFile(archive, "manifest.json")
	if err == nil {
		err = json.Unmarshal(text, &manifest)
	}
	if err != nil {
		return fmt.Errorf("read the archive's manifest: %w", err)
	}
	if text, err = fs.ReadFile(archive, "vendor/modules.txt"); err != nil {
		return fmt.Errorf("read the archive's list of packages: %w", err)
	}
	for _, m := range parseModulesText(string(text)) {
		if !validModule(m.path) || m.path == sdkModule {
			return fmt.Errorf("the archive has a module %.100q", m.path)
		}
		if err := os.RemoveAll(filepath.Join(vendor, filepath.FromSlash(m.path))); err != nil {
			return err
		}
		*listed = slices.DeleteFunc(*listed, func(o listedModule) bool { return o.path == m.path })
		*listed = append(*listed, m)
	}
	for _, r := range manifest.Requires {
		t.requires = slices.DeleteFunc(t.requires, func(o appvendor.Module) bool { return o.Path == r.Path })
		t.requires = append(t.requires, r)
	}
	t.allowed = manifest.Modules
	t.extra = manifest.Packages
	return unpack(vendor, archive)
}

// unpack writes the files of an archive's vendor directory.
func unpack(vendor string, archive *zip.Reader) error {
	files, left := 0, int64(maxTreeBytes)
	return fs.WalkDir(archive, "vendor", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "vendor/modules.txt" {
			return err
		}
		if files++; files > maxTreeFiles {
			return fmt.Errorf("the modules have more than %d files", maxTreeFiles)
		}
		from, err := archive.Open(name)
		if err != nil {
			return err
		}
		defer from.Close()
		path := filepath.Join(vendor, filepath.FromSlash(strings.TrimPrefix(name, "vendor/")))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		n, err := io.Copy(to, io.LimitReader(from, left+1))
		if left -= n; left < 0 {
			err = fmt.Errorf("the modules have more than %d MiB", maxTreeBytes>>20)
		}
		return errors.Join(err, to.Close())
	})
}

// seal makes a tree readable to every builder, whatever this process's umask, and gives its hash.
func seal(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %x\n", strings.TrimPrefix(path, dir), sha256.Sum256(text))
		return os.Chmod(path, 0o644)
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// listedModule is a module of a vendor/modules.txt.
type listedModule struct {
	path     string
	head     []string // its lines that begin with #
	packages []string
}

// parseModulesText reads a vendor/modules.txt.
func parseModulesText(text string) (list []listedModule) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "# "):
			path, _, _ := strings.Cut(line[2:], " ")
			list = append(list, listedModule{path: path, head: []string{line}})
		case line == "" || len(list) == 0:
		case strings.HasPrefix(line, "#"):
			list[len(list)-1].head = append(list[len(list)-1].head, line)
		default:
			list[len(list)-1].packages = append(list[len(list)-1].packages, line)
		}
	}
	return list
}

func modulesText(list []listedModule) string {
	var b strings.Builder
	for _, m := range list {
		for _, line := range append(slices.Clone(m.head), m.packages...) {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
