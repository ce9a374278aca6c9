package egress

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// names is a resolver whose answers a test writes. Each lookup of a name takes its next answer;
// the last one stays.
type names struct {
	mu      sync.Mutex
	answers map[string][][]string
	asked   []string
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, host)
	list := n.answers[strings.TrimSuffix(host, ".")]
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, Server: "10.9.9.9:53", IsNotFound: true}
	}
	if len(list) > 1 {
		n.answers[strings.TrimSuffix(host, ".")] = list[1:]
	}
	var out []netip.Addr
	for _, s := range list[0] {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func (n *names) lookups() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

// world is a gateway with an egress, seen from a facet.
type world struct {
	t      testing.TB
	server *httptest.Server
	policy *Policy
	names  *names
	mu     sync.Mutex
	bytes  int64 // guarded by mu
}

var loopback = []netip.Prefix{prefix("127.0.0.0/8")}

func (w *world) count(n int64) {
	w.mu.Lock()
	w.bytes += n
	w.mu.Unlock()
}

func (w *world) counted() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

func newWorld(t testing.TB, cfg Config, hosts ...string) *world {
	w := &world{t: t, names: &names{answers: map[string][][]string{}}}
	var err error
	if w.policy, err = ParsePolicy(hosts); err != nil {
		t.Fatal(err)
	}
	if cfg.Resolver == nil {
		cfg.Resolver = w.names
	}
	e := New(cfg)
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		e.Serve(rw, r, w.policy, w.count)
	}))
	t.Cleanup(func() {
		w.server.Close()
		w.policy.Close()
		// The transport closes in goroutines of its own.
		for end := time.Now().Add(5 * time.Second); e.conns.Load() != 0; runtime.Gosched() {
			if w.policy.Close(); time.Now().After(end) {
				t.Errorf("%d connections are left open", e.conns.Load())
				return
			}
		}
	})
	return w
}

// RoundTrip sends a request as a facet does: in absolute form, whatever its scheme, on a
// connection of its own.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(r.Context(), func() { c.Close() })
	sent := make(chan error, 1)
	go func() { sent <- r.WriteProxy(c) }()
	res, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		c.Close()
		<-sent
		return nil, err
	}
	res.Body = &facetBody{ReadCloser: res.Body, closed: func() { stop(); c.Close(); <-sent }}
	return res, nil
}

type facetBody struct {
	io.ReadCloser
	closed func()
}

func (b *facetBody) Close() error {
	b.closed()
	return nil
}

// raw sends bytes as they stand and returns the answer's status, error code and body.
func (w *world) raw(head string) (int, string, string) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, head)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get(wire.HeaderError), string(body)
}

func (w *world) get(target string) (int, string, string) {
	w.t.Helper()
	return w.raw("GET " + target + " HTTP/1.1\r\nHost: ignored.test\r\n\r\n")
}

// refused asks for target and wants an answer of the gateway's own.
func (w *world) refused(target, code, word string) {
	w.t.Helper()
	status, got, body := w.get(target)
	var problem struct{ Error wire.Problem }
	if err := json.Unmarshal([]byte(body), &problem); err != nil {
		w.t.Errorf("%s: %d %s %q: %v", target, status, got, body, err)
		return
	}
	if got != code || status != statuses[code] || problem.Error.Code != code || !strings.Contains(problem.Error.Message, word) {
		w.t.Errorf("%s: %d %s %q, want %s with %q", target, status, got, problem.Error.Message, code, word)
	}
}

// upstream is a server on 127.0.0.1 that the facet may reach as host.
func upstream(t testing.TB, h http.HandlerFunc) (*httptest.Server, string) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s, portOf(s)
}

func portOf(s *httptest.Server) string {
	u, _ := url.Parse(s.URL)
	return u.Port()
}

func rootsOf(s *httptest.Server) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return roots
}
