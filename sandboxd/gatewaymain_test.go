package sandboxd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// testGateway is a gateway that does what the test asks for over its HTTP listener.
type testGateway struct {
	boot    *protocol.Boot
	control *os.File // for what the client would never send
	mu      sync.Mutex
	facets  []*protocol.Process
	wires   []net.Conn
	sqlds   map[int]*protocol.Process
}

// gatewayMain is the gateway's process in the tests.
func gatewayMain() {
	control, _ := unix.FcntlInt(protocol.BootControl, unix.F_DUPFD_CLOEXEC, 20)
	boot, err := protocol.LoadBoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test gateway:", err)
		os.Exit(1)
	}
	g := &testGateway{boot: boot, control: os.NewFile(uintptr(control), "control"), sqlds: map[int]*protocol.Process{}}
	l, err := net.FileListener(boot.HTTP[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "test gateway:", err)
		os.Exit(1)
	}
	signal.Ignore(syscall.SIGPIPE)
	boot.Client.OnDrain(func() {
		if string(boot.Config) == `"stubborn"` {
			return
		}
		os.Exit(0)
	})
	go func() {
		<-boot.Client.Done()
		os.Exit(1)
	}()
	if err := boot.Client.Ready(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "test gateway:", err)
		os.Exit(1)
	}
	http.Serve(l, g)
}

func (g *testGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	say, err := g.do(r.Context(), strings.Split(strings.Trim(r.URL.Path, "/"), "/"), r.URL.Query().Get("path"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	json.NewEncoder(w).Encode(say)
}

// do carries out one command.
func (g *testGateway) do(ctx context.Context, words []string, path string) (any, error) {
	number := func() int { n, _ := strconv.Atoi(words[1]); return n }
	switch words[0] {
	case "spawn":
		return g.spawn(ctx)
	case "sqld":
		p, err := g.sqld(ctx, number())
		if err != nil {
			return nil, err
		}
		return p.PID(), nil
	case "killsqld":
		return nil, g.sqlds[number()].Kill()
	case "boot":
		return g.boot.BootFile, nil
	case "confinement":
		if len(words) > 1 {
			return g.sqlds[number()].Confinement(ctx)
		}
		return g.facets[0].Confinement(ctx)
	case "print": // that many lines
		var lines strings.Builder
		for i := range number() {
			fmt.Fprintf(&lines, "printed %d lines\n", i)
		}
		_, err := os.Stderr.WriteString(lines.String())
		return nil, err
	case "exit":
		os.Exit(number())
	case "open":
		_, err := os.Open(path)
		return fmt.Sprint(err), nil
	case "write":
		return nil, os.WriteFile(path, []byte("written"), 0o600)
	case "rename":
		if err := os.MkdirAll(g.boot.DataDir+"/to", 0o700); err != nil {
			return nil, err
		}
		return nil, os.Rename(path, g.boot.DataDir+"/to/it")
	case "exec":
		_, err := os.StartProcess("/proc/self/exe", nil, &os.ProcAttr{})
		return fmt.Sprint(err), nil
	case "storm":
		for range 4 {
			go func() {
				for {
					g.mu.Lock()
					_, err := g.spawn(context.Background())
					if n := len(g.facets); err == nil && n > 10 {
						g.facets[n-10].Kill()
						g.wires[n-10].Close()
					}
					g.mu.Unlock()
				}
			}()
		}
		return nil, nil
	case "garbage":
		_, err := g.control.Write(make([]byte, protocol.HeadBytes+1))
		return nil, err
	}
	return nil, fmt.Errorf("unknown command %s", words[0])
}

func (g *testGateway) spawn(ctx context.Context) (int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	wire := os.NewFile(uintptr(fds[1]), "wire")
	defer wire.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	go io.Copy(io.Discard, r)
	defer w.Close()
	exe, err := os.Open(g.boot.DataDir + "/facet")
	if err != nil {
		return 0, err
	}
	defer exe.Close()
	p, err := g.boot.Client.SpawnFacet(ctx, small, protocol.Place{}, protocol.FacetFiles{Exe: exe, Wire: wire, Output: w})
	if err != nil {
		unix.Close(fds[0])
		return 0, err
	}
	c, err := net.FileConn(os.NewFile(uintptr(fds[0]), "ours"))
	if err != nil {
		return 0, err
	}
	g.facets, g.wires = append(g.facets, p), append(g.wires, c)
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintln(c, "hello")
	if _, err := c.Read(make([]byte, 16)); err != nil {
		return 0, err
	}
	return p.PID(), nil
}

func (g *testGateway) sqld(ctx context.Context, index int) (*protocol.Process, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	control := os.NewFile(uintptr(fds[1]), "control")
	defer control.Close()
	fd, err := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	shared := os.NewFile(uintptr(fd), "shared")
	defer shared.Close()
	p, err := g.boot.Client.SpawnSQLD(ctx, index, control, shared)
	if err != nil {
		unix.Close(fds[0])
		return nil, err
	}
	g.sqlds[index] = p
	c, err := net.FileConn(os.NewFile(uintptr(fds[0]), "ours"))
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	answer := make([]byte, 1024)
	n, err := c.Read(answer)
	if err != nil {
		return nil, err
	}
	if said := string(answer[:n]); said != "ok" {
		return nil, fmt.Errorf("SQL worker: %s", said)
	}
	return p, nil
}

// sqldMain is a SQL worker's process in the tests: it says what is wrong with its world, or "ok", and waits.
func sqldMain() {
	conn, err := net.FileConn(os.NewFile(3, "control"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "test worker:", err)
		os.Exit(1)
	}
	say := "ok"
	if err := sqldWorld(); err != nil {
		say = err.Error()
	}
	conn.Write([]byte(say))
	conn.Read(make([]byte, 1))
	os.Exit(0)
}

func sqldWorld() error {
	if dir, err := os.Getwd(); err != nil || dir != sqldObjects {
		return fmt.Errorf("working directory %q: %v", dir, err)
	}
	if err := os.WriteFile("trial", []byte("x"), 0o600); err != nil {
		return err
	}
	if err := os.Remove("trial"); err != nil {
		return err
	}
	for _, path := range []string{"/etc/passwd", "/proc/self/status", "/dev/null", "../registry.db"} {
		if _, err := os.Open(path); err == nil {
			return fmt.Errorf("can open %s", path)
		}
	}
	entries, err := os.ReadDir("/")
	if err != nil || len(entries) != 1 {
		return fmt.Errorf("the root holds %v: %v", entries, err)
	}
	if _, err := net.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "not permitted") {
		return fmt.Errorf("dial: %v", err)
	}
	for fd := range 6 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}
