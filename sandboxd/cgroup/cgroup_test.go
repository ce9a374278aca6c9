package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain also is the process that tests put into groups: it waits until its input ends.
func TestMain(m *testing.M) {
	if os.Args[0] == "cgroup-child" {
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) Mode {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: cgroups")
	}
	mode := Detect()
	if err := Probe(mode); err != nil {
		t.Fatalf("cgroups %v: %v", mode, err)
	}
	return mode
}

// tree opens a tree of a name of its own, with a sleeping child in the launcher's part.
func tree(t *testing.T) (Tree, string) {
	t.Helper()
	mode := needRoot(t)
	name := fmt.Sprintf("%stest-%d", Prefix, time.Now().UnixNano())
	tr, err := Open(mode, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if left := find(name); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	if err := tr.Enter(func() (int, error) { return child(t).Process.Pid, nil }); err != nil {
		t.Fatal(err)
	}
	return tr, name
}

// child is a process that sleeps.
func child(t *testing.T) *exec.Cmd {
	t.Helper()
	c := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"cgroup-child"}, SysProcAttr: &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}}
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c
}

// find looks for directories of that name.
func find(name string) (found []string) {
	filepath.WalkDir(Mount, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == name {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// move puts a process into a group as the tests can: slowly.
func moveInto(t *testing.T, g Group, pid int) {
	t.Helper()
	seen := map[string]bool{}
	for controller, path := range g.Paths() {
		dir := filepath.Join(Mount, controller, path)
		if Detect() == V2 {
			dir = filepath.Join(Mount, path)
		}
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if err := move(dir, pid); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGroup(t *testing.T) {
	tr, name := tree(t)
	l := Limits{Memory: 64 << 20, Processes: 16, CPUMilli: 500, Weight: 100}
	g, err := tr.New("facets/1", l)
	if err != nil {
		t.Fatal(err)
	}
	if !g.Empty() {
		t.Error("a new group is not empty")
	}
	if n := len(g.Join()); (n == 0) != (g.Into() >= 0) {
		t.Errorf("%d files to join, and directory %d to be born into", n, g.Into())
	}
	for _, c := range []string{"memory", "pids", "cpu"} {
		if !strings.HasSuffix(g.Paths()[c], "/"+name+"/facets/1") {
			t.Errorf("path of %s: %q", c, g.Paths()[c])
		}
	}
	c := child(t)
	moveInto(t, g, c.Process.Pid)
	if g.Empty() {
		t.Error("a group with a process is empty")
	}
	u, err := g.Usage()
	if err != nil || u.Processes < 1 || u.OOMKills != 0 {
		t.Errorf("usage %+v: %v", u, err)
	}
	if err := g.Delete(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removing a group with a process: %v", err)
	}
	c.Process.Kill()
	c.Wait()
	waitFor(t, "the group is empty", g.Empty)
	if err := g.Delete(); err != nil {
		t.Errorf("removing an empty group: %v", err)
	}
	if err := g.Delete(); err != nil {
		t.Errorf("removing it again: %v", err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

func TestLimitsAreWritten(t *testing.T) {
	tr, _ := tree(t)
	files := map[string][2]string{ // v1's and v2's name of a file
		"memory": {"memory.limit_in_bytes", "memory.max"}, "pids": {"pids.max", "pids.max"}, "cpu": {"cpu.cfs_quota_us", "cpu.max"},
	}
	g, err := tr.New("facets/1", Limits{Memory: 64 << 20, Processes: 16, CPUMilli: 500})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Delete()
	read := func(controller string) string {
		dir, file := filepath.Join(Mount, controller, g.Paths()[controller]), files[controller][0]
		if Detect() == V2 {
			dir, file = filepath.Join(Mount, g.Paths()[controller]), files[controller][1]
		}
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(b))[0]
	}
	check := func(memory, pids, cpu string) {
		t.Helper()
		if m, p, c := read("memory"), read("pids"), read("cpu"); m != memory || p != pids || c != cpu {
			t.Errorf("limits are %s, %s, %s: want %s, %s, %s", m, p, c, memory, pids, cpu)
		}
	}
	check("67108864", "16", "5000")
	for _, l := range []struct {
		set               Limits
		memory, pids, cpu string
	}{
		{Limits{Memory: 256 << 20, Processes: 32, CPUMilli: 2000}, "268435456", "32", "20000"}, // up
		{Limits{Memory: 32 << 20, Processes: 8, CPUMilli: 100}, "33554432", "8", "1000"},       // and down
		{Limits{Memory: 32 << 20, Processes: 8, CPUMilli: 10}, "33554432", "8", "1000"},        // of a longer period
	} {
		if err := g.Set(l.set); err != nil {
			t.Errorf("setting %+v: %v", l.set, err)
			continue
		}
		check(l.memory, l.pids, l.cpu)
	}
}

func TestCPUTime(t *testing.T) {
	for milli, want := range map[int64][2]int64{0: {10_000, -1}, 4000: {10_000, 40_000}, 1000: {10_000, 10_000}, 100: {10_000, 1000}, 20: {50_000, 1000}, 10: {100_000, 1000}, 3: {333_333, 1000}} {
		l := Limits{CPUMilli: milli}
		if period, quota := l.cpuTime(); int64(period) != want[0] || quota != want[1] {
			t.Errorf("%d thousandths of a core are %d of %d µs, want %d of %d", milli, quota, period, want[1], want[0])
		}
	}
}

func TestSweep(t *testing.T) {
	tr, name := tree(t)
	other, otherName := tree(t)
	if _, err := tr.NewParent("facets/0", Limits{Processes: 16}); err != nil {
		t.Fatal(err)
	}
	g, err := tr.New("facets/0/1", Limits{Processes: 16})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := other.New("facets/1", Limits{Processes: 16})
	if err != nil {
		t.Fatal(err)
	}
	victim, survivor := child(t), child(t)
	moveInto(t, g, victim.Process.Pid)
	moveInto(t, kept, survivor.Process.Pid)
	ended := make(chan struct{})
	go func() { victim.Wait(); close(ended) }()
	if err := Sweep(name); err != nil {
		t.Fatal(err)
	}
	<-ended
	if left := find(name); len(left) > 0 {
		t.Errorf("after the sweep: %v", left)
	}
	if len(find(otherName)) == 0 || survivor.Process.Signal(unix.Signal(0)) != nil {
		t.Error("another tree was swept too")
	}
}

// A parent holds groups, and its limits hold for what is in them.
func TestParent(t *testing.T) {
	tr, name := tree(t)
	up, err := tr.NewParent("facets/1", Limits{Memory: 64 << 20, Processes: 16, CPUMilli: 500})
	if err != nil {
		t.Fatal(err)
	}
	if up.Into() >= 0 || len(up.Join()) > 0 {
		t.Error("a process may be put into a parent")
	}
	g, err := tr.New("facets/1/2", Limits{Memory: 64 << 20, Processes: 16, CPUMilli: 500})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(g.Paths()["memory"], "/"+name+"/facets/1/2") {
		t.Errorf("a group within lies in %q", g.Paths()["memory"])
	}
	c := child(t)
	moveInto(t, g, c.Process.Pid)
	if n, err := up.Processes(); err != nil || n < 1 || up.Empty() || up.Full() {
		t.Errorf("%d processes in the parent, full %v: %v", n, up.Full(), err)
	}
	c.Process.Kill()
	c.Wait()
	waitFor(t, "the parent is empty", up.Empty)
	if err := up.Delete(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removing a parent with a group in it: %v", err)
	}
	for _, g := range []Group{g, up} {
		if err := g.Delete(); err != nil {
			t.Error(err)
		}
	}
	if left := find("1"); slices.ContainsFunc(left, func(dir string) bool { return strings.Contains(dir, name) }) {
		t.Errorf("left: %v", left)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "other", "fgw-a/b", "fgw"} {
		if _, err := Open(Detect(), name); err == nil {
			t.Errorf("a tree named %q is opened", name)
		}
	}
	if _, err := Open(None, Prefix+"x"); err == nil {
		t.Error("a tree without cgroups is opened")
	}
}

func TestShares(t *testing.T) {
	for weight, want := range map[int64]uint64{0: 1024, 100: 1024, 200: 2048, 1: 10, 10000: 102400} {
		if got := *shares(weight); got != want {
			t.Errorf("weight %d is %d shares, want %d", weight, got, want)
		}
	}
}

// TestRefusedLimit: limits that could not be set are not those by which a group is found full.
func TestRefusedLimit(t *testing.T) {
	tr, _ := tree(t)
	g, err := tr.New("facets/1", Limits{Memory: 32 << 20, Processes: 8})
	if err != nil {
		t.Fatal(err)
	}
	v1, ok := g.(*v1Group)
	if !ok {
		g.Delete()
		t.Skip("v1 alone remembers its limit")
	}
	if err := g.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := g.Set(Limits{Memory: 16 << 20, Processes: 8}); err == nil {
		t.Fatal("a group that is gone takes limits")
	}
	if got := v1.memory.Load(); got != 32<<20 {
		t.Errorf("the limit is taken for %d", got)
	}
}
