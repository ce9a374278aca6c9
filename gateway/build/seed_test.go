package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// seederVariable has the test binary be a cache program: "CACHE:SEED".
const seederVariable = "FGW_TEST_SEEDER"

func seederMain() bool {
	cache, seed, ok := strings.Cut(os.Getenv(seederVariable), ":")
	if ok {
		if err := (&seeder{cache: cache, seed: seed}).serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	return ok
}

// compiles runs the go command on a package of the standard library that imports nothing, and counts compilations.
func compiles(t *testing.T, cache, pkg string, variables ...string) int {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"build", "-x"}, fixedFlags...), pkg)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(append(os.Environ(), "GOCACHE="+cache, "GOFLAGS=", "CGO_ENABLED=0"), variables...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return bytes.Count(out, []byte("/compile -o "))
}

// TestSeedsGoCache holds the cache program to what the go command of this machine makes of it: what the seed has is copied, what it
// has not is compiled and kept, and the cache is afterwards good without the program.
func TestSeedsGoCache(t *testing.T) {
	dir := t.TempDir()
	cache, seed := filepath.Join(dir, "cache"), filepath.Join(dir, "seed")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	with := []string{"GOCACHEPROG=" + self, seederVariable + "=" + cache + ":" + seed}
	if n := compiles(t, seed, "container/ring"); n != 1 {
		t.Fatalf("the seed took %d compilations, wanted 1", n)
	}
	for _, step := range []struct {
		what, pkg string
		with      []string
		want      int
	}{
		{"what the seed has", "container/ring", with, 0},
		{"what it has not", "container/list", with, 1},
		{"once more", "container/list", with, 0},
		{"the first without the program", "container/ring", nil, 0},
		{"the second without the program", "container/list", nil, 0},
	} {
		if n := compiles(t, cache, step.pkg, step.with...); n != step.want {
			t.Errorf("%s: %d compilations, wanted %d", step.what, n, step.want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "*", "new-*")); len(left) > 0 {
		t.Errorf("left in the cache: %v", left)
	}
}

// TestSeedRefuses: only what is whole, and bears the name of its content, is copied.
func TestSeedRefuses(t *testing.T) {
	output := []byte("compiled")
	sum := sha256.Sum256(output)
	action := bytes.Repeat([]byte{7}, idLength)
	good := (&record{output: sum[:], size: int64(len(output)), made: time.Unix(1, 2)}).format(action)
	for _, test := range []struct {
		what, record string
		output       []byte
		miss         bool
	}{
		{"good", good, output, false},
		{"no output", good, nil, true},
		{"an output cut off", good, output[:3], true},
		{"an output of another's", good, []byte("COMPILED"), true},
		{"another size", strings.Replace(good, " 8 ", " 9 ", 1), output, true},
		{"a record cut off", good[:len(good)-1], output, true},
		{"a record that goes on", good + "\n", output, true},
		{"a later form", "v2" + good[2:], output, true},
		{"another action's", strings.Replace(good, "0707", "0708", 1), output, true},
		{"an output that leads out of the directory", strings.Replace(good, hex.EncodeToString(sum[:]), "../../../../etc/passwd", 1), output, true},
		{"nothing", "", output, true},
	} {
		t.Run(test.what, func(t *testing.T) {
			s := &seeder{cache: t.TempDir(), seed: t.TempDir()}
			if err := s.write(s.path(s.seed, action, 'a'), []byte(test.record)); err != nil {
				t.Fatal(err)
			}
			if test.output != nil {
				if err := s.write(s.path(s.seed, sum[:], 'd'), test.output); err != nil {
					t.Fatal(err)
				}
			}
			r := s.answer(&cacheRequest{ID: 3, Command: "get", ActionID: action}, nil)
			if r.Miss != test.miss || r.Err != "" || r.ID != 3 {
				t.Fatalf("answered %+v, wanted a miss: %v", r, test.miss)
			}
			kept, _ := filepath.Glob(filepath.Join(s.cache, "*", "*"))
			if test.miss != (len(kept) == 0) {
				t.Errorf("kept %v", kept)
			}
			if !test.miss {
				if text, err := os.ReadFile(r.DiskPath); err != nil || !bytes.Equal(text, output) {
					t.Errorf("the output is %q, %v", text, err)
				}
			}
		})
	}
}

// TestSeedProtocol: answers to single requests.
func TestSeedProtocol(t *testing.T) {
	id := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, idLength))
	for _, test := range []struct{ what, asked, want string }{
		{"unknown command", `{"ID":1,"Command":"burn","ActionID":"` + id + `"}`, `"Err":"unknown command"`},
		{"no action", `{"ID":1,"Command":"get"}`, `"Err":"no action`},
		{"short action", `{"ID":1,"Command":"get","ActionID":"AAAA"}`, `"Err":"no action`},
		{"miss", `{"ID":1,"Command":"get","ActionID":"` + id + `"}`, `"Miss":true`},
		{"put", `{"ID":1,"Command":"put","ActionID":"` + id + `","OutputID":"` + id + `","BodySize":3}` + "\n" + `"YWJj"`, `"DiskPath"`},
		{"put of nothing", `{"ID":1,"Command":"put","ActionID":"` + id + `","OutputID":"` + id + `"}`, `"DiskPath"`},
		{"put of another size", `{"ID":1,"Command":"put","ActionID":"` + id + `","OutputID":"` + id + `","BodySize":4}` + "\n" + `"YWJj"`, `"Err"`},
		{"close", `{"ID":1,"Command":"close"}` + "\n" + `{"ID":2,"Command":"get"}`, `{"ID":1}`},
	} {
		t.Run(test.what, func(t *testing.T) {
			var out bytes.Buffer
			s := &seeder{cache: t.TempDir(), seed: t.TempDir()}
			if err := s.serve(strings.NewReader(test.asked+"\n"), &out); err != nil {
				t.Fatal(err)
			}
			first, rest, _ := strings.Cut(out.String(), "\n")
			if !strings.Contains(first, `"KnownCommands":["get","put","close"]`) || !strings.Contains(rest, test.want) || strings.Count(rest, "\n") != 1 {
				t.Errorf("answered\n%swanted %s in one line", out.String(), test.want)
			}
		})
	}
}

