package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// buildProgram makes bin/fgw, once for all end-to-end tests.
var buildProgram = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	if said, err := exec.Command("make", "--no-print-directory", "-C", root, "build").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, said)
	}
	return filepath.Join(root, "bin", "fgw"), nil
})

// program is the path of bin/fgw.
func program(t *testing.T) string {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	os.Unsetenv("FGW_DATA")
	os.Exit(m.Run())
}

// outcome is how a command ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// fgw runs one command to its end.
func fgw(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// gateway is a running `fgw serve`.
type testGateway struct {
	t    *testing.T
	data string
	addr string
	cmd  *exec.Cmd
	log  *lockedBuffer
	rest chan string // what it printed after its first line

	stopped bool
}

// startGateway starts a gateway and stops it at the end of the test, which then
// checks that it ended well.
func startGateway(t *testing.T, data string, args ...string) *testGateway {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: facets run with full confinement")
	}
	g := &testGateway{t: t, data: data, log: &lockedBuffer{}, rest: make(chan string, 1)}
	g.cmd = exec.Command(program(t), append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, args...)...)
	g.cmd.Env = append(os.Environ(), "FGW_GOROOT=off")                   // these tests build no sources, so they need no build cache
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is killed leaves no gateway
	g.cmd.Stderr = g.log
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		first <- line
		more, _ := io.ReadAll(r)
		g.rest <- string(more)
	}()
	select {
	case line := <-first:
		m := regexp.MustCompile(`^fgw: serving http://(127\.0\.0\.1:\d+) data ` + regexp.QuoteMeta(data) + `\n$`).FindStringSubmatch(line)
		if m == nil {
			g.cmd.Process.Kill()
			g.cmd.Wait()
			t.Fatalf("serve printed %q; its log:\n%s", line, g.log)
		}
		g.addr = m[1]
	case <-time.After(30 * time.Second):
		g.cmd.Process.Kill()
		g.cmd.Wait()
		t.Fatalf("serve did not serve in 30 s; its log:\n%s", g.log)
	}
	t.Cleanup(g.stop)
	return g
}

// stop ends the gateway as a service manager would, and looks at what is left.
func (g *testGateway) stop() {
	if g.stopped {
		return
	}
	g.stopped = true
	family := descendants(g.cmd.Process.Pid)
	g.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- g.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			g.t.Errorf("serve ended with %v; its log:\n%s", err, g.log)
		}
	case <-time.After(20 * time.Second):
		g.cmd.Process.Kill()
		g.t.Errorf("serve did not stop in 20 s; its log:\n%s", g.log)
	}
	if more := <-g.rest; more != "" {
		g.t.Errorf("serve printed more than its line: %q", more)
	}
	for _, pid := range family {
		if alive(pid) {
			g.t.Errorf("process %d outlived the gateway", pid)
		}
	}
}

// run is fgw with this gateway's data directory.
func (g *testGateway) run(args ...string) outcome {
	g.t.Helper()
	return fgw(g.t, append(args, "--data", g.data)...)
}

// must is run for a command that has to succeed.
func (g *testGateway) must(args ...string) string {
	g.t.Helper()
	got := g.run(args...)
	if got.code != 0 {
		g.t.Fatalf("fgw %s: exit %d\n%s", strings.Join(args, " "), got.code, got.stderr)
	}
	return got.stdout
}

// json is must with the results decoded.
func (g *testGateway) json(into any, args ...string) {
	g.t.Helper()
	text := g.must(append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		g.t.Fatalf("fgw %s: %v in %q", strings.Join(args, " "), err, text)
	}
}

// get asks the gateway's HTTP listener and returns status and body.
func (g *testGateway) get(path string) (int, string) {
	g.t.Helper()
	resp, err := http.Get("http://" + g.addr + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// descendants are the processes that pid started, and theirs.
func descendants(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		parent, _ := strconv.Atoi(fields[1])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		children[parent] = append(children[parent], child)
	}
	var found []int
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		found = append(found, children[todo[0]]...)
		todo = append(todo, children[todo[0]]...)
	}
	return found
}

func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// lockedBuffer takes a process's output while the test may read it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// patience is how long a test waits for what comes by itself: only one that fails waits so long, so a machine that is busy may take its time.
const patience = 30 * time.Second

// eventually waits until what comes true.
func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !true(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
