package confine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childName is argv[0] of this test binary when it is the confined child.
const childName = "confine-child"

func TestMain(m *testing.M) {
	if os.Args[0] == childName {
		childMain()
	}
	os.Exit(m.Run())
}

// childMain tells about itself on descriptor 1.
func childMain() {
	fmt.Println("args", os.Args[1:])
	fmt.Println("env", os.Environ())
	dir, err := os.Getwd()
	fmt.Println("dir", dir, err)
	fds := []int{}
	for fd := range 80 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			fds = append(fds, fd)
		}
	}
	fmt.Println("fds", fds)
	fmt.Println("ids", os.Getuid(), os.Getgid())
	list, err := os.ReadDir("/")
	fmt.Println("root", list, err)
	// Descriptors that only the test knows to be a pair: what goes into 3 comes out of 4.
	os.NewFile(3, "").Write([]byte("x"))
	b := make([]byte, 1)
	_, err = os.NewFile(4, "").Read(b)
	fmt.Println("pair", string(b), err)
	os.Exit(0)
}

// world is a thread that may have children, and the program that they run.
func world(t testing.TB) (exe *os.File, null *os.File) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces and users")
	}
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	for _, f := range []struct {
		path string
		to   **os.File
	}{{"/proc/self/exe", &exe}, {os.DevNull, &null}} {
		file, err := os.Open(f.path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		*f.to = file
	}
	return exe, null
}

func starter(t testing.TB, p Profile) *Starter {
	t.Helper()
	s, err := NewStarter(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func spec(exe *os.File) Spec { return Spec{Exe: int(exe.Fd()), Into: -1, Ruleset: -1, Life: -1} }

func reap(t testing.TB, c Child) unix.WaitStatus {
	t.Helper()
	unix.Close(c.PIDFD)
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return status
}

func TestChild(t *testing.T) {
	exe, null := world(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := NewRoot(Bind{Path: dir, Target: "/a/b", Writable: true}, Bind{Path: os.DevNull, Target: "/dev/null"}, Bind{Path: "/none", Target: "/c", Optional: true})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	p := Profile{Name: childName, Namespaces: NamespacesSQLD, DropBounds: true, Identity: true}
	s := spec(exe)
	s.Files = []int{int(null.Fd()), int(w.Fd()), int(w.Fd()), pair[0], pair[1]}
	s.Args, s.Env, s.Root, s.Dir = []string{"one", "two"}, []string{"A=1"}, root, "/a/b/inner"
	s.UID, s.GID = 1234567, 1234568
	child, err := starter(t, p).Start(s)
	w.Close()
	if errors.Is(err, unix.ENOENT) && child.PID > 0 {
		reap(t, child)
		t.Skip("needs a static test binary, which finds no loader in its own root: CGO_ENABLED=0 go test")
	}
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(r)
	if status := reap(t, child); status.ExitStatus() != 0 {
		t.Errorf("the child ended with %v", status)
	}
	want := `args [one two]
env [A=1]
dir /a/b/inner <nil>
fds [0 1 2 3 4]
ids 1234567 1234568
root [d a/ d dev/] <nil>
pair x <nil>
`
	// Go's runtime may have made descriptors of its own by the time that the child looks.
	got := strings.Replace(string(said), "fds [0 1 2 3 4 5 6 7]", "fds [0 1 2 3 4]", 1)
	if got != want {
		t.Errorf("the child says\n%swant\n%s", said, want)
	}
}

func TestFailingSteps(t *testing.T) {
	exe, null := world(t)
	closedPipe := func() int {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.Close(p[1])
		t.Cleanup(func() { unix.Close(p[0]) })
		return p[0]
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	noProgram, err := os.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	defer noProgram.Close()
	const absent = 999
	for _, test := range []struct {
		step    string
		errno   syscall.Errno
		profile Profile
		change  func(*Spec)
	}{
		{"join cgroup", unix.EBADF, Profile{}, func(s *Spec) { s.Join = []int{absent} }},
		{"clone", unix.EBADF, Profile{}, func(s *Spec) { s.Into = absent }},
		{"change directory", unix.ENOENT, Profile{}, func(s *Spec) { s.Dir = "/no/such/place" }},
		{"set descriptors aside", unix.EBADF, Profile{}, func(s *Spec) { s.Files = []int{0, absent} }},
		{"parent alive", 0, Profile{}, func(s *Spec) { s.Life = closedPipe() }},
		{"landlock", unix.EBADFD, Profile{Landlock: true}, func(s *Spec) { s.Ruleset = int(null.Fd()) }},
		{"seccomp", unix.EINVAL, Profile{Filter: make([]byte, 8)}, nil},
		{"prlimit", unix.EINVAL, Profile{Rlimits: []Rlimit{{99, 0}}}, nil},
		{"exec", unix.ENOEXEC, Profile{}, func(s *Spec) { s.Exe = int(noProgram.Fd()) }},
		{"exec", unix.EACCES, Profile{}, func(s *Spec) { s.Exe = int(null.Fd()) }},
	} {
		s := spec(exe)
		if test.change != nil {
			test.change(&s)
		}
		child, err := starter(t, test.profile).Start(s)
		if child.PID > 0 {
			if status := reap(t, child); status.ExitStatus() != exitFailed {
				t.Errorf("%s: the child ended with %v", test.step, status)
			}
		}
		var step *StepError
		if !errors.As(err, &step) || step.Step != test.step || step.Errno != test.errno {
			t.Errorf("%s fails with %v: want %v", test.step, err, test.errno)
		}
		if (child.PID == 0) != (test.step == "clone") {
			t.Errorf("%s: child %d", test.step, child.PID)
		}
	}
}

// TestOrder pins the order of the steps, each of which would be undone or refused at another place.
func TestOrder(t *testing.T) {
	s := starter(t, Facet(make([]byte, 8)))
	s.prepare(Spec{Files: make([]int, 5), Join: []int{1, 2, 3}, Into: -1, Ruleset: 7, Life: -1}, false)
	order := slices.Compact(slices.Clone(s.prog.names))
	want := []string{
		"join cgroup", "setsid", "set descriptors aside", "close descriptors", "place the program", "place descriptors",
		"prlimit", "setgroups", "setresgid", "setresuid", "capset", "parent-death signal", "no new privileges",
		"landlock", "seccomp", "exec",
	}
	if !slices.Equal(order, want) {
		t.Errorf("a facet's steps are %q, want %q", order, want)
	}
	s = starter(t, Launcher())
	s.prepare(Spec{Files: make([]int, 4), Into: -1, Ruleset: -1, Life: 9, Root: &Root{}, Dir: "/"}, false)
	order = slices.Compact(slices.Clone(s.prog.names))
	want = []string{
		"hostname", "private mounts", "attach root", "enter root", "pivot root", "detach old root", "change directory",
		"setsid", "set descriptors aside", "close descriptors", "place the program", "place descriptors",
		"capset", "secure bits", "drop bounding set", "capset", "keep capability",
		"parent-death signal", "parent alive", "no new privileges", "exec",
	}
	if !slices.Equal(order, want) {
		t.Errorf("the launcher's steps are %q, want %q", order, want)
	}
}

// TestStorm spawns while the collector runs all the time, memory is overwritten, and signals
// arrive: what goes wrong between clone and exec goes wrong here or nowhere.
func TestStorm(t *testing.T) {
	exe, null := world(t)
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGUSR1, syscall.SIGURG)
	defer signal.Stop(ignored)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for _, disturb := range []func(){
		func() { runtime.KeepAlive(make([]byte, 64<<10)) },
		func() { syscall.Kill(os.Getpid(), syscall.SIGUSR1); time.Sleep(100 * time.Microsecond) },
		func() { syscall.Kill(os.Getpid(), syscall.SIGURG); runtime.Gosched() },
	} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					disturb()
				}
			}
		})
	}
	good := starter(t, Profile{})
	s := spec(exe)
	bad := spec(exe)
	bad.Dir = "/no/such/place"
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	s.Files = []int{int(null.Fd())}
	for i := range rounds {
		if i%10 == 9 {
			child, err := good.Start(bad)
			reap(t, child)
			if !errors.Is(err, unix.ENOENT) {
				t.Fatalf("round %d: %v", i, err)
			}
		} else if err := good.Try(s); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}

