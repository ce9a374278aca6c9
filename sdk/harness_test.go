package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// patience is how long a test waits for what must happen at once.
const patience = 10 * time.Second

// testGateway is the gateway's end of one instance, written down to the wire's bytes.
type testGateway struct {
	t       testing.TB
	conn    net.Conn
	session *yamux.Session
	control *yamux.Stream
	sql     *os.File // the worker's end of the SQL channel
	ended   chan error
	client  *http.Client
	logs    chan map[string]any // records of the log stream
}

// startInstance starts an instance over socketpairs and reads until it has said how it went.
func startInstance(t testing.TB, said wire.Start, start StartFunc) *testGateway {
	t.Helper()
	ours, theirs := streamPair(t)
	sqlOurs, sqlTheirs := packetPair(t)
	g := &testGateway{t: t, conn: ours, sql: sqlOurs, ended: make(chan error, 1), logs: make(chan map[string]any, 1000)}
	go func() { g.ended <- serveWire(theirs, sqlTheirs, start) }()
	g.shakeHands(said)
	return g
}

// shakeHands begins the wire.
func (g *testGateway) shakeHands(said wire.Start) {
	t := g.t
	t.Helper()
	if said.Namespace == "" {
		said.Namespace, said.Object, said.Name, said.ID = "ns", "obj", "app", "id"
	}
	b, err := wire.AppendStart(nil, &said)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.conn.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ReadAnswer(g.conn); err != nil {
		t.Fatal(err)
	}
	g.session, err = yamux.Client(wire.NewConn(g.conn, &wire.Bounds{MaxOpen: wire.MaxOwnStreams}, nil), wire.Config(wire.MaxStreams, patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.session.Close()
		select {
		case <-g.ended:
		case <-time.After(patience):
			t.Error("the instance did not end with the wire")
		}
		g.sql.Close()
	})
	g.control = g.open(wire.StreamControl)
	go g.acceptLogs()
	g.client = &http.Client{Transport: &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return g.open(wire.StreamHTTP), nil },
		DisableCompression: true,
	}}
}

func (g *testGateway) open(kind wire.StreamKind) *yamux.Stream {
	s, err := g.session.OpenStream()
	if err != nil {
		g.t.Error(err)
		return nil
	}
	// An instance whose start fails may be gone before this returns, and yamux then calls that an error.
	if err := wire.WriteKind(s, kind); err != nil && !errors.Is(err, yamux.ErrSessionShutdown) {
		g.t.Error(err)
	}
	return s
}

// acceptLogs collects what the instance logs.
func (g *testGateway) acceptLogs() {
	s, err := g.session.AcceptStream()
	if err != nil {
		return
	}
	switch kind, err := wire.ReadKind(s); {
	case kind == wire.StreamOut: // is left unanswered
		return
	case err != nil || kind != wire.StreamLog:
		g.t.Errorf("a stream of kind %d (%v), wanted log", kind, err)
		return
	}
	for {
		b, err := wire.ReadMessage(s)
		if err != nil {
			close(g.logs)
			return
		}
		var r map[string]any
		if err := json.Unmarshal(b, &r); err != nil {
			g.t.Errorf("log record %q: %v", b, err)
		}
		g.logs <- r
	}
}

// frame reads one control frame.
func (g *testGateway) frame() (wire.FrameType, []byte) {
	g.t.Helper()
	g.control.SetReadDeadline(time.Now().Add(patience))
	t, body, err := wire.ReadControl(g.control)
	if err != nil {
		g.t.Fatalf("read a control frame: %v", err)
	}
	return t, body
}

// ready waits for READY.
func (g *testGateway) ready() *testGateway {
	g.t.Helper()
	if t, body := g.frame(); t != wire.FrameReady {
		g.t.Fatalf("frame %d %s, wanted READY", t, body)
	}
	return g
}

// end waits for serveWire to return.
func (g *testGateway) end() error {
	g.t.Helper()
	select {
	case err := <-g.ended:
		g.ended <- err // for the clean-up
		return err
	case <-time.After(patience):
		g.t.Fatal("the instance did not end")
		return nil
	}
}

func (g *testGateway) do(method, path string, body io.Reader, head http.Header) (*http.Response, string) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://app"+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	if head != nil {
		req.Header = head
	}
	resp, err := g.client.Do(req)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(b)
}

func handle(f func(w http.ResponseWriter, r *http.Request)) StartFunc {
	return func(context.Context, *Facet) (http.Handler, error) { return http.HandlerFunc(f), nil }
}

func streamPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "wire")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

func packetPair(t testing.TB) (*os.File, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
}
