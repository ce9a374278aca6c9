// Package appvendor holds what an app needs to be built without a network: the
// sources of the SDK and of what it imports, as a vendor directory, and the
// templates that new apps start from.
//
// They are embedded as one archive that the build makes from the tree
// (scripts/appvendor). Loose files would do too, but each folder of them would
// be a Go package of this module, a copy that tools find beside the original.
package appvendor

import (
	"archive/zip"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

//go:embed all:files
var files embed.FS

// Names within the archive.
const (
	archiveName  = "files/appvendor.zip"
	manifestName = "manifest.json"
	vendorDir    = "vendor"
	templateDir  = "templates"
)

// ErrNotBuiltIn means that this program was built without the archive.
var ErrNotBuiltIn = errors.New("this fgw was built without the SDK's sources: build it with `make build`")

// Manifest says what go.mod has to require for the vendor directory to fit.
type Manifest struct {
	Go       string   `json:"go"`       // the language version, as in a go line
	Requires []Module `json:"requires"` // the SDK's module first
}

// Module is one module of the vendor directory.
type Module struct {
	Path     string `json:"path"`
	Version  string `json:"version"`
	Indirect bool   `json:"indirect,omitempty"`
}

// Set is an opened archive. It is read-only and may be shared.
type Set struct {
	Manifest Manifest
	tree     fs.FS
}

// Open opens the archive that is built in, once.
var Open = sync.OnceValues(func() (*Set, error) {
	data, err := files.ReadFile(archiveName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuiltIn
	}
	if err != nil {
		return nil, err
	}
	return read(data)
})

func read(data []byte) (*Set, error) {
	tree, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("read the built-in sources: %w", err)
	}
	text, err := fs.ReadFile(tree, manifestName)
	if err != nil {
		return nil, fmt.Errorf("read the built-in sources: %w", err)
	}
	s := &Set{tree: tree}
	if err := json.Unmarshal(text, &s.Manifest); err != nil {
		return nil, fmt.Errorf("read the built-in sources: %s: %w", manifestName, err)
	}
	return s, nil
}

// GoMod is the text of a go.mod for an app with that module path.
func (s *Set) GoMod(module string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "module %s\n\ngo %s\n", module, s.Manifest.Go)
	for _, indirect := range []bool{false, true} {
		var lines []string
		for _, m := range s.Manifest.Requires {
			if m.Indirect == indirect {
				line := "\t" + m.Path + " " + m.Version
				if indirect {
					line += " // indirect"
				}
				lines = append(lines, line)
			}
		}
		switch len(lines) {
		case 0:
		case 1:
			fmt.Fprintf(&b, "\nrequire %s\n", strings.TrimSpace(lines[0]))
		default:
			fmt.Fprintf(&b, "\nrequire (\n%s\n)\n", strings.Join(lines, "\n"))
		}
	}
	return b.String()
}

// WriteVendor writes the vendor directory into dir, which exists.
func (s *Set) WriteVendor(dir string) error {
	return fs.WalkDir(s.tree, vendorDir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return s.copyOut(name, filepath.Join(dir, filepath.FromSlash(name)))
	})
}

// Templates are the names of the templates, in order.
func (s *Set) Templates() []string {
	entries, err := fs.ReadDir(s.tree, templateDir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}

// WriteTemplate writes the files of a template into dir, which exists.
func (s *Set) WriteTemplate(name, dir string) error {
	root := path.Join(templateDir, name)
	return fs.WalkDir(s.tree, root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("template %q: %w", name, err)
		}
		if d.IsDir() {
			return nil
		}
		return s.copyOut(file, filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(file, root+"/"))))
	})
}

func (s *Set) copyOut(from, to string) error {
	in, err := s.tree.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
