package build

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowToCompile keeps the compiler busy for minutes without much memory: each constant is twice as
// long as the one before it, and is multiplied with itself.
var slowToCompile = func() string {
	var b strings.Builder
	b.WriteString("func main() {\n\tvar f func(int) int\n\t_ = f\n")
	for i := range 6000 {
		fmt.Fprintf(&b, "\tswitch x := f(%d); {\n\tcase x > 1:\n\t\tdefer func() { for i := range x { if g := func() int { return f(i) * %d }; g() > x { println(i, g(), x) } } }()\n\t}\n", i, i)
	}
	b.WriteString("}\n")
	return b.String()
}()

// boundedTime and boundedMemory are the bounds of a build in the tests: the defaults would take the tests' time.
const (
	boundedTime   = 5 * time.Second
	boundedMemory = 400 << 20
	boundedOwner  = "bounded" // whose builds have these bounds
)

// TestBombs builds what is made to hurt whoever compiles it: each ends within the bounds of one build, with a
// clear error or an executable, and the next build is as quick as ever.
func TestBombs(t *testing.T) {
	r := theRig(t)
	for _, test := range []struct {
		name, source string
		may          []string // what it may end with; "" is an executable or diagnostics
	}{
		{"huge constants", program("const a = 1 << 500\nconst b = a * a\n" + doubling("const", 40) + "\nfunc main() { println(c40 > 0) }\n"), []string{""}},
		{"deep generics", program(deepGenerics(60)), []string{"", "memory", "finish"}},
		{"a type that doubles", program(doublingTypes(28)), []string{"", "memory", "finish"}},
		{"a huge array", program("var x [1 << 40]int = [1 << 40]int{1 << 39: 1}\n\nfunc main() { println(len(x)) }\n"), []string{"memory"}},
		{"large data", program("var x = [200 << 20]byte{1, 200<<20 - 1: 1}\n\nfunc main() { println(len(x)) }\n"), []string{"", "memory", "finish", "large"}},
		{"slow to compile", program(slowToCompile), []string{"", "memory", "finish"}},
		{"nested parentheses", program("var x = " + strings.Repeat("(", 1_000_000) + "1" + strings.Repeat(")", 1_000_000) + "\n\nfunc main() {}\n"), []string{"", "memory", "ended"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			started := time.Now()
			v, err := r.build(t.Context(), map[string]string{"main.go": test.source, "unique.txt": started.String()}, boundedOwner)
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(started)
			ok := false
			for _, may := range test.may {
				ok = ok || may == "" && v.Error == "" || may != "" && strings.Contains(v.Error, may)
			}
			if !ok || took > boundedTime+15*time.Second {
				t.Errorf("%v: %q %q %.300v", took, v.Code, v.Error, v.Found)
			}
			t.Logf("%v: %s %.200s %.100v", took, v.Code, v.Error, v.Found)
		})
	}
	r.until(t, "no builder runs", func(s state) bool { return s.Running == 0 })
	if v := r.must(t, map[string]string{"main.go": program(tenThousand())}); v.Bundle == "" {
		t.Errorf("10,000 functions, which are no bomb: %+v", v)
	}
	if v := r.must(t, map[string]string{"main.go": hello(fmt.Sprint(time.Now()))}); v.Bundle == "" {
		t.Errorf("afterwards nothing builds: %+v", v)
	}
}

func doubling(word string, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s c0 = b\n", word)
	for i := range n {
		fmt.Fprintf(&b, "%s c%d = c%d * c%d / b\n", word, i+1, i, i)
	}
	return b.String()
}

func deepGenerics(n int) string {
	return "type P[T any] struct{ a, b T }\n\nfunc f[T any](n int, x T) {\n\tif n > 0 {\n\t\tf(n-1, P[T]{x, x})\n\t}\n}\n\nfunc main() { f(" + fmt.Sprint(n) + ", 1) }\n"
}

