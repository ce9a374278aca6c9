package sandboxd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

func TestServe(t *testing.T) {
	dir := t.TempDir()
	mounts := len(lines(t, "/proc/self/mountinfo"))
	s := serve(t, dir)
	s.busy(t)
	named, all := s.family(t)
	if len(all) != 7 {
		t.Errorf("the family is %v, %v: want sandboxd, launcher, gateway, 2 workers, 2 facets", named, all)
	}
	privileged := 0
	for _, pid := range all {
		status, err := readStatus(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		if caps, _ := strconv.ParseUint(status["CapEff"], 16, 64); caps != 0 {
			privileged++
		}
	}
	if privileged != 2 {
		t.Errorf("%d processes hold capabilities, want sandboxd and the launcher", privileged)
	}
	gateway, _ := readStatus(fmt.Sprintf("/proc/%d/status", named["fgw-gateway"]))
	if gateway["Seccomp"] != "2" || gateway["NoNewPrivs"] != "1" || strings.HasPrefix(gateway["Uid"], "0") {
		t.Errorf("the gateway: seccomp %s, no new privileges %s, uid %s", gateway["Seccomp"], gateway["NoNewPrivs"], gateway["Uid"])
	}
	if caps, _ := readStatus(fmt.Sprintf("/proc/%d/status", named["fgw-launcher"])); caps["CapEff"] != "00000000002000c0" || caps["CapBnd"] != "0000000000000000" {
		t.Errorf("the launcher's capabilities: %s, bounding %s; want SYS_ADMIN, SETUID, SETGID and none", caps["CapEff"], caps["CapBnd"])
	}
	if owners := listeners(t, s.addr, all); !slices.Equal(owners, []int{named["fgw-gateway"]}) {
		t.Errorf("%v hold the listener, want the gateway %d alone", owners, named["fgw-gateway"])
	}
	if owner := stat(t, dir).Uid; strconv.Itoa(int(owner)) != strings.Fields(gateway["Uid"])[0] {
		t.Errorf("the data directory belongs to %d", owner)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if state := s.end(t); !state.Success() {
		t.Errorf("a drained gateway: %v", state)
	}
	gone(t, all)
	checkClean(t, dir, mounts)
}

// checkClean holds a stopped gateway to having left nothing in the kernel.
func checkClean(t *testing.T, dir string, mounts int) {
	t.Helper()
	if left := groupDirs(treeOf(t, dir), ""); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	if n := len(lines(t, "/proc/self/mountinfo")); n != mounts {
		t.Errorf("%d mounts, %d before", n, mounts)
	}
	if _, err := os.Lstat(filepath.Join(dir, adminSocket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the admin socket is left: %v", err)
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(b)))
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// listeners are those of the processes that hold the socket listening at addr.
func listeners(t *testing.T, addr string, pids []int) (holders []int) {
	t.Helper()
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	inode := ""
	for _, line := range lines(t, "/proc/net/tcp") {
		f := strings.Fields(line)
		if strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) && f[3] == "0A" {
			inode = f[9]
		}
	}
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == "socket:["+inode+"]" {
				holders = append(holders, pid)
			}
		}
	}
	return slices.Compact(holders)
}

func TestKilled(t *testing.T) {
	for _, victim := range []string{"sandboxd", "fgw-launcher", "fgw-gateway"} {
		t.Run(victim, func(t *testing.T) {
			dir := t.TempDir()
			mounts := len(lines(t, "/proc/self/mountinfo"))
			s := serve(t, dir)
			s.busy(t)
			named, all := s.family(t)
			syscall.Kill(named[victim], syscall.SIGKILL)
			if state := s.end(t); state.Success() {
				t.Errorf("sandboxd ended: %v", state)
			}
			gone(t, all)
			if victim != "sandboxd" {
				checkClean(t, dir, mounts)
			}
			s = serve(t, dir) // on what is left
			s.busy(t)
			s.cmd.Process.Signal(syscall.SIGTERM)
			if state := s.end(t); !state.Success() {
				t.Errorf("the next gateway: %v", state)
			}
			checkClean(t, dir, mounts)
		})
	}
}

