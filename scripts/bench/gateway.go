package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/gateway/admin"
)

// gateway is a running `fgw serve`.
type gateway struct {
	addr  string
	data  string
	log   string // the file that its log goes to
	cmd   *exec.Cmd
	admin *admin.Client

	started time.Duration // from the start of the program to the line that says that it serves
}

// Namespaces of the gateway that is measured.
const (
	nsBench      = "bench"      // what stays
	nsCold       = "cold"       // objects that are used once
	nsWake       = "wake"       // facets that sleep at once
	nsSupervised = "supervised" // with the app as its own supervisor
	nsBomb       = "bomb"       // bad neighbours
	nsLive       = "live"       // a thousand at once
)

// settings by namespace. Times are such that nothing stops while it is measured, unless that is what is measured.
var settings = map[string][]string{
	nsBench:      {"idle_timeout=10m"},
	nsCold:       {"idle_timeout=1s"},
	nsWake:       {"idle_timeout=200ms"},
	nsSupervised: {"idle_timeout=10m", "supervisor=boss"},
	nsLive:       {"idle_timeout=10m"},
	nsBomb:       {"idle_timeout=1s", "statement_timeout=5s", "request_timeout=60s"},
}

const gatewayStart = 60 * time.Second // on a machine that does other things too

// startGateway starts the program as it is shipped, with the app deployed.
func (b *bench) startGateway() (err error) {
	if b.gateway, err = b.launch(filepath.Join(b.dir, "data")); err != nil {
		return err
	}
	b.atEnd(b.gateway.stop)
	return b.deployAll()
}

// launch starts the program on a data directory. Its log lies beside that.
func (b *bench) launch(data string) (*gateway, error) {
	g := &gateway{data: data, log: data + ".log"}
	log, err := os.Create(g.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	g.cmd = exec.Command(b.fgw, "serve", "--data", g.data, "--listen", "127.0.0.1:0")
	if !b.builds {
		g.cmd.Env = append(os.Environ(), "FGW_GOROOT=off")
	}
	g.cmd.Stderr = log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	var line string
	err = timeout(gatewayStart, "fgw serve", func() (err error) {
		line, err = bufio.NewReader(out).ReadString('\n')
		return err
	})
	g.started = time.Since(began)
	rest, ok := strings.CutPrefix(line, "fgw: serving http://")
	if err != nil || !ok {
		g.stop()
		return nil, fmt.Errorf("fgw serve: %v; its log: %s", err, tail(g.log))
	}
	g.addr, _, _ = strings.Cut(rest, " ")
	if g.admin, err = admin.Dial(g.data); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// deployAll makes the namespaces and their apps, from one executable.
func (b *bench) deployAll() error {
	// A supervisor is another program than its child: this one differs by a byte behind its end.
	boss := filepath.Join(b.dir, "boss")
	text, err := os.ReadFile(b.app)
	if err == nil {
		err = os.WriteFile(boss, append(text, '\n'), 0o755)
	}
	if err != nil {
		return err
	}
	for ns, set := range settings {
		if err := b.run("namespaces", "create", ns); err != nil {
			return err
		}
		for _, app := range []string{"app", "table"} {
			if err := b.run("deploy", b.app, "--namespace", ns, "--app", app); err != nil {
				return err
			}
		}
		if err := b.run("deploy", boss, "--namespace", ns, "--app", "boss"); err != nil {
			return err
		}
		if err := b.run(append([]string{"namespaces", "set", ns}, set...)...); err != nil {
			return err
		}
	}
	return nil
}

// run is the command line.
func (b *bench) run(args ...string) error { return b.gateway.run(b.fgw, args...) }

func (g *gateway) run(fgw string, args ...string) error {
	cmd := exec.Command(fgw, append([]string{"--data", g.data}, args...)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fgw %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(said))
	}
	return nil
}

// gatewayPID is the process that serves, a child of the one that was started.
func (g *gateway) gatewayPID() int {
	for _, pid := range children(g.cmd.Process.Pid) {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.HasPrefix(name, []byte("fgw-gateway")) {
			return pid
		}
	}
	return g.cmd.Process.Pid
}

func (g *gateway) stop() {
	if g.admin != nil {
		g.admin.Close()
	}
	g.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { g.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		g.cmd.Process.Kill()
		<-ended
	}
}

// metric asks the gateway for one of its own figures.
func (g *gateway) metric(name string) (float64, error) {
	socket := filepath.Join(g.data, "admin.sock")
	c := &http.Client{Timeout: answerTime, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("http://fgw/metrics")
	if err != nil {
		return 0, err
	}
	text, err := body(resp)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return number(v)
		}
	}
	return 0, fmt.Errorf("the gateway has no metric %s", name)
}

func number(text string) (float64, error) { return strconv.ParseFloat(strings.TrimSpace(text), 64) }

// resident is the memory of the gateway process.
func (g *gateway) resident() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.gatewayPID()))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(text))
	if len(f) < 2 {
		return 0, fmt.Errorf("statm says %q", text)
	}
	pages, err := number(f[1])
	return pages * float64(os.Getpagesize()), err
}

// facets lists those below an address, with their states.
func (g *gateway) facets(address string) ([]admin.FacetInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	return g.admin.FacetsLs(ctx, address)
}

// errAwake is what waiting for sleep ends with.
var errAwake = errors.New("facets are still running")

// asleep waits until no facet below the address runs.
func (g *gateway) asleep(address string, patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		list, err := g.facets(address)
		if err != nil {
			return err
		}
		running := 0
		for _, f := range list {
			if f.State == admin.StateRunning || f.State == admin.StateStarting {
				running++
			}
		}
		if running == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: %d %w after %s", address, running, errAwake, patience)
		}
	}
}

// get asks the gateway for something, outside of any measurement.
func (g *gateway) get(path string) (string, error) { return fetch("http://" + g.addr + path) }

// tail is the end of a file, for an error.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Seek(-2000, io.SeekEnd); err != nil {
		f.Seek(0, io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}
