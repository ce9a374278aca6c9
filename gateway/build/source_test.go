package build

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/appvendor"
)

// aTree is a tree with one allowed module, which needs another.
func aTree() *tree {
	return &tree{
		number: 1, hash: "h", goLine: "1.26.0",
		requires: []appvendor.Module{
			{Path: sdkModule, Version: "v0.1.0"}, {Path: "github.com/hashicorp/yamux", Version: "v0.1.2", Indirect: true},
			{Path: "example.org/colour", Version: "v1.2.0"}, {Path: "example.org/needed", Version: "v0.3.0", Indirect: true},
		},
		allowed:  []Module{{"example.org/colour", "v1.2.0"}},
		packages: []string{"example.org/colour", "example.org/colour/hue", "example.org/needed", sdkModule + "/sdk"},
	}
}

const aMain = "package main\n\nfunc main() {}\n"

func TestRefused(t *testing.T) {
	many := map[string]string{"main.go": aMain}
	for i := range maxFiles {
		many[fmt.Sprintf("f%d.txt", i)] = ""
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		at    string // file:line:column
		says  string
	}{
		{"no file", nil, ":0:0", "no Go file"},
		{"another package", map[string]string{"main.go": "// app\npackage app\n\nfunc main() {}\n"}, "main.go:2:9", "package app: the files at the top"},
		{"main below the top", map[string]string{"README": "", "cmd/app/main.go": aMain}, "cmd/app/main.go:0:0", "where package main belongs"},
		{"main for another machine", map[string]string{"main_windows.go": aMain, "a/a.go": "package a\n"}, "a/a.go:0:0", "where package main belongs"},
		{"too many files", many, ":0:0", "1001 files; at most 1000"},
		{"too large", map[string]string{"main.go": aMain, "x.txt": strings.Repeat("x", maxBytes)}, ":0:0", "16 MiB"},
		{"parent directory", map[string]string{"main.go": aMain, "../x.go": aMain}, "../x.go:0:0", "relative to the source"},
		{"parent within", map[string]string{"main.go": aMain, "a/../../x.go": aMain}, "a/../../x.go:0:0", "relative"},
		{"absolute", map[string]string{"main.go": aMain, "/etc/x.go": aMain}, "/etc/x.go:0:0", "relative"},
		{"dot", map[string]string{"main.go": aMain, ".": ""}, ".:0:0", "relative"},
		{"not clean", map[string]string{"main.go": aMain, "a//b.go": aMain}, "a//b.go:0:0", "relative"},
		{"a directory", map[string]string{"main.go": aMain, "a/": ""}, "a/:0:0", "relative"},
		{"a file and a directory", map[string]string{"main.go": aMain, "a": "", "a/b/c.go": aMain}, "a:0:0", "the directory of a/b/c.go"},
		{"no name", map[string]string{"main.go": aMain, "": ""}, ":0:0", "1 to 240 bytes"},
		{"long name", map[string]string{"main.go": aMain, strings.Repeat("a", 300): ""}, strings.Repeat("a", 60) + ":0:0", "1 to 240 bytes"},
		{"backslash", map[string]string{"main.go": aMain, `a\b.go`: aMain}, `a\b.go:0:0`, "control characters"},
		{"NUL", map[string]string{"main.go": aMain, "a\x00.go": aMain}, `"a\x00.go":0:0`, "control characters"},
		{"no UTF-8", map[string]string{"main.go": aMain, "a\xff.go": aMain}, `"a\xff.go":0:0`, "control characters"},
		{"deep", map[string]string{"main.go": aMain, strings.Repeat("a/", 8) + "x.go": aMain}, strings.Repeat("a/", 8) + "x.go:0:0", "directories deep"},
		{"vendor", map[string]string{"main.go": aMain, "vendor/modules.txt": ""}, "vendor/modules.txt:0:0", "vendor directories"},
		{"vendor within", map[string]string{"main.go": aMain, "a/vendor/x.go": ""}, "a/vendor/x.go:0:0", "vendor directories"},
		{"workspace", map[string]string{"main.go": aMain, "go.work": ""}, "go.work:0:0", "workspaces"},
		{"inner module", map[string]string{"main.go": aMain, "a/go.mod": "module a"}, "a/go.mod:0:0", "one module"},
		{"assembly", map[string]string{"main.go": aMain, "x.s": ""}, "x.s:0:0", "assembly"},
		{"assembly with a preprocessor", map[string]string{"main.go": aMain, "x.S": ""}, "x.S:0:0", "assembly"},
		{"C", map[string]string{"main.go": aMain, "x.c": ""}, "x.c:0:0", "C is refused"},
		{"header", map[string]string{"main.go": aMain, "a/x.h": ""}, "a/x.h:0:0", "C is refused"},
		{"object file", map[string]string{"main.go": aMain, "x.syso": ""}, "x.syso:0:0", "object files"},
		{"cgo", map[string]string{"main.go": "package main\n\nimport \"C\"\n\nfunc main() {}\n"}, "main.go:3:8", `cgo (import "C")`},
		{"cgo elsewhere", map[string]string{"main.go": aMain, "x_windows.go": "package main\nimport \"C\"\n"}, "x_windows.go:2:8", "cgo"},
		{"cgo flags", map[string]string{"main.go": "package main\n\n// #cgo LDFLAGS: -lm\nfunc main() {}\n"}, "main.go:3:1", "#cgo"},
		{"cgo directive", map[string]string{"main.go": "package main\n//go:cgo_import_dynamic x y \"z\"\nfunc main() {}\n"}, "main.go:2:1", "//go:cgo_"},
		{"linkname", map[string]string{"main.go": "package main\n\nimport _ \"unsafe\"\n\n//go:linkname now time.now\nfunc now() int\n\nfunc main() {}\n"}, "main.go:5:1", "//go:linkname"},
		{"linkname at the end of a line", map[string]string{"main.go": "package main\nfunc main() { //go:linkname x y\n}\n"}, "main.go:2:15", "//go:linkname"},
		{"linkname under another line's number", map[string]string{"main.go": "package main\n//line other.go:99\n//go:linkname x y\nfunc main() {}\n"}, "main.go:3:1", "//go:linkname"},
		{"linkname behind a broken line", map[string]string{"main.go": "package main\n\"\n//go:linkname x y\n"}, "main.go:3:1", "//go:linkname"},
		{"unknown module", map[string]string{"main.go": "package main\n\nimport (\n\t\"fmt\"\n\t_ \"github.com/evil/thing/sub\"\n)\n"}, "main.go:5:4", "fgw modules allow PATH@VERSION"},
		{"not of the allowed module", map[string]string{"main.go": "package main\nimport _ \"example.org/colours\"\n"}, "main.go:2:10", "not among"},
		{"no such package", map[string]string{"main.go": "package main\nimport _ \"example.org/colour/none\"\n"}, "main.go:2:10", "example.org/colour@v1.2.0 has no package"},
		{"what an allowed module needs", map[string]string{"main.go": "package main\nimport _ \"example.org/needed\"\n"}, "main.go:2:10", "not among"},
		{"the gateway's own packages", map[string]string{"main.go": "package main\nimport _ \"" + sdkModule + "/gateway\"\n"}, "main.go:2:10", "not among"},
		{"toolchain", map[string]string{"main.go": aMain, "go.mod": "module x\ngo 1.24\ntoolchain go1.99\n"}, "go.mod:3:1", "toolchain is refused"},
		{"replace", map[string]string{"main.go": aMain, "go.mod": "module x\nreplace a => ../../etc\n"}, "go.mod:2:1", "replace is refused"},
		{"replace in a block", map[string]string{"main.go": aMain, "go.mod": "module x\nreplace (\n\ta => b v1\n)\n"}, "go.mod:3:1", "replace is refused"},
		{"exclude", map[string]string{"main.go": aMain, "go.mod": "module x\nexclude a v1\n"}, "go.mod:2:1", "exclude is refused"},
		{"tool", map[string]string{"main.go": aMain, "go.mod": "module x\ntool a/b\n"}, "go.mod:2:1", "tool is refused"},
		{"unknown requirement", map[string]string{"main.go": aMain, "go.mod": "module x\nrequire github.com/a/b v1.0.0\n"}, "go.mod:2:1", "fgw modules allow github.com/a/b@v1.0.0"},
		{"other version", map[string]string{"main.go": aMain, "go.mod": "module x\nrequire example.org/colour v1.3.0\n"}, "go.mod:2:1", "this gateway allows v1.2.0"},
		{"newer Go", map[string]string{"main.go": aMain, "go.mod": "module x\ngo 1.99\n"}, "go.mod:2:1", "builds with Go 1.26.8"},
		{"newer patch", map[string]string{"main.go": aMain, "go.mod": "module x\ngo 1.26.9\n"}, "go.mod:2:1", "builds with Go 1.26.8"},
		{"no version", map[string]string{"main.go": aMain, "go.mod": "module x\ngo one\n"}, "go.mod:2:1", "no version of Go"},
		{"module std", map[string]string{"main.go": aMain, "go.mod": "module std\n"}, "go.mod:1:1", "no path"},
		{"module with a line break", map[string]string{"main.go": aMain, "go.mod": "module \"a\\nreplace x => y\"\n"}, "go.mod:1:1", "no path"},
		{"module with dots", map[string]string{"main.go": aMain, "go.mod": "module a/../b\n"}, "go.mod:1:1", "no path"},
		{"the SDK's own module", map[string]string{"main.go": aMain, "go.mod": "module " + sdkModule + "\n"}, "go.mod:1:1", "no path"},
		{"nonsense", map[string]string{"main.go": aMain, "go.mod": "\x00\x01 what"}, "go.mod:1:1", "no directive"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, found := prepare(test.files, aTree(), "go1.26.8")
			if s != nil || len(found) == 0 {
				t.Fatal("not refused")
			}
			d := found[0]
			if at := fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Column); at != test.at || !strings.Contains(d.Message, test.says) {
				t.Errorf("refused at %s: %s", at, d.Message)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		goMod string // a line of the go.mod that is made
	}{
		{"one file", map[string]string{"main.go": aMain}, "module app"},
		{"a module of its own", map[string]string{"main.go": aMain, "go.mod": "module my.org/thing // yes\n\ngo 1.20\n"}, "module my.org/thing"},
		{"an older language", map[string]string{"main.go": aMain, "go.mod": "module x\ngo 1.20\n"}, "go 1.26.0"},
		{"a newer language", map[string]string{"main.go": aMain, "go.mod": "module x\ngo 1.26.3\n"}, "go 1.26.3"},
		{"what go mod tidy writes", map[string]string{"main.go": aMain, "go.sum": "a b c\n", "go.mod": "module x\n\ngo 1.26.0\n\nrequire (\n\t" + sdkModule +
			" v0.0.1\n\texample.org/colour v1.2.0\n)\n\nrequire other.org/gone v1.0.0 // indirect\n"}, "\texample.org/colour v1.2.0"},
		{"an allowed module", map[string]string{"main.go": "package main\nimport _ \"example.org/colour/hue\"\n"}, "module app"},
		{"packages of its own", map[string]string{"main.go": "package main\nimport _ \"app/sub\"\n", "sub/x.go": "package sub\n"}, "module app"},
		{"what no build uses", map[string]string{"main.go": aMain, "gen.go": "//go:build ignore\n\npackage main\n\nimport _ \"a.org/b\"\n",
			"x_windows.go": "package main\n\nimport _ \"golang.org/x/sys/windows\"\n", "x_test.go": "package main\n\nimport _ \"a.org/test\"\n"}, "module app"},
		{"not Go", map[string]string{"main.go": "package main\nimport \"x\nfunc"}, "module app"},
		{"files to embed", map[string]string{"main.go": aMain, "web/index.html": "<p>", "web/sh…rt name.css": "", ".well-known/x": ""}, "module app"},
		{"words in texts", map[string]string{"main.go": "package main\n\nvar s = \"//go:linkname\"\n\nvar b = `\n//go:linkname x y\n// #cgo x\n`\n\nfunc main() {}\n"}, "module app"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, found := prepare(test.files, aTree(), "go1.26.8")
			if len(found) > 0 {
				t.Fatalf("refused: %v", found)
			}
			if s.files[0].name != "go.mod" || !strings.Contains(s.files[0].text, test.goMod+"\n") {
				t.Errorf("go.mod is\n%s", s.files[0].text)
			}
		})
	}
}