// TestKilledWhileSpawning kills at any moment of a spawn: no process of the directory's users may be left.
func TestKilledWhileSpawning(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	rounds := 5
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		for i, victim := range []string{"sandboxd", "fgw-launcher", "fgw-gateway"} {
			s := serve(t, dir)
			var none any
			s.must(t, &none, "storm")
			first := int(stat(t, dir).Uid)
			eventually(t, "facets run", func() bool { return len(ofUsers(t, first)) > 5 })
			time.Sleep(time.Duration(round*7+i) * 100 * time.Microsecond) // another moment of a spawn each time
			pid := 0                                                      // the kernel's list of children can miss one while others come and go
			eventually(t, "the victim is found", func() bool {
				named, _ := s.family(t)
				pid = named[victim]
				return pid > 0
			})
			syscall.Kill(pid, syscall.SIGKILL)
			s.end(t)
			eventually(t, "no process of the directory's users is left after killing "+victim, func() bool { return len(ofUsers(t, first)) == 0 })
			s.sweep(t)
		}
	}
}

// ofUsers are the processes of a data directory's users.
func ofUsers(t *testing.T, first int) (pids []int) {
	t.Helper()
	for _, name := range entries(t, "/proc") {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		status, err := readStatus("/proc/" + name + "/status")
		if err != nil || strings.HasPrefix(status["State"], "Z") {
			continue
		}
		ids := strings.Fields(status["Uid"])
		if len(ids) == 0 { // it ended while it was read
			continue
		}
		if uid, _ := strconv.Atoi(ids[0]); uid >= first && uid < first+uidsPerDirectory {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestSQLDReplaced(t *testing.T) {
	s := serve(t, t.TempDir())
	var first, second int
	s.must(t, &first, "sqld/0")
	if err := s.ask(t, &second, "sqld/0"); err == nil || !strings.Contains(err.Error(), errPredecessor.Error()) {
		t.Errorf("a second worker 0: %v", err)
	}
	if err := s.ask(t, &second, "sqld/2"); err == nil || !strings.Contains(err.Error(), "there are 2") {
		t.Errorf("worker 2 of 2: %v", err)
	}
	var none any
	s.must(t, &none, "killsqld/0")
	s.must(t, &second, "sqld/0")
	if running(first) || !running(second) {
		t.Errorf("after the replacement worker %d runs: %t, %d: %t", first, running(first), second, running(second))
	}
	syscall.Kill(second, syscall.SIGKILL)
	gone(t, []int{second})
	eventually(t, "a worker that died can be replaced", func() bool { return s.ask(t, &first, "sqld/0") == nil })
	var c protocol.Confinement
	s.must(t, &c, "confinement/0")
	if want := []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"}; !slices.Equal(c.Namespaces, want) || c.Capabilities != "0" || c.Seccomp != "filter" {
		t.Errorf("the worker's confinement: %+v", c)
	}
}

func TestGatewayWorld(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	var boot protocol.BootFile
	s.must(t, &boot, "boot")
	if boot.DataDir != gatewayData || boot.HostPath != dir || boot.Addrs[0] != s.addr || boot.Workers != 2 {
		t.Errorf("the gateway is told %+v", boot)
	}
	var said string
	for _, path := range []string{"/etc/passwd", "/etc/shadow", dir, "/proc/self/status", "/usr/bin/env"} {
		if s.must(t, &said, "open", path); !strings.Contains(said, "no such file") {
			t.Errorf("opening %s: %s", path, said)
		}
	}
	for _, path := range []string{"/etc/hosts", "/dev/null", gatewayData + "/facet"} {
		if s.must(t, &said, "open", path); said != "<nil>" {
			t.Errorf("opening %s: %s", path, said)
		}
	}
	var none any
	s.must(t, &none, "write", gatewayData+"/file")
	s.must(t, &none, "rename", gatewayData+"/file")
	if b, err := os.ReadFile(filepath.Join(dir, "to/it")); string(b) != "written" {
		t.Errorf("what the gateway wrote: %q, %v", b, err)
	}
	for _, path := range []string{"/file", "/etc/hosts", "/etc/file"} {
		if err := s.ask(t, &none, "write", path); err == nil {
			t.Errorf("the gateway can write %s", path)
		}
	}
	if s.must(t, &said, "exec"); !strings.Contains(said, "not permitted") {
		t.Errorf("starting a program: %s", said)
	}
}

func TestGatewayEnds(t *testing.T) {
	s := serve(t, t.TempDir())
	s.busy(t)
	_, all := s.family(t)
	var none any
	s.ask(t, &none, "exit/3")
	if state := s.end(t); state.Success() {
		t.Errorf("sandboxd ended: %v", state)
	}
	gone(t, all)
}

func TestGatewayBreaksTheProtocol(t *testing.T) {
	s := serve(t, t.TempDir())
	s.busy(t)
	_, all := s.family(t)
	var none any
	s.ask(t, &none, "garbage")
	if state := s.end(t); state.Success() {
		t.Errorf("sandboxd ended: %v", state)
	}
	gone(t, all)
}

func TestPlaces(t *testing.T) {
	needRoot(t)
	deep := t.TempDir()
	for range 5 {
		deep = filepath.Join(deep, strings.Repeat("d", 60))
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a deep path": deep, "below a closed directory": filepath.Join(closed, "data")} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, dir)
			s.busy(t)
			if _, err := os.Lstat(filepath.Join(dir, adminSocket)); err != nil {
				t.Error(err)
			}
			s.cmd.Process.Signal(syscall.SIGTERM)
			if state := s.end(t); !state.Success() {
				t.Errorf("serve: %v", state)
			}
		})
	}
}

