package build

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
)

// built is a small program that imports next to nothing: building it takes a fraction of a second.
func program(body string) string { return "package main\n\n" + body }

// TestBuild builds, confined, what authors write.
func TestBuild(t *testing.T) {
	r := theRig(t)
	unique := fmt.Sprintf("// %d\n", time.Now().UnixNano())
	for _, test := range []struct {
		name  string
		files map[string]string
		found string // file:line:column: message, of the first diagnostic; "" where it builds
	}{
		{"an app of one file", map[string]string{"main.go": hello("one")}, ""},
		{"a module of its own with a package", map[string]string{"go.mod": "module my.org/thing\n\ngo 1.24\n",
			"main.go": program("import \"my.org/thing/in/ner\"\n\nfunc main() { println(inner.Word) }\n"), "in/ner/x.go": "package inner\n\nconst Word = \"hi\"\n"}, ""},
		{"an embedded file", map[string]string{"main.go": program("import _ \"embed\"\n\n//go:embed web/a.txt\nvar text string\n\nfunc main() { println(text) }\n"), "web/a.txt": "text\x00\xfe"}, ""},
		{"tests and files for others beside it", map[string]string{"main.go": program("func main() {}\n"), "x_test.go": "package main\nimport _ \"a.org/b\"\n", "x_windows.go": "package main\nvar x int = \"\"\n"}, ""},
		{"a profile", map[string]string{"main.go": program("func main() {}\n"), "default.pgo": "no profile"}, ""},
		{"rarely used packages of the standard library", map[string]string{"main.go": program("import (\n\t_ \"encoding/csv\"\n\t_ \"image/png\"\n)\n\nfunc main() {}\n")}, ""},
		{"an error of type", map[string]string{"main.go": program("func main() { var x int = \"a\"; _ = x }\n")}, "main.go:3:27: cannot use \"a\""},
		{"an error of syntax", map[string]string{"main.go": program("func main() {\n")}, "main.go:4:1: syntax error"},
		{"an error in a package", map[string]string{"main.go": program("import \"app/sub\"\n\nfunc main() { sub.X() }\n"), "sub/x.go": "package sub\n\nfunc X() { undefined() }\n"}, "sub/x.go:3:12: undefined: undefined"},
		{"an error under another line's number", map[string]string{"main.go": program("//line page.templ:7\nvar x int = \"a\"\n\nfunc main() {}\n")}, "page.templ:7:0: cannot use"},
		{"no such package", map[string]string{"main.go": program("import _ \"nosuch/package\"\n\nfunc main() {}\n")}, "main.go:3:8: package nosuch/package is not in std"},
		{"no main function", map[string]string{"main.go": program("func start() {}\n")}, "::: function main is undeclared"},
		{"no main package", map[string]string{"x.go": "package x\n"}, "x.go:1:9: package x: the files at the top"},
		{"two packages", map[string]string{"x.go": "package x\n", "main.go": program("func main() {}\n")}, "x.go:1:9: package x: the files at the top"},
		{"an internal package of the standard library", map[string]string{"main.go": program("import _ \"internal/abi\"\n\nfunc main() {}\n")}, "::: package app"},
		{"a module with the name of a package", map[string]string{"go.mod": "module fmt\n", "main.go": program("import \"fmt\"\n\nfunc main() { fmt.Println() }\n")}, "*"},
		{"a cycle", map[string]string{"main.go": program("import _ \"app/a\"\n\nfunc main() {}\n"), "a/a.go": "package a\n\nimport _ \"app/a\"\n"}, "::: package app"},
		{"an embedded file of the sandbox's", map[string]string{"main.go": program("import _ \"embed\"\n\n//go:embed ../go/VERSION\nvar text string\n\nfunc main() {}\n")}, "main.go:5:12: pattern ../go/VERSION: invalid pattern"},
		{"all of the SDK embedded", map[string]string{"main.go": program("import \"embed\"\n\n//go:embed vendor\nvar text embed.FS\n\nfunc main() {}\n")}, "main.go:5:12: pattern vendor: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.files["unique.txt"] = unique // not from an earlier run's results
			v := r.must(t, test.files)
			switch {
			case v.Error != "":
				t.Fatalf("could not be tried: %s", v.Error)
			case test.found == "*":
				return
			case test.found == "" && v.Bundle == "":
				t.Fatalf("does not build: %+v", v.Found)
			case test.found == "":
				if err := bundle.CheckFile(filepath.Join(r.dir, "bundles", v.Bundle)); err != nil {
					t.Error(err)
				}
				return
			case len(v.Found) == 0:
				t.Fatal("builds")
			}
			d := v.Found[0]
			text := fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Message)
			if d.File == "" {
				text = "::: " + d.Message
			}
			if want, ok := strings.CutPrefix(test.found, "::: "); ok && !strings.Contains(text, want) || !ok && !strings.HasPrefix(text, test.found) {
				t.Errorf("got %+v", v.Found)
			}
			if strings.Contains(text, "/src") || strings.Contains(text, "/go/") && !strings.Contains(test.found, "/go/") {
				t.Errorf("tells a path of the sandbox: %s", text)
			}
		})
	}
}