func doublingTypes(n int) string {
	var b strings.Builder
	b.WriteString("type T0 struct{ x int }\n")
	for i := range n {
		fmt.Fprintf(&b, "type T%d struct{ a, b T%d }\n", i+1, i)
	}
	fmt.Fprintf(&b, "\nfunc main() { var x, y T%d; println(x == y) }\n", n)
	return b.String()
}

func tenThousand() string {
	var b, list strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "func f%d(x int) int { if x > %d { return x - 1 }; return x * %d }\n", i, i, i)
		fmt.Fprintf(&list, "\tf%d,\n", i)
	}
	return b.String() + "\nvar all = []func(int) int{\n" + list.String() + "}\n\nfunc main() { println(all[len(all)-1](1)) }\n"
}

// probeFile in a job has the builder's process, taken over as it were by what it compiled, try its world.
const probeFile = "probe.txt"

// TestWorld lets a builder that has been taken over do its worst.
func TestWorld(t *testing.T) {
	r := theRig(t)
	files := map[string]string{"main.go": aMain, probeFile: fmt.Sprint(time.Now().UnixNano())}
	v := r.must(t, files)
	if len(v.Found) != 1 {
		t.Fatalf("%+v", v)
	}
	var did map[string]string
	if err := json.Unmarshal([]byte(v.Found[0].Message), &did); err != nil {
		t.Fatalf("%v: %s", err, v.Found[0].Message)
	}
	for what, want := range map[string]string{
		"write to the cache": "read-only|denied", "replace in the cache": "read-only|denied", "remove from the cache": "read-only|denied",
		"write to the toolchain": "read-only|denied", "write to the modules": "read-only|denied", "write to the root": "read-only|denied",
		"read /etc/passwd": "no such file", "read /proc": "no such file", "read the data directory": "no such file",
		"connect": "not permitted", "unix socket": "not permitted", "run what it wrote": "denied", "run from memory": "not permitted",
		"make a device": "not permitted|denied", "raise its limits": "not permitted", "another's memory": "no such process|not permitted",
		"run the toolchain": "ok", "write scratch": "ok", "fill scratch": "no space|too large",
	} {
		ok := false
		for w := range strings.SplitSeq(want, "|") {
			ok = ok || strings.Contains(did[what], w)
		}
		if !ok {
			t.Errorf("%s: %q, want %s", what, did[what], want)
		}
	}
	if want := "cache dev go mod src tmp"; did["root"] != want {
		t.Errorf("the root holds %q, want %q", did["root"], want)
	}
	if did["scratch of others"] != "" {
		t.Errorf("finds %q of another build", did["scratch of others"])
	}
	if did["identity"] == "0" || did["parents"] != "1" {
		t.Errorf("user %s, process %s", did["identity"], did["parents"])
	}
}

// TestTripwire has a taken-over builder ask for a mount: it dies, and its caller is told why.
func TestTripwire(t *testing.T) {
	r := theRig(t)
	v := r.must(t, map[string]string{"main.go": aMain, probeFile: fmt.Sprint("mount", time.Now().UnixNano())})
	if !strings.Contains(v.Error, "forbidden system call") {
		t.Errorf("%+v", v)
	}
}

// TestLiar has a taken-over builder answer with what is no executable, one that is too large, or one cut short.
func TestLiar(t *testing.T) {
	r := theRig(t)
	for _, test := range []struct{ lie, want string }{
		{"text", "not an executable"}, {"large", "too large"}, {"short", "ended"}, {"head", "ended|started"}, {"silence", "ended"}, {"negative", "not an executable"},
	} {
		v := r.must(t, map[string]string{"main.go": aMain, probeFile: fmt.Sprint("lie ", test.lie, time.Now().UnixNano())})
		ok := false
		for w := range strings.SplitSeq(test.want, "|") {
			ok = ok || strings.Contains(v.Error, w)
		}
		if !ok || v.Bundle != "" {
			t.Errorf("%s: %+v", test.lie, v)
		}
	}
}

