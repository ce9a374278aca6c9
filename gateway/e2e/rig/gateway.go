package rig

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Gateway is a running `fgw serve`.
type Gateway struct {
	T    testing.TB // whose test fails; a subtest may put itself here
	Data string
	Addr string // of the HTTP listener

	args []string
	cmd  *exec.Cmd
	log  *buffer
	out  chan struct{} // closed when its standard output has ended
	dead chan struct{} // closed when the process has ended
	err  error         // of the process, set before dead is closed
}

// Sources as an argument of Start says that the test has sources built. Other gateways do without: filling a
// build cache takes both cores for half a minute.
const Sources = "with sources"

// Start starts a gateway on a new data directory and stops it after the test.
func Start(t testing.TB, args ...string) *Gateway {
	t.Helper()
	NeedRoot(t)
	return StartOn(t, filepath.Join(Dir(t), "data"), args...)
}

// StartOn starts a gateway on a data directory.
func StartOn(t testing.TB, data string, args ...string) *Gateway {
	t.Helper()
	NeedRoot(t)
	g := &Gateway{T: t, Data: data, args: args, log: &buffer{}}
	t.Cleanup(func() {
		g.T = t
		if g.Running() {
			g.Stop()
		}
		if t.Failed() {
			t.Logf("the gateway's log ends so:\n%s", g.log.tail(4<<10))
		}
	})
	g.Start()
	return g
}

// startTime is how long a gateway may take until it serves, on a machine that does other things too.
const startTime = 30 * time.Second

// Start starts the gateway again after it has ended.
func (g *Gateway) Start() {
	g.T.Helper()
	line, err := g.start()
	if err != nil {
		g.T.Fatalf("serve: %v; it printed %q; its log:\n%s", err, line, g.log.tail(4<<10))
	}
}

var ready = regexp.MustCompile(`^fgw: serving http://(\S+) data `)

func (g *Gateway) start() (line string, err error) {
	args := g.args
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append([]string{"--listen", "127.0.0.1:0"}, args...)
	}
	env := append(os.Environ(), "FGW_GOROOT=off")
	if i := slices.Index(args, Sources); i >= 0 {
		args = slices.Delete(slices.Clone(args), i, i+1)
		env = os.Environ()
	}
	g.cmd = exec.Command(FGW(g.T), append([]string{"serve", "--data", g.Data}, args...)...)
	g.cmd.Env = env
	g.cmd.Stderr = g.log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // tests that are killed leave no gateway
	pipe, err := g.cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := g.cmd.Start(); err != nil {
		return "", err
	}
	g.out, g.dead = make(chan struct{}), make(chan struct{})
	first := make(chan string, 1)
	go func() {
		defer close(g.out)
		r := bufio.NewReader(pipe)
		line, _ := r.ReadString('\n')
		first <- line
		io.Copy(io.Discard, r)
	}()
	go func(cmd *exec.Cmd) {
		<-g.out
		g.err = cmd.Wait()
		close(g.dead)
	}(g.cmd)
	select {
	case line = <-first:
	case <-time.After(startTime):
		g.cmd.Process.Kill()
		<-g.dead
		return "", fmt.Errorf("it did not serve in %s", startTime)
	}
	m := ready.FindStringSubmatch(line)
	if m == nil {
		g.cmd.Process.Kill()
		<-g.dead
		return line, g.err
	}
	g.Addr = m[1]
	remember(g)
	return line, nil
}

// Running tells whether the process that Start started has not ended yet.
func (g *Gateway) Running() bool {
	if g.dead == nil {
		return false
	}
	select {
	case <-g.dead:
		return false
	default:
		return true
	}
}

// stopTime is how long a gateway may take to drain and stop.
const stopTime = 20 * time.Second

// Stop ends the gateway as a service manager would, and looks at what it leaves.
func (g *Gateway) Stop() {
	g.T.Helper()
	family := Descendants(g.PID())
	remember(g)
	g.cmd.Process.Signal(syscall.SIGTERM)
	if !g.Ended(stopTime) {
		g.cmd.Process.Kill()
		<-g.dead
		g.T.Errorf("serve did not stop in %s; its log:\n%s", stopTime, g.log.tail(4<<10))
	} else if g.err != nil {
		g.T.Errorf("serve ended with %v; its log:\n%s", g.err, g.log.tail(4<<10))
	}
	for _, p := range family {
		if p.Alive() {
			g.T.Errorf("process %d (%s) outlived the gateway", p.PID, p.Name)
		}
	}
}

// Ended waits until the process has ended, and tells whether it did.
func (g *Gateway) Ended(within time.Duration) bool {
	select {
	case <-g.dead:
		return true
	case <-time.After(within):
		return false
	}
}

// PID is the process that was started: sandboxd.
func (g *Gateway) PID() int { return g.cmd.Process.Pid }

// Log is what it logged so far.
func (g *Gateway) Log() string { return g.log.tail(1 << 20) }

// Outcome is how a command ended.
type Outcome struct {
	Stdout, Stderr string
	Code           int
}

// commandTime is how long a command may take.
const commandTime = 2 * time.Minute

// Command runs fgw to its end.
func Command(t testing.TB, args ...string) Outcome {
	t.Helper()
	cmd := exec.Command(FGW(t), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timer := time.AfterFunc(commandTime, func() {
		if cmd.Process != nil {
			cmd.Process.Kill()
		}
	})
	defer timer.Stop()
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return Outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Run runs a command against this gateway.
func (g *Gateway) Run(args ...string) Outcome {
	g.T.Helper()
	return Command(g.T, append(args, "--data", g.Data)...)
}

// Must is Run for a command that has to succeed; it gives what it printed.
func (g *Gateway) Must(args ...string) string {
	g.T.Helper()
	got := g.Run(args...)
	if got.Code != 0 {
		g.T.Fatalf("fgw %s: exit %d: %s", strings.Join(args, " "), got.Code, got.Stderr)
	}
	return got.Stdout
}

// JSON is Must with what it printed decoded.
func (g *Gateway) JSON(into any, args ...string) {
	g.T.Helper()
	text := g.Must(append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		g.T.Fatalf("fgw %s: %v in %q", strings.Join(args, " "), err, text)
	}
}

// Deploy makes an executable the newest version of an app, in a namespace that it
// creates where it is missing.
func (g *Gateway) Deploy(exe, namespace, app string) {
	g.T.Helper()
	if g.Run("namespaces", "show", namespace).Code != 0 {
		g.Must("namespaces", "create", namespace)
	}
	g.Must("deploy", exe, "--namespace", namespace, "--app", app)
}

// Detail is what `facets inspect` says.
type Detail struct {
	State        string
	PID          int
	Version      int
	Requests     int64
	MemoryBytes  int64 `json:"memory_bytes"`
	StorageBytes int64 `json:"storage_bytes"`
	Usage        struct {
		Starts, Requests, Errors int64
		CPUSeconds               float64 `json:"cpu_seconds"`
	}
	Confinement struct{ Cgroups map[string]string } // of one that runs
	LastExit    *struct{ Reason, Detail string }    `json:"last_exit"`
}

// Inspect reads what is known of a facet.
func (g *Gateway) Inspect(address string) Detail {
	g.T.Helper()
	var d Detail
	g.JSON(&d, "facets", "inspect", address)
	return d
}

// buffer takes what a process prints while a test may read it.
type buffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *buffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text[max(0, len(b.text)-n):])
}

// Eventually waits until what comes true.
func Eventually(t testing.TB, within time.Duration, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !true(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}