func TestTwoGateways(t *testing.T) {
	first, second := serve(t, t.TempDir()), serve(t, t.TempDir())
	first.busy(t)
	second.busy(t)
	_, all := first.family(t)
	second.cmd.Process.Kill()
	second.end(t)
	again := serve(t, second.dir) // removes what the killed one left, and nothing of the first
	again.busy(t)
	if slices.ContainsFunc(all, func(pid int) bool { return !running(pid) }) {
		t.Error("a gateway's start killed another gateway's processes")
	}
	var c, other protocol.Confinement
	first.must(t, &c, "confinement")
	again.must(t, &other, "confinement")
	if c.UID == other.UID {
		t.Errorf("facets of two gateways share the user %d", c.UID)
	}
}

func TestServeRefuses(t *testing.T) {
	s := serve(t, t.TempDir())
	ctx := t.Context()
	err := Serve(ctx, Config{DataDir: s.dir, Listen: []string{"127.0.0.1:0"}})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("a data directory in use: %v", err)
	}
	err = Serve(ctx, Config{DataDir: t.TempDir(), Listen: []string{s.addr}})
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), s.addr) {
		t.Errorf("a port in use: %v", err)
	}
	for name, c := range map[string]Config{
		"no directory":      {},
		"no address":        {DataDir: t.TempDir(), Listen: []string{""}},
		"too many workers":  {DataDir: t.TempDir(), Workers: MaxWorkers + 1},
		"unknown layer":     {DataDir: t.TempDir(), Insecure: []string{"everything"}},
		"too many adresses": {DataDir: t.TempDir(), Listen: make([]string, 100)},
	} {
		if err := Serve(ctx, c); err == nil {
			t.Errorf("%s is served", name)
		}
	}
}

func TestStubbornGatewayIsStopped(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a drain may: 10 s")
	}
	s := serve(t, t.TempDir(), `"stubborn"`)
	s.busy(t)
	_, all := s.family(t)
	start := time.Now()
	s.cmd.Process.Signal(syscall.SIGTERM)
	state := s.end(t)
	if took := time.Since(start); !state.Success() || took < drainPatience {
		t.Errorf("a gateway that does not finish: %v after %v", state, took)
	}
	gone(t, all)
}
