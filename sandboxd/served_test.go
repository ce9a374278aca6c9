package sandboxd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"golang.org/x/sys/unix"
)

// served is a whole gateway in a process of its own, which can be killed.
type served struct {
	cmd  *exec.Cmd
	dir  string
	addr string
}

// serveMain is the process of `fgw serve` in the tests: data directory and further settings are its arguments.
func serveMain() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := Config{
		DataDir: os.Args[1], Listen: []string{os.Args[2]}, Workers: 2,
		OnReady: func(addrs []string) { fmt.Println(addrs[0]) },
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if n, err := strconv.ParseUint(os.Getenv(filesEnv), 10, 32); err == nil {
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n})
	}
	if len(os.Args) > 3 {
		cfg.GatewayConfig = []byte(os.Args[3])
	}
	if len(os.Args) > 4 {
		cfg.Insecure = os.Args[4:]
	}
	if err := Serve(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve starts a gateway as root and waits until it serves. further is the gateway's configuration.
func serve(t *testing.T, dir string, further ...string) *served {
	t.Helper()
	needRoot(t)
	return serveAs(t, nil, t.Output(), dir, further...)
}

// serveTo is serve with another error output.
func serveTo(t *testing.T, stderr io.Writer, dir string, further ...string) *served {
	t.Helper()
	needRoot(t)
	return serveAs(t, nil, stderr, dir, further...)
}

// serveAs starts a gateway as another user, or as the test's own.
func serveAs(t *testing.T, user *syscall.Credential, stderr io.Writer, dir string, further ...string) *served {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "facet")); err != nil {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		copyProgram(t, filepath.Join(dir, "facet"))
		// The tests' gateway keeps no registry, by which a data directory is known.
		if err := os.WriteFile(filepath.Join(dir, "registry.db"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &served{dir: dir, cmd: &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{"fgw-serve", dir, "127.0.0.1:0"}, further...), Stderr: stderr,
		// Pdeathsig: a test that is killed leaves nothing running.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Credential: user, Pdeathsig: syscall.SIGKILL},
	}}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.sweep(t) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the gateway does not come up: %v", err)
	}
	s.addr = strings.TrimSpace(line)
	return s
}

// sweep ends a gateway that a test has not ended, and removes what a killed one leaves.
func (s *served) sweep(t *testing.T) {
	s.cmd.Process.Kill()
	s.cmd.Wait()
	if err := cgroup.Sweep(treeOf(t, s.dir)); err != nil {
		t.Error(err)
	}
}

// treeOf names the cgroups of the gateway on dir.
func treeOf(t *testing.T, dir string) string {
	t.Helper()
	d := &dataDir{}
	var err error
	if d.dir, err = os.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer d.dir.Close()
	if err := d.identify(); err != nil {
		t.Fatal(err)
	}
	return d.tree()
}

// copyProgram puts the test binary where a gateway finds it as a facet's program.
func copyProgram(t testing.TB, path string) {
	t.Helper()
	in, err := ownProgram()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o555)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// ask has the gateway do something.
func (s *served) ask(t *testing.T, v any, what string, path ...string) error {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	u := "http://" + s.addr + "/" + what
	if len(path) > 0 {
		u += "?path=" + url.QueryEscape(path[0])
	}
	r, err := c.Get(u)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(r.Body)
		return fmt.Errorf("%s: %s", what, strings.TrimSpace(string(b)))
	}
	return json.NewDecoder(r.Body).Decode(v)
}

func (s *served) must(t *testing.T, v any, what string, path ...string) {
	t.Helper()
	if err := s.ask(t, v, what, path...); err != nil {
		t.Fatal(err)
	}
}

// end waits for sandboxd's end.
func (s *served) end(t *testing.T) *os.ProcessState {
	t.Helper()
	done := make(chan struct{})
	go func() { s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("sandboxd does not end")
	}
	return s.cmd.ProcessState
}

// family is sandboxd's processes by name, and all of them.
func (s *served) family(t *testing.T) (named map[string]int, all []int) {
	t.Helper()
	named = map[string]int{"sandboxd": s.cmd.Process.Pid}
	for todo := []int{s.cmd.Process.Pid}; len(todo) > 0; todo = todo[1:] {
		all = append(all, todo[0])
		for _, pid := range children(t, todo[0]) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			name, _, _ := strings.Cut(string(line), "\x00")
			if named[name] == 0 { // a child that has not come to its exec yet is called as its parent is
				named[name] = pid
			}
			todo = append(todo, pid)
		}
	}
	return named, all
}

// running reports whether a process exists and is no zombie.
func running(pid int) bool {
	status, err := readStatus(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.HasPrefix(status["State"], "Z")
}

func gone(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, "every process is gone", func() bool { return !slices.ContainsFunc(pids, running) })
}

// busy starts two facets and both SQL workers.
func (s *served) busy(t *testing.T) {
	t.Helper()
	var pid int
	for _, what := range []string{"spawn", "spawn", "sqld/0", "sqld/1"} {
		s.must(t, &pid, what)
	}
}