// TestOnce has many ask for the same files at once: one build serves all, and another asks nobody.
func TestOnce(t *testing.T) {
	r := theRig(t)
	files := map[string]string{"main.go": hello(fmt.Sprint("once ", time.Now().UnixNano()))}
	const callers = 20
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		bundles = map[string]int{}
	)
	before := r.spawned(t)
	for range callers {
		wg.Go(func() {
			v, err := r.build(t.Context(), files, "once")
			if err != nil || v.Bundle == "" {
				t.Errorf("%+v, %v", v, err)
			}
			mu.Lock()
			bundles[v.Bundle]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if n := r.spawned(t) - before; len(bundles) != 1 || n != 1 {
		t.Errorf("%d builds, %d bundles", n, len(bundles))
	}
	if v := r.must(t, files); v.Took > 50*time.Millisecond || r.spawned(t)-before != 1 {
		t.Errorf("built again, in %v", v.Took)
	}
	broken := map[string]string{"main.go": program(fmt.Sprintf("var x int = \"%d\"\n\nfunc main() {}\n", time.Now().UnixNano()))}
	before = r.spawned(t)
	for range 3 {
		if v := r.must(t, broken); len(v.Found) != 1 {
			t.Errorf("%+v", v)
		}
	}
	if n := r.spawned(t) - before; n != 1 {
		t.Errorf("what is broken was built %d times", n)
	}
}

// TestWaiters has one of two callers give up, who does not take the build from the other, and then the
// only one, whose build ends with it.
func TestWaiters(t *testing.T) {
	r := theRig(t)
	files := map[string]string{"main.go": program(fmt.Sprintf("// %d\n", time.Now().UnixNano()) + slowToCompile)}
	impatient, giveUp := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := r.build(impatient, files, "one")
		gone <- err
	}()
	patient, giveUpToo := context.WithCancel(t.Context())
	stayed := make(chan error, 1)
	r.until(t, "a builder runs", func(s state) bool { return s.Running == 1 })
	go func() {
		_, err := r.build(patient, files, "two")
		stayed <- err
	}()
	r.until(t, "both wait", func(s state) bool { return s.Waiters == 2 })
	giveUp()
	if err := <-gone; err == nil {
		t.Error("the impatient one got an answer")
	}
	r.until(t, "one waits", func(s state) bool { return s.Waiters == 1 })
	if s := r.state(t); s.Running != 1 {
		t.Errorf("the build ended with a caller who was not the only one: %+v", s)
	}
	giveUpToo()
	<-stayed
	r.until(t, "no builder runs", func(s state) bool { return s.Running == 0 && s.Flights == 0 })
}

// TestRestart finds the result of an earlier gateway, though nothing can be built yet.
func TestRestart(t *testing.T) {
	r := theRig(t)
	files := map[string]string{"main.go": program("func main() {}\n")}
	first := r.must(t, files)
	for _, c := range []testConfig{{NoWarm: true}, {}} {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		next, err := startRig(r.dir, c)
		if err != nil {
			t.Fatal(err)
		}
		*r = *next
		if c.NoWarm {
			if v := r.must(t, files); v.Bundle != first.Bundle || r.spawned(t) != 0 {
				t.Errorf("built again: %+v", v)
			}
			res, err := http.Get("http://" + r.addr + "/bundle/" + first.Bundle)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("the bundle: %v, %v", res, err)
			}
			res.Body.Close()
		}
	}
}

// TestModules allows a module, changes what it says, and takes it away again.
func TestModules(t *testing.T) {
	r := theRig(t)
	allow := func(files map[string]string) {
		t.Helper()
		res, err := http.Post("http://"+r.addr+"/modules", "application/zip", bytes.NewReader(archiveOf(t, files)))
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", res, err)
		}
		res.Body.Close()
	}
	files := map[string]string{"main.go": program("import \"example.org/colour\"\n\nfunc main() { println(colour.Name) }\n")}
	refused := func() {
		t.Helper()
		if v := r.must(t, files); len(v.Found) != 1 || !strings.Contains(v.Found[0].Message, "fgw modules allow") {
			t.Errorf("%+v", v)
		}
	}
	bundles := map[string]bool{}
	refused()
	for _, word := range []string{"red", "green"} {
		allow(colour(word))
		v := r.must(t, files)
		if v.Bundle == "" || bundles[v.Bundle] {
			t.Errorf("%s: %+v", word, v)
		}
		bundles[v.Bundle] = true
		if v := r.must(t, map[string]string{"main.go": hello(word)}); v.Bundle == "" {
			t.Errorf("an app beside it: %+v", v)
		}
	}
	allow(map[string]string{"manifest.json": "{}", "vendor/modules.txt": ""})
	refused()
}

// TestNoToolchain says what to do where nothing can be built.
func TestNoToolchain(t *testing.T) {
	b := &Builder{}
	_, _, err := b.Build(t.Context(), map[string]string{"main.go": aMain})
	if err == nil || !strings.Contains(err.Error(), "no Go toolchain") {
		t.Errorf("%v", err)
	}
}
