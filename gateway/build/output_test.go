package build

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/facetgateway/fgw/sdk/wire"
)

func diagnostic(file string, line, column int, message string) wire.Diagnostic {
	return wire.Diagnostic{File: file, Line: line, Column: column, Message: message}
}

func TestParseOutput(t *testing.T) {
	for _, test := range []struct {
		name, output string
		want         []wire.Diagnostic
	}{
		{"compiler", "# app\n./main.go:17:13: cannot use \"a\" as int\n./b.go:3: missing return\n",
			[]wire.Diagnostic{diagnostic("main.go", 17, 13, "cannot use \"a\" as int"), diagnostic("b.go", 3, 0, "missing return")}},
		{"a package below", "# app/sub\nsub/x.go:1:2: undefined: y\n", []wire.Diagnostic{diagnostic("sub/x.go", 1, 2, "undefined: y")}},
		{"more lines", "./main.go:8:9: not enough arguments\n\thave (int)\n\twant (int, int)\n",
			[]wire.Diagnostic{diagnostic("main.go", 8, 9, "not enough arguments\n\thave (int)\n\twant (int, int)")}},
		{"no such package", "main.go:4:2: package nosuch is not in std (/go/src/nosuch)\n", []wire.Diagnostic{diagnostic("main.go", 4, 2, "package nosuch is not in std")}},
		{"absolute", "/src/main.go:4:2: what\n", []wire.Diagnostic{diagnostic("main.go", 4, 2, "what")}},
		{"go.mod", "go: errors parsing go.mod:\ngo.mod:3: bad\n", []wire.Diagnostic{diagnostic("", 0, 0, "go: errors parsing go.mod:"), diagnostic("go.mod", 3, 0, "bad")}},
		{"linker", "# app\nruntime.main_main·f: function main is undeclared in the main package\n",
			[]wire.Diagnostic{diagnostic("", 0, 0, "runtime.main_main·f: function main is undeclared in the main package")}},
		{"cycle", "package app\n\timports app/a\n\timports app: import cycle not allowed\n",
			[]wire.Diagnostic{diagnostic("", 0, 0, "package app\n\timports app/a\n\timports app: import cycle not allowed")}},
		{"too many", "./a.go:1:1: x\n./a.go:9:1: too many errors\n", []wire.Diagnostic{diagnostic("a.go", 1, 1, "x")}},
		{"another line's number", "# app\npage.templ:7:13: undefined: x\n", []wire.Diagnostic{diagnostic("page.templ", 7, 13, "undefined: x")}},
		{"two packages", "found packages main (main.go) and x (x.go) in /src\n", []wire.Diagnostic{diagnostic("", 0, 0, "found packages main (main.go) and x (x.go)")}},
		{"a crash of the compiler's", "# app\npanic: oh\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:1 +0x1\n", []wire.Diagnostic{diagnostic("", 0, 0, "the toolchain crashed: panic: oh")}},
		{"nothing", "", []wire.Diagnostic{diagnostic("", 0, 0, "the build failed, and the toolchain did not say why")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := parseOutput(test.output); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
	if got := parseOutput(strings.Repeat("./a.go:1:1: x\n", 1000)); len(got) != maxDiagnostics {
		t.Errorf("%d diagnostics", len(got))
	}
}

func FuzzParseOutput(f *testing.F) {
	f.Add("./main.go:17:13: cannot use\n\tmore\n# app\n")
	f.Add("\xff\xfe:1:1: \x00.go:99999999999:1:")
	f.Fuzz(func(t *testing.T, output string) {
		found := parseOutput(output)
		if len(found) == 0 || len(found) > maxDiagnostics {
			t.Fatalf("%d diagnostics", len(found))
		}
		for _, d := range found {
			if len(d.Message) > maxMessage+len("…") || !utf8.ValidString(d.Message) || !utf8.ValidString(d.File) || d.Line < 0 || d.Column < 0 {
				t.Errorf("diagnostic %+v", d)
			}
		}
	})
}

func FuzzReadHead(f *testing.F) {
	var b bytes.Buffer
	writeHead(&b, answer{Built: true, Output: "x", Size: 7})
	f.Add(b.Bytes())
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var a answer
		if err := readHead(bytes.NewReader(raw), &a); err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeHead(&again, a); err != nil {
			t.Fatal(err)
		}
		var b answer
		if err := readHead(&again, &b); err != nil || a != b {
			t.Errorf("%+v becomes %+v, %v", a, b, err)
		}
	})
}
