package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// Sources, good and bad ones, on one gateway: its build cache takes a while to fill.
func TestSources(t *testing.T) {
	rig.NeedRoot(t)
	t.Parallel() // one of the bombs takes the minute that a build may
	s := staged(t, rig.Sources)
	s.Must("namespaces", "set", "t", "request_timeout=110s") // the first build finds no cache
	t.Run("check and run", func(t *testing.T) { checkAndRun(t, s.at(t, "makes")) })
	for _, test := range []struct {
		name, object string
		run          func(*testing.T, *stage)
	}{
		{"bad sources", "bad", badSources}, {"compiler bombs", "bombs", compilerBombs},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s.at(t, test.object))
		})
	}
}

// Sources that are too much, or escape, or bring a compiler to its knees: refused or ended with a clear error in bounded
// time, while the children beside them go on.
func badSources(t *testing.T, s *stage) {
	s.expect("calm", "/count", "0")
	beside := watch(s.Gateway, s.path("on", "calm", "/read"), "1\n")
	for _, test := range []struct {
		name string
		plan plan
		says string
	}{
		{"a hundred megabytes", plan{"bytes": 100 << 20}, "at most"},
		{"17 MiB", plan{"bytes": 17 << 20}, "at most"},
		{"1,001 files", plan{"many": 1001}, "files"},
		{"a name above", plan{"files": plan{"main.go": "package main\nfunc main() {}\n", "../evil.go": "package main\n"}}, "../evil.go"},
		{"a name within", plan{"files": plan{"main.go": "package main\nfunc main() {}\n", "a/../../evil.go": "package main\n"}}, "evil.go"},
		{"an absolute name", plan{"files": plan{"main.go": "package main\nfunc main() {}\n", "/etc/evil.go": "package main\n"}}, "/etc/evil.go"},
		{"no file", plan{"files": plan{}}, ""},
		{"no Go", plan{"files": plan{"main.go": "this is no Go"}}, "main.go:1"},
		{"no main", plan{"files": plan{"lib.go": "package lib\n"}}, "main"},
		{"no sdk.Serve", plan{"files": plan{"main.go": "package main\nfunc main() {}\n"}}, "is it an app that calls sdk.Serve"},
		{"cgo", plan{"files": plan{"main.go": "package main\nimport \"C\"\nfunc main() {}\n"}}, "cgo"},
		{"assembly", plan{"files": plan{"main.go": "package main\nfunc main() {}\n", "x.s": "TEXT ·x(SB),0,$0\n"}}, "x.s"},
		{"replace", plan{"files": plan{"main.go": "package main\nfunc main() {}\n", "go.mod": "module x\nreplace a => /etc\n"}}, "replace"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.at(t, s.object)
			s.plan(test.name, test.plan)
			began := time.Now()
			a := s.Do("GET", s.path("on", test.name, "/count"), nil)
			if p := a.Problem(); a.Status < 400 || p.Code != "build_failed" && p.Code != "bad_request" && p.Code != "facet_start_failed" && p.Code != "facet_crashed" || !strings.Contains(p.Message, test.says) {
				t.Errorf("%d %.500s", a.Status, a.Body)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	beside.check(t, 3*time.Second)
	s.expect("calm", "/count", "1")
	if d := s.Inspect(s.address()); d.Usage.Starts != 1 {
		t.Errorf("the supervisor started %d times: %+v", d.Usage.Starts, d.LastExit)
	}
}

// bomb writes a source that costs a compiler far more than its length.
func bomb(kind string) string {
	var b strings.Builder
	b.WriteString("package main\n\n")
	switch kind {
	case "constants": // numbers of millions of digits
		b.WriteString("const a0 = 1 << 500\n")
		for i := range 40 {
			fmt.Fprintf(&b, "const a%d = a%d * a%d\n", i+1, i, i)
		}
	case "types": // a type twice as large as the one before
		b.WriteString("type t0 struct{ a, b int }\n")
		for i := range 60 {
			fmt.Fprintf(&b, "type t%d struct{ a, b t%d }\n", i+1, i)
		}
		b.WriteString("var x t60\n")
	case "generics": // an instance that asks for a larger one, for ever
		b.WriteString("type box[T any] struct{ v T }\nfunc grow[T any](n int, v T) { if n > 0 { grow(n-1, box[T]{v}) } }\nfunc init() { grow(9, 1) }\n")
	case "functions":
		for i := range 10_000 {
			fmt.Fprintf(&b, "func f%d(a, b int) int { return a*%d + b }\n", i, i)
		}
	case "nesting":
		b.WriteString("var x = " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000) + "\n")
	}
	b.WriteString("\nfunc main() {}\n")
	return b.String()
}

// Compiler bombs end in bounded time; the supervisor and its other children go on.
func compilerBombs(t *testing.T, s *stage) {
	s.expect("calm", "/count", "0")
	beside := watch(s.Gateway, s.path("on", "calm", "/read"), "1\n")
	for _, kind := range []string{"constants", "types", "generics", "functions", "nesting"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "types" && testing.Short() {
				t.Skip("takes the minute that a build may")
			}
			s := s.at(t, s.object)
			s.plan(kind, plan{"files": plan{"main.go": bomb(kind)}})
			began := time.Now()
			a := s.Do("GET", s.path("on", kind, "/count"), nil)
			took := time.Since(began)
			if p := a.Problem(); a.Status < 400 || p.Code != "build_failed" && p.Code != "facet_crashed" && p.Code != "facet_protocol" || took > 90*time.Second {
				t.Errorf("%s: %d %.500s", took, a.Status, a.Body)
			}
		})
	}
	beside.check(t, 3*time.Second)
	s.expect("calm", "/count", "1")
}

// Check says what is wrong at which line and runs nothing; a source that is right has no findings, and runs.
func checkAndRun(t *testing.T, s *stage) {
	good := "package main\n\nimport (\n\t\"context\"\n\t\"net/http\"\n\n\t\"github.com/facetgateway/fgw/sdk\"\n)\n\nfunc main() { sdk.Serve(start) }\n\n" +
		"func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {\n\treturn http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(\"made\")) }), nil\n}\n"
	check := func(source string) string {
		return strings.TrimSpace(s.Text("POST", s.path("check", "", ""), text(t, plan{"main.go": source})))
	}
	if got := check(good); got != "[]" {
		t.Errorf("good code: %s", got)
	}
	if got := check(strings.Replace(good, `"made"`, "oops", 1)); !strings.Contains(got, `"file":"main.go","line":13`) || !strings.Contains(got, "undefined: oops") {
		t.Errorf("an error: %s", got)
	}
	if got := check(strings.Replace(good, "import (", "import (\n\t\"github.com/nosuch/module\"", 1)); !strings.Contains(got, "nosuch") {
		t.Errorf("an unknown module: %s", got)
	}
	s.plan("made", plan{"files": plan{"main.go": good}})
	s.expect("made", "/", "made")
	s.plan("made", plan{"files": plan{"main.go": strings.Replace(good, `"made"`, "oops", 1)}})
	s.done("abort", "made", "")
	if p := s.Refused(502, "build_failed", "GET", s.path("on", "made", "/"), nil); !strings.Contains(p.Message, "main.go:13:") || !strings.Contains(p.Message, "undefined: oops") {
		t.Errorf("told %q", p.Message)
	}
	s.plan("made", plan{"files": plan{"main.go": strings.Replace(good, "made", "mended", 1)}})
	s.expect("made", "/", "mended")
}