// probe is what the builder's process does instead of a build.
func probe(conn *os.File, head *jobHead) {
	var asked string
	for _, f := range head.Files {
		text := make([]byte, f.Size)
		io.ReadFull(conn, text)
		if f.Name == probeFile {
			asked = string(text)
		}
	}
	switch lie, isLie := strings.CutPrefix(asked, "lie "); {
	case isLie:
		tellLie(conn, lie)
	case strings.HasPrefix(asked, "mount"):
		unix.Mount("none", "/tmp", "tmpfs", 0, "")
	default:
		text, _ := json.Marshal(tryWorld())
		writeHead(conn, answer{Output: string(text)})
	}
}

func tellLie(conn io.Writer, lie string) {
	is := func(word string) bool { return strings.HasPrefix(lie, word) }
	switch {
	case is("text"):
		writeHead(conn, answer{Built: true, Size: 4})
		io.WriteString(conn, "text")
	case is("large"):
		writeHead(conn, answer{Built: true, Size: MaxExecutable + 1})
	case is("short"):
		writeHead(conn, answer{Built: true, Size: 1000})
		io.WriteString(conn, "\x7fELF")
	case is("head"):
		conn.Write([]byte{255, 255, 255, 255})
	case is("negative"):
		writeHead(conn, answer{Built: true, Size: -1})
	}
}

// tryWorld tries everything and tells how it went.
func tryWorld() map[string]string {
	did := map[string]string{}
	note := func(what string, err error) {
		if did[what] = "ok"; err != nil {
			did[what] = strings.ToLower(err.Error())
		}
	}
	write := func(what, path string) { note(what, os.WriteFile(path, []byte("poison"), 0o600)) }
	entries, _ := os.ReadDir("/")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	did["root"] = strings.Join(names, " ")
	did["identity"] = fmt.Sprint(os.Getuid())
	did["parents"] = fmt.Sprint(os.Getpid())
	others, _ := filepath.Glob("/tmp/*")
	did["scratch of others"] = strings.Join(others, " ")
	write("write to the cache", cacheDir+"/00/poison")
	kept, _ := filepath.Glob(cacheDir + "/0*/*-d")
	if len(kept) == 0 {
		kept = []string{cacheDir + "/README"}
	}
	write("replace in the cache", kept[0])
	note("remove from the cache", os.Remove(kept[0]))
	write("write to the toolchain", toolchainDir+"/bin/go")
	write("write to the modules", modulesDir+"/vendor/modules.txt")
	write("write to the root", "/x")
	for what, path := range map[string]string{"read /etc/passwd": "/etc/passwd", "read /proc": "/proc/self/status", "read the data directory": "/data"} {
		_, err := os.ReadFile(path)
		note(what, err)
	}
	_, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second)
	note("connect", err)
	_, err = net.Listen("unix", "/tmp/socket")
	note("unix socket", err)
	copied, err := os.ReadFile(toolchainDir + "/bin/gofmt")
	if err == nil {
		os.WriteFile("/tmp/program", copied, 0o700)
		err = exec.Command("/tmp/program", "-h").Run()
	}
	note("run what it wrote", err)
	_, err = unix.MemfdCreate("x", 0)
	note("run from memory", err)
	note("make a device", unix.Mknod("/tmp/device", unix.S_IFBLK|0o600, 0))
	note("raise its limits", unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}))
	note("another's memory", syscall.Kill(2, syscall.SIGKILL))
	cmd := exec.Command(toolchainDir+"/bin/go", "version")
	cmd.Env = environment()
	note("run the toolchain", cmd.Run())
	write("write scratch", "/tmp/scratch")
	note("fill scratch", fill("/src/large", sourceBytes+1))
	return did
}

// sourceBytes is the size of /src, as sandboxd makes it.
const sourceBytes = 64 << 20

func fill(path string, bytes int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, 1<<20)
	for n := 0; n < bytes; n += len(block) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}