func TestManyComplaints(t *testing.T) {
	files := map[string]string{"main.go": "package main\n" + strings.Repeat("//go:linkname a b\n", 1000)}
	if _, found := prepare(files, aTree(), "go1.26.8"); len(found) != maxDiagnostics {
		t.Errorf("%d diagnostics", len(found))
	}
}

// TestKey holds the name of a result to everything that it depends on, and to nothing else.
func TestKey(t *testing.T) {
	key := func(files map[string]string, toolchain string, tree *tree) string {
		s, found := prepare(files, tree, toolchain)
		if len(found) > 0 {
			t.Fatal(found)
		}
		return s.key(toolchain, tree)
	}
	base := key(map[string]string{"main.go": aMain}, "go1.26.8", aTree())
	if again := key(map[string]string{"main.go": aMain, "go.sum": "x"}, "go1.26.8", aTree()); again != base {
		t.Error("go.sum changes the key")
	}
	other := aTree()
	other.hash = "other"
	for what, k := range map[string]string{
		"content":   key(map[string]string{"main.go": aMain + "\n"}, "go1.26.8", aTree()),
		"another":   key(map[string]string{"main.go": aMain, "b.txt": ""}, "go1.26.8", aTree()),
		"name":      key(map[string]string{"nain.go": aMain}, "go1.26.8", aTree()),
		"toolchain": key(map[string]string{"main.go": aMain}, "go1.26.9", aTree()),
		"modules":   key(map[string]string{"main.go": aMain}, "go1.26.8", other),
	} {
		if k == base {
			t.Errorf("%s does not change the key", what)
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add("main.go", aMain, "module x\ngo 1.26.0\nrequire (\n\ta.org/b v1.0.0 // indirect\n)\n")
	f.Add("../x.go", "package main\nimport \"C\"\n//go:linkname a b", "replace a => b")
	f.Add("a/b.S", "//go:build !linux\n\npackage x\nimport \"\x00\"", "module \"x\ngo 1.2.3rc4")
	f.Fuzz(func(t *testing.T, name, text, mod string) {
		s, found := prepare(map[string]string{name: text, "go.mod": mod, "m.go": aMain}, aTree(), "go1.26.8")
		if (s == nil) == (len(found) == 0) {
			t.Fatalf("neither accepted nor refused: %v", found)
		}
		if s == nil {
			return
		}
		for _, file := range s.files {
			if path.IsAbs(file.name) || path.Clean(file.name) != file.name || strings.HasPrefix(file.name, "..") || strings.ContainsAny(file.name, "\\\x00\n") {
				t.Errorf("file %q is let pass", file.name)
			}
		}
		made := s.files[0].text
		if n := strings.Count(made, "module "); n != 1 || strings.Contains(made, "replace") && !strings.Contains(mod, "replace") {
			t.Errorf("go.mod is\n%s", made)
		}
	})
}
