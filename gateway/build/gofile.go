package build

import (
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/scanner"
	"go/token"
	"io"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// sdkModule is the module that every source may import.
const sdkModule = "github.com/facetgateway/fgw"

// goFile checks one Go file: its directives and its imports. Whether it is Go at all, the compiler says.
func (c *checker) goFile(name, text, module string) {
	fset := token.NewFileSet()
	c.directives(fset, name, text)
	f, err := parser.ParseFile(fset, name, text, parser.ImportsOnly|parser.SkipObjectResolution)
	if f == nil || err != nil {
		return
	}
	used := !strings.HasSuffix(name, "_test.go") && built(name, text)
	if used && !strings.Contains(name, "/") {
		c.top = true
		if at := fset.PositionFor(f.Name.Pos(), false); f.Name.Name != "main" {
			c.add(name, at.Line, at.Column, "package %s: the files at the top of an app are of package main", f.Name.Name)
		}
	}
	for _, spec := range f.Imports {
		c.imported(fset, name, spec, module, used)
	}
}

// imported checks one import. What no build would use may name what it likes.
func (c *checker) imported(fset *token.FileSet, name string, spec *ast.ImportSpec, module string, used bool) {
	target, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return
	}
	at := fset.PositionFor(spec.Path.Pos(), false)
	if target == "C" {
		c.add(name, at.Line, at.Column, `cgo (import "C") is refused: sources are built by Go alone`)
		return
	}
	if !used || within(target, module) || within(target, sdkModule+"/sdk") {
		return
	}
	first, _, _ := strings.Cut(target, "/")
	if !strings.Contains(first, ".") || strings.HasPrefix(target, ".") {
		return // the standard library, or what the go command will refuse
	}
	if m := c.tree.allows(target); m == nil {
		c.add(name, at.Line, at.Column, "the module of %s is not among those that this gateway allows; its administrator can allow it: fgw modules allow PATH@VERSION", target)
	} else if !c.tree.has(target) {
		c.add(name, at.Line, at.Column, "module %s@%s has no package %s", m.Path, m.Version, target)
	} else {
		c.modules = true
	}
}

// within reports whether an import path is the module or lies in it.
func within(target, module string) bool {
	return target == module || strings.HasPrefix(target, module+"/")
}

// built reports whether a build for this machine takes the file, by its name and its constraints.
func built(name, text string) bool {
	ctx := build.Context{
		GOOS: "linux", GOARCH: runtime.GOARCH, Compiler: "gc", ReleaseTags: build.Default.ReleaseTags,
		OpenFile: func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
		JoinPath: path.Join,
	}
	ok, err := ctx.MatchFile("", path.Base(name))
	return ok || err != nil && !errors.Is(err, io.EOF)
}

// directives refuses the comments by which a source would reach past the language: into other
// packages' symbols, or into the linker's and the C compiler's flags.
func (c *checker) directives(fset *token.FileSet, name, text string) {
	f := fset.AddFile(name+" comments", -1, len(text))
	var s scanner.Scanner
	s.Init(f, []byte(text), func(token.Position, string) {}, scanner.ScanComments)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return
		}
		if tok != token.COMMENT {
			continue
		}
		at := f.PositionFor(pos, false)
		switch {
		case strings.HasPrefix(lit, "//go:linkname"):
			c.add(name, at.Line, at.Column, "//go:linkname is refused: it reaches into other packages")
		case strings.HasPrefix(lit, "//go:cgo_"):
			c.add(name, at.Line, at.Column, "//go:cgo_… is refused: sources are built without cgo")
		case strings.Contains(lit, "#cgo "):
			c.add(name, at.Line, at.Column, "#cgo is refused: sources are built without cgo, and with the gateway's own flags")
		}
	}
}
