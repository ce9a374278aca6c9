package build

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Bounds of a source.
const (
	maxFiles = 1000
	maxBytes = 16 << 20
	maxDepth = 8   // of directories
	maxName  = 240 // bytes; with /src/ before it far from any limit of the kernel's
)

// maxDiagnostics is how many are told of one source: who mends them sees new ones at the next build.
const maxDiagnostics = 50

// source is a source that was looked through and may be built: its files in order, a go.mod of the gateway's making
// among them.
type source struct {
	files   []file
	modules bool // it imports an allowed module
}

// prepare looks a source through, before any process is started for it. What it refuses is told by name; what it lets
// pass is still hostile. It is a pure function.
func prepare(files map[string]string, t *tree, toolchain string) (*source, []wire.Diagnostic) {
	c := &checker{tree: t, toolchain: toolchain}
	if !c.bounds(files) {
		return nil, c.found
	}
	for _, name := range sorted(files) {
		c.name(name)
		c.parents(name, files)
	}
	if len(c.found) > 0 {
		return nil, c.capped()
	}
	mod := c.goMod(files["go.mod"])
	s := &source{files: []file{{"go.mod", t.goMod(mod.path, mod.goVersion)}}}
	for _, name := range sorted(files) {
		switch {
		case name == "go.mod" || name == "go.sum":
			continue // the gateway's own stands for the one; the other has nothing to check in a tree that is given
		case strings.HasSuffix(name, ".go"):
			c.goFile(name, files[name], mod.path)
		}
		s.files = append(s.files, file{name, files[name]})
	}
	if below := c.elsewhere(files); below != "" && len(c.found) == 0 {
		c.add(below, 0, 0, "no Go file that a build would use lies at the top of the source, where package main belongs")
	}
	if len(c.found) > 0 {
		return nil, c.capped()
	}
	s.modules = c.modules
	return s, nil
}

// elsewhere names a Go file below the top where there is none at it.
func (c *checker) elsewhere(files map[string]string) string {
	if c.top {
		return ""
	}
	for _, name := range sorted(files) {
		if strings.Contains(name, "/") && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			return name
		}
	}
	return ""
}

func sorted(files map[string]string) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// key names everything that the result depends on.
func (s *source) key(toolchain string, t *tree) string {
	h := sha256.New()
	part := func(text string) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	for _, text := range slices.Concat([]string{"1", toolchain, t.hash}, fixedFlags, buildFlags) {
		part(text)
	}
	for _, f := range s.files {
		part(f.name)
		part(f.text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// checker collects what is wrong with a source.
type checker struct {
	tree      *tree
	toolchain string
	modules   bool // an allowed module is imported
	top       bool // a file that can be read lies at the top
	found     []wire.Diagnostic
}

func (c *checker) add(file string, line, column int, format string, args ...any) {
	if len(c.found) <= maxDiagnostics {
		c.found = append(c.found, wire.Diagnostic{File: file, Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) capped() []wire.Diagnostic { return c.found[:min(len(c.found), maxDiagnostics)] }

// bounds checks number and size.
func (c *checker) bounds(files map[string]string) bool {
	total, sources := 0, 0
	for name, text := range files {
		total += len(name) + len(text)
		if strings.HasSuffix(name, ".go") {
			sources++
		}
	}
	switch {
	case len(files) > maxFiles:
		c.add("", 0, 0, "the source has %d files; at most %d are allowed", len(files), maxFiles)
	case total > maxBytes:
		c.add("", 0, 0, "the source has %d bytes; at most %d (16 MiB) are allowed", total, maxBytes)
	case sources == 0:
		c.add("", 0, 0, "the source has no Go file: one with package main and func main is needed")
	default:
		return true
	}
	return false
}

// refused are the files that the go command would hand to an assembler, a C compiler or the linker.
var refused = map[string]string{
	".s": "assembly", ".sx": "assembly", ".syso": "object files", ".o": "object files", ".a": "object files",
	".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".cxx": "C++", ".hh": "C++", ".hpp": "C++", ".hxx": "C++", ".m": "Objective-C", ".mm": "Objective-C",
	".f": "Fortran", ".for": "Fortran", ".f90": "Fortran", ".swig": "SWIG", ".swigcxx": "SWIG",
}

// name checks a file's name.
func (c *checker) name(name string) {
	// A name that can't be shown is not shown.
	shown := name
	if !printable(name) {
		shown = fmt.Sprintf("%.60q", name)
	}
	switch base, ext := path.Base(name), strings.ToLower(path.Ext(name)); {
	case name == "" || len(name) > maxName:
		c.add(fmt.Sprintf("%.60s", shown), 0, 0, "a file's name has 1 to %d bytes", maxName)
	case !printable(name) || strings.ContainsAny(name, "\\:*?\"<>|"):
		c.add(shown, 0, 0, "a file's name can't hold control characters or any of \\ : * ? \" < > |")
	case path.IsAbs(name) || name != path.Clean(name) || name == "." || name == ".." || strings.HasPrefix(name, "../"):
		c.add(shown, 0, 0, "a file's name is relative to the source, with / between parts and without . or ..")
	case strings.Count(name, "/") >= maxDepth:
		c.add(shown, 0, 0, "files lie at most %d directories deep", maxDepth-1)
	case slices.Contains(strings.Split(path.Dir(name), "/"), "vendor") || name == "vendor":
		c.add(shown, 0, 0, "vendor directories are refused: the gateway supplies the modules that its administrator allowed")
	case base == "go.work" || base == "go.work.sum":
		c.add(shown, 0, 0, "workspaces are refused: the source is one module")
	case (base == "go.mod" || base == "go.sum") && name != base:
		c.add(shown, 0, 0, "a module within the source is refused: the source is one module")
	case refused[ext] != "":
		c.add(shown, 0, 0, "%s is refused: sources are Go alone, without cgo", refused[ext])
	}
}

// parents checks that no directory of a file is a file itself.
func (c *checker) parents(name string, files map[string]string) {
	if len(name) > maxName || !printable(name) {
		return // refused already
	}
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if _, both := files[dir]; both {
			c.add(dir, 0, 0, "it is a file, and the directory of %s", name)
		}
	}
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