func TestRuleset(t *testing.T) {
	exe, null := world(t)
	abi := LandlockABI()
	if abi == 0 {
		t.Skip("this kernel has no Landlock")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for v := 1; v <= abi; v++ {
		fd, err := NewRuleset(v, v%2 == 0, Allow{int(exe.Fd()), Exec}, Allow{int(null.Fd()), Write}, Allow{int(open.Fd()), Read})
		if err != nil {
			t.Errorf("version %d: %v", v, err)
			continue
		}
		s := spec(exe)
		s.Ruleset = fd
		if err := starter(t, Profile{Landlock: true}).Try(s); err != nil {
			t.Errorf("version %d: %v", v, err)
		}
		unix.Close(fd)
	}
	// A program that the ruleset does not name can't be started.
	fd, err := NewRuleset(abi, false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s := spec(exe)
	s.Ruleset = fd
	child, err := starter(t, Profile{Landlock: true}).Start(s)
	reap(t, child)
	if !errors.Is(err, unix.EACCES) {
		t.Errorf("starting a program against the ruleset: %v", err)
	}
}

func TestProgramBounds(t *testing.T) {
	p, err := newProgram()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for range maxCalls {
		p.add("x", 0)
	}
	if _, err := p.start(0, -1); err == nil {
		t.Error("a program that fills the table is started")
	}
	p.reset()
	p.text(strings.Repeat("x", arenaBytes))
	if _, err := p.start(0, -1); err == nil {
		t.Error("a program larger than its memory is started")
	}
}

// BenchmarkStart is the cost of a confined child that ends before its exec.
func BenchmarkStart(b *testing.B) {
	exe, null := world(b)
	for _, heap := range []int{0, 256} {
		b.Run(fmt.Sprintf("heap=%dMiB", heap), func(b *testing.B) {
			ballast := make([]byte, heap<<20)
			for i := 0; i < len(ballast); i += 4096 {
				ballast[i] = 1
			}
			s := starter(b, Profile{Namespaces: NamespacesFacet, Identity: true})
			sp := spec(exe)
			sp.UID, sp.GID, sp.Files = 1234567, 1234567, []int{int(null.Fd())}
			for b.Loop() {
				if err := s.Try(sp); err != nil {
					b.Fatal(err)
				}
			}
			runtime.KeepAlive(ballast)
		})
	}
}