// TestWarmsFromSeed: a new gateway's cache takes the standard library from the administrator's.
func TestWarmsFromSeed(t *testing.T) {
	root, _, err := FindToolchain(os.Getenv("FGW_GOROOT"))
	if err != nil {
		t.Fatal(err)
	}
	seed := FindCache(root)
	if seed == "" {
		t.Skip("the go command's cache here is one that others can write to, or there is none: see `go env GOCACHE`")
	}
	// What it would be by `make build`.
	cmd := exec.Command(filepath.Join(root, "bin", "go"), append(append([]string{"build"}, fixedFlags...), "net/http")...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0", "GOTOOLCHAIN=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	r, err := startRig(dir, testConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	if v := r.must(t, map[string]string{"main.go": aMain}); v.Error != "" {
		t.Fatal(v.Error)
	}
	copied := 0
	kept, _ := filepath.Glob(filepath.Join(dir, "build", "cache", "*", "*-a"))
	for _, name := range kept {
		own, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// Records bear the time of the compilation.
		theirs, err := os.ReadFile(filepath.Join(seed, filepath.Base(filepath.Dir(name)), filepath.Base(name)))
		if err == nil && bytes.Equal(own, theirs) {
			copied++
		}
	}
	if copied < 100 {
		t.Errorf("%d of %d packages were copied; net/http alone needs more than 100", copied, len(kept))
	}
}

// TestFindCache: a cache that others could write to is none.
func TestFindCache(t *testing.T) {
	root, _, err := FindToolchain(os.Getenv("FGW_GOROOT"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what        string
		mode, below os.FileMode
		want        bool
	}{
		{"its own", 0o755, 0o755, true},
		{"closed", 0o700, 0o700, true},
		{"a group's", 0o775, 0o755, false},
		{"everyone's", 0o777, 0o755, false},
		{"everyone's below", 0o755, 0o777, false},
		{"missing", 0, 0, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			want := ""
			if test.mode != 0 {
				below := filepath.Join(dir, "00")
				if err := os.MkdirAll(below, 0o755); err != nil {
					t.Fatal(err)
				}
				os.Chmod(below, test.below)
				os.Chmod(dir, test.mode)
			}
			if test.want {
				want = dir
			}
			t.Setenv("GOCACHE", dir)
			if got := FindCache(root); got != want {
				t.Errorf("got %q, wanted %q", got, want)
			}
		})
	}
}

func FuzzSeedRecord(f *testing.F) {
	action := bytes.Repeat([]byte{7}, idLength)
	f.Add((&record{output: action, size: 1, made: time.Unix(1, 2)}).format(action))
	f.Add("v1 07 07 1 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseRecord(text, action)
		if err == nil && (e.format(action) != text || len(e.output) != idLength || e.size < 0) {
			t.Errorf("%q became %+v", text, e)
		}
	})
}

func FuzzSeedProtocol(f *testing.F) {
	f.Add([]byte(`{"ID":1,"Command":"put","ActionID":"AAAA","OutputID":"AAAA","BodySize":3}` + "\n" + `"YWJj"`))
	f.Add([]byte(`{"ID":1,"Command":"close"}`))
	cache, seed := f.TempDir(), f.TempDir()
	f.Fuzz(func(t *testing.T, asked []byte) {
		var out bytes.Buffer
		(&seeder{cache: cache, seed: seed}).serve(bytes.NewReader(asked), &out)
		for d := json.NewDecoder(&out); ; {
			var r cacheResponse
			if err := d.Decode(&r); err == io.EOF {
				return
			} else if err != nil {
				t.Fatalf("answered what is no JSON: %v", err)
			}
		}
	})
}
