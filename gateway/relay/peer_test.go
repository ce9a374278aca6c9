package relay

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// pair returns two ends of a stream socket.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	t.Cleanup(func() { conns[0].Close(); conns[1].Close() })
	return conns[0], conns[1]
}

// kinds is a listener of a facet's HTTP streams.
type kinds struct{ *yamux.Session }

func (k kinds) Accept() (net.Conn, error) {
	c, err := k.Session.Accept()
	if err != nil {
		return nil, err
	}
	if kind, err := wire.ReadKind(c); err != nil || kind != wire.StreamHTTP {
		c.Close()
		return nil, errors.New("not an HTTP stream")
	}
	return c, nil
}

// facet serves h at the other end of a wire and returns the gateway's session.
func facet(t testing.TB, h http.Handler, gate func() error) *Session {
	t.Helper()
	return raw(t, func(c net.Conn) {
		mux, err := yamux.Server(c, wire.Config(8, time.Minute))
		if err != nil {
			return
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			h.ServeHTTP(w, r)
		})}
		srv.Serve(kinds{mux})
	}, gate)
}

// raw runs a peer of any kind at the other end of a wire.
func raw(t testing.TB, peer func(net.Conn), gate func() error) *Session {
	t.Helper()
	a, b := pair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		peer(wire.NewConn(b, nil, nil))
	}()
	conn := wire.NewConn(wire.Direct(a), &wire.Bounds{MaxOpen: 4}, nil)
	conn.Stall = 5 * time.Second
	mux, err := yamux.Client(conn, wire.Config(4, conn.Stall))
	if err != nil {
		t.Fatal(err)
	}
	if gate == nil {
		gate = func() error { return nil }
	}
	s := NewSession(mux, conn, gate, NewBudget(1<<30))
	t.Cleanup(func() { s.Close(); mux.Close(); b.Close(); <-done })
	return s
}

// front serves a session as the gateway does and keeps the last error.
func front(t testing.TB, s *Session, o Options) (*httptest.Server, chan error) {
	t.Helper()
	if o.BodyLimit == 0 {
		o.BodyLimit = 1 << 30
	}
	if o.HeadTimeout == 0 {
		o.HeadTimeout = 10 * time.Second
	}
	failed := make(chan error, 64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := s.Serve(w, r, &Request{Target: r.URL.RequestURI(), Extra: []Header{{"X-Request-Id", "7"}}}, &o)
		if err != nil {
			select {
			case failed <- err:
			default:
			}
			if errors.Is(err, ErrCut) || errors.Is(err, ErrClientGone) {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(srv.Close)
	return srv, failed
}
