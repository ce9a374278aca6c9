package sandboxd

import (
	"bufio"
	"debug/elf"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sandboxd/launcher"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// TestMain makes the test binary play every part: sandboxd re-executes its own program under other
// names, and the program that is confined as a facet is this one too.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case launcher.Name:
		launcher.Main()
	case "facet":
		facetMain()
	case "fgw-gateway":
		gatewayMain()
	case "fgw-sqld":
		sqldMain()
	case UserName:
		UserMain()
	case "fgw-serve":
		serveMain()
	}
	os.Exit(m.Run())
}

// needRoot skips a test that only root can run, by name.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: confinement of other users")
	}
	if f, err := elf.Open("/proc/self/exe"); err == nil {
		defer f.Close()
		if f.Section(".interp") != nil {
			t.Skip("needs a static test binary, which is confined itself: CGO_ENABLED=0 go test")
		}
	}
}

// sandbox is a sandboxd without a gateway process: the test is the gateway.
type sandbox struct {
	*server
	client *protocol.Client
	exe    *os.File
}

func newSandbox(t testing.TB, change ...func(*Config)) *sandbox {
	t.Helper()
	needRoot(t)
	cfg := Config{DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Workers: 2}
	for _, c := range change {
		c(&cfg)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cfg: cfg, plan: Plan(Probe(), Options{Insecure: cfg.Insecure})}
	if len(s.plan.Missing) > 0 {
		t.Fatalf("missing layers: %v", s.plan.Missing)
	}
	if s.data, err = openDataDir(t.Context(), cfg.DataDir, slog.Default()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		s.data.close()
	})
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := seqpacket()
	if err != nil {
		t.Fatal(err)
	}
	if s.desk, err = s.openDesk(ours); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { s.desk.serve(); close(served) }()
	b := &sandbox{server: s}
	if b.client, err = protocol.NewClient(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.client.Close(); <-served })
	if b.exe, err = ownProgram(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.exe.Close() })
	return b
}

// facet is a running one, seen from the test.
type facet struct {
	*protocol.Process
	wire   net.Conn
	lines  *bufio.Reader
	output *os.File
}

var small = protocol.Limits{MemoryBytes: 64 << 20, Processes: 32, CPUMilli: 1000}

// spawn starts the test binary as a facet.
func (b *sandbox) spawn(t testing.TB, l protocol.Limits) *facet {
	t.Helper()
	f, err := b.try(t, b.exe, l, protocol.Place{})
	if err != nil {
		t.Fatalf("spawn: %v", err)
	}
	return f
}

func (b *sandbox) try(t testing.TB, exe *os.File, l protocol.Limits, at protocol.Place) (*facet, error) {
	t.Helper()
	ours, theirs := pair(t, unix.SOCK_STREAM)
	far, sql := pair(t, unix.SOCK_SEQPACKET)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	p, err := b.client.SpawnFacet(t.Context(), l, at, protocol.FacetFiles{Exe: exe, Wire: theirs, SQL: sql, Output: w})
	theirs.Close()
	sql.Close()
	far.Close()
	w.Close()
	if err != nil {
		conn.Close()
		r.Close()
		return nil, err
	}
	f := &facet{p, conn, bufio.NewReader(conn), r}
	t.Cleanup(func() {
		f.Kill()
		f.end(t)
		f.wire.Close()
		f.output.Close()
	})
	return f, nil
}

func pair(t testing.TB, kind int) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// patience is long for the sake of an emulated machine, where everything takes ten times as long.
const patience = 60 * time.Second

// do has the facet do something and gives what it says.
func (f *facet) do(t testing.TB, what string) string {
	t.Helper()
	f.wire.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(f.wire, what); err != nil {
		t.Fatalf("ask the facet to %s: %v", what, err)
	}
	s, err := f.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("facet doing %s: %v", what, err)
	}
	return strings.TrimSuffix(s, "\n")
}

// end waits for the facet's end.
func (f *facet) end(t testing.TB) protocol.Exit {
	t.Helper()
	select {
	case <-f.Done():
	case <-time.After(patience):
		t.Fatalf("the facet %d does not end", f.PID())
	}
	return f.Exit()
}

// ask has the facet do something that it may not survive.
func (f *facet) ask(t testing.TB, what string) {
	t.Helper()
	if _, err := fmt.Fprintln(f.wire, what); err != nil {
		t.Fatalf("ask the facet to %s: %v", what, err)
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
