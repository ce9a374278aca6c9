package egress

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

// seen is what a server saw of a request.
type seen struct {
	Method, Target, Host, Proto string
	Header                      http.Header
	Body                        string
	Trailer                     http.Header
	SNI                         string
}

func mirror(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s := seen{Method: r.Method, Target: r.RequestURI, Host: r.Host, Proto: r.Proto, Header: r.Header, Body: string(body), Trailer: r.Trailer}
	if r.TLS != nil {
		s.SNI = r.TLS.ServerName
	}
	json.NewEncoder(w).Encode(s)
}

func decode(t *testing.T, body string) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return s
}

func TestRequestGoesOut(t *testing.T) {
	_, port := upstream(t, mirror)
	w := newWorld(t, Config{AllowAddrs: loopback}, "api.test:"+port)
	w.names.answers["api.test"] = [][]string{{"127.0.0.1"}}
	status, code, body := w.raw("POST http://API.test.:" + port + "/a%2Fb//c?q=%20x&y HTTP/1.1\r\n" +
		"Host: other.test\r\n" +
		"Content-Type: text/plain\r\nAuthorization: Bearer mine\r\nX-Own: 1\r\nX-Own: 2\r\n" +
		"Connection: keep-alive, X-Hop\r\nX-Hop: secret\r\nKeep-Alive: timeout=5\r\nProxy-Authorization: Basic eA==\r\nTE: trailers, deflate\r\n" +
		"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" +
		"X-Forwarded-For: 10.0.0.7\r\nX-Forwarded-Prefix: /ns/o\r\nForwarded: for=10.0.0.7\r\nTraceparent: 00-aa-bb-01\r\nTracestate: a=b\r\n" +
		"Fgw-Child: x\r\nfgw-egress: 1\r\n" +
		"Content-Length: 5\r\n\r\nhello")
	if status != 200 || code != "" {
		t.Fatalf("%d %s %s", status, code, body)
	}
	got := decode(t, body)
	if got.Method != "POST" || got.Target != "/a%2Fb//c?q=%20x&y" || got.Host != "api.test:"+port || got.Body != "hello" {
		t.Errorf("the server saw %+v", got)
	}
	want := http.Header{"Content-Type": {"text/plain"}, "Authorization": {"Bearer mine"}, "X-Own": {"1", "2"}, "Te": {"trailers"}, "Content-Length": {"5"}}
	for name, values := range got.Header {
		if !slices.Equal(values, want[name]) {
			t.Errorf("header %s: %q", name, values)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing headers %v", want)
	}
	if n := w.counted(); n < int64(len(body))+5 || n > int64(len(body))+1500 {
		t.Errorf("counted %d bytes", n)
	}
}

func TestNothingReachesWhatIsRefused(t *testing.T) {
	server, port := upstream(t, func(http.ResponseWriter, *http.Request) { t.Error("a refused request reached the server") })
	w := newWorld(t, Config{}, "*", "*:"+port, "127.0.0.1:"+port, "[::1]:"+port, "local.test:"+port, "169.254.169.254", "metadata.test", "localhost:"+port, "mixed.test:"+port)
	w.names.answers["local.test"] = [][]string{{"127.0.0.1"}}
	w.names.answers["metadata.test"] = [][]string{{"169.254.169.254"}}
	w.names.answers["mixed.test"] = [][]string{{"::ffff:127.0.0.1", "64:ff9b::7f00:1", "10.0.0.1"}}
	for _, c := range []struct{ target, code, word string }{
		{server.URL + "/", CodeDenied, "loopback"},
		{"http://[::1]:" + port + "/", CodeDenied, "loopback"},
		{"http://[::ffff:127.0.0.1]:" + port + "/", CodeDenied, "loopback"},
		{"http://[::ffff:7f00:1]:" + port + "/", CodeDenied, "loopback"},
		{"http://[64:ff9b::7f00:1]:" + port + "/", CodeDenied, "loopback"},
		{"http://[::]:" + port + "/", CodeDenied, "unspecified"},
		{"http://0.0.0.0:" + port + "/", CodeDenied, "this host"},
		{"http://2130706433:" + port + "/", CodeDenied, "a number"},
		{"http://0x7f.1:" + port + "/", CodeDenied, "a number"},
		{"http://0x7f000001:" + port + "/", CodeDenied, "a number"},
		{"http://017700000001:" + port + "/", CodeDenied, "a number"},
		{"http://0177.0.0.1:" + port + "/", CodeDenied, "a number"},
		{"http://127.1:" + port + "/", CodeDenied, "a number"},
		{"http://local.test:" + port + "/", CodeDenied, "loopback"},
		{"http://LOCAL.test.:" + port + "/", CodeDenied, "loopback"},
		{"http://localhost:" + port + "/", CodeDenied, "loopback"}, // whatever a name server knows
		{"http://app--me--studio.LocalHost.:" + port + "/", CodeDenied, "loopback"},
		{"http://mixed.test:" + port + "/", CodeDenied, "private"},
		{"http://169.254.169.254/latest/meta-data/", CodeDenied, "metadata"},
		{"http://metadata.test/", CodeDenied, "metadata"},
		{"http://public.test@127.0.0.1:" + port + "/", CodeDenied, "user information"},
		{"ftp://local.test/", CodeDenied, "http and https"},
		{"/path", problem.BadRequest, "absolute form"},
		{"http://nowhere.test/", CodeFailed, "no such host"},
	} {
		w.refused(c.target, c.code, c.word)
	}
	for head, word := range map[string]string{
		"CONNECT local.test:443 HTTP/1.1\r\nHost: local.test:443\r\n\r\n":                                            "CONNECT",
		"GET http://public.test/ HTTP/1.1\r\nHost: public.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": "websocket",
	} {
		if status, code, body := w.raw(head); status != 403 || code != CodeDenied || !strings.Contains(body, word) {
			t.Errorf("%q: %d %s %s", head, status, code, body)
		}
	}
	// What the resolver said, and where it is, is not the facet's.
	if _, _, body := w.get("http://metadata.test/"); strings.Contains(body, "254") {
		t.Errorf("the answer names an address: %s", body)
	}
	if _, _, body := w.get("http://nowhere.test/"); strings.Contains(body, "10.9.9.9") {
		t.Errorf("the answer names the name server: %s", body)
	}
}

func TestRefusedNamesAreNotResolved(t *testing.T) {
	w := newWorld(t, Config{}, "api.test", "*.good.test")
	for _, target := range []string{
		"http://secret-data.evil.test/", "http://api.test.evil.test/", "http://api.test:22/", "http://good.test/", "https://evilgood.test/",
	} {
		w.refused(target, CodeDenied, "not among the hosts")
	}
	if asked := w.names.lookups(); len(asked) > 0 {
		t.Errorf("resolved %q", asked)
	}
	w.refused("http://a.good.test/", CodeFailed, "no such host")
	if asked := w.names.lookups(); !slices.Equal(asked, []string{"a.good.test."}) {
		t.Errorf("resolved %q, want the one absolute name", asked)
	}
}

func TestRebinding(t *testing.T) {
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // so that each request needs a connection
		io.WriteString(w, "reached")
	})
	w := newWorld(t, Config{AllowAddrs: []netip.Prefix{prefix("127.0.0.1/32")}}, "twice.test:"+port, "mixed.test:"+port)
	w.names.answers["twice.test"] = [][]string{{"127.0.0.1"}, {"127.0.0.2"}}
	if status, _, body := w.get("http://twice.test:" + port + "/"); status != 200 || body != "reached" {
		t.Fatalf("first answer: %d %s", status, body)
	}
	w.refused("http://twice.test:"+port+"/", CodeDenied, "loopback")
	// The address that may not be reached is passed over, in whatever place it stands.
	w.names.answers["mixed.test"] = [][]string{{"127.0.0.2", "10.0.0.1", "127.0.0.1", "::1"}}
	if status, _, body := w.get("http://mixed.test:" + port + "/"); status != 200 || body != "reached" {
		t.Errorf("mixed answer: %d %s", status, body)
	}
}

func TestAnyHostIsPublicHost(t *testing.T) {
	_, port := upstream(t, mirror)
	w := newWorld(t, Config{AllowAddrs: loopback}, "*:"+port, "named.test:"+port)
	w.names.answers["named.test"] = [][]string{{"127.0.0.1"}}
	w.names.answers["other.test"] = [][]string{{"127.0.0.1"}}
	if status, _, body := w.get("http://named.test:" + port + "/"); status != 200 {
		t.Errorf("a named host in an opened range: %d %s", status, body)
	}
	w.refused("http://other.test:"+port+"/", CodeDenied, "loopback")
	w.refused("http://127.0.0.1:"+port+"/", CodeDenied, "loopback")
}

func TestOwnListeners(t *testing.T) {
	_, port := upstream(t, func(http.ResponseWriter, *http.Request) { t.Error("reached the gateway's own listener") })
	for _, own := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, "[::]:" + port} {
		w := newWorld(t, Config{AllowAddrs: loopback, Own: []netip.AddrPort{netip.MustParseAddrPort(own)}}, "127.0.0.1:"+port)
		w.refused("http://127.0.0.1:"+port+"/", CodeDenied, "the gateway's own")
	}
}

func TestRedirectsAreTheFacetsToFollow(t *testing.T) {
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
	})
	w := newWorld(t, Config{AllowAddrs: loopback}, "api.test:"+port, "169.254.169.254")
	w.names.answers["api.test"] = [][]string{{"127.0.0.1"}}
	c := http.Client{Transport: w, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Get("http://api.test:" + port + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 302 || res.Header.Get("Location") != "http://169.254.169.254/latest" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	c.CheckRedirect = nil
	if res, err = c.Get("http://api.test:" + port + "/"); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 403 || res.Header.Get(wire.HeaderError) != CodeDenied {
		t.Errorf("followed: %d %v", res.StatusCode, res.Header)
	}
}

func TestTLS(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", h2), func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(mirror))
			s.EnableHTTP2 = h2
			s.Config.ErrorLog = discard()
			s.StartTLS()
			t.Cleanup(s.Close)
			port := portOf(s)
			w := newWorld(t, Config{AllowAddrs: loopback, Roots: rootsOf(s)}, "example.com:"+port, "other.test:"+port)
			w.names.answers["example.com"] = [][]string{{"127.0.0.1"}}
			w.names.answers["other.test"] = [][]string{{"127.0.0.1"}}
			status, code, body := w.raw("POST https://example.com:" + port + "/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
			if status != 200 {
				t.Fatalf("%d %s %s", status, code, body)
			}
			got := decode(t, body)
			if got.SNI != "example.com" || got.Host != "example.com:"+port || got.Body != "hi" || (got.Proto == "HTTP/2.0") != h2 {
				t.Errorf("the server saw %+v", got)
			}
			w.refused("https://other.test:"+port+"/", CodeFailed, "certificate is valid for example.com")
			// A root that isn't known.
			strange := newWorld(t, Config{AllowAddrs: loopback}, "example.com:"+port)
			strange.names.answers["example.com"] = [][]string{{"127.0.0.1"}}
			strange.refused("https://example.com:"+port+"/", CodeFailed, "unknown authority")
		})
	}
	_, port := upstream(t, mirror)
	w := newWorld(t, Config{AllowAddrs: loopback}, "plain.test:"+port)
	w.names.answers["plain.test"] = [][]string{{"127.0.0.1"}}
	w.refused("https://plain.test:"+port+"/", CodeFailed, "does not speak TLS")
}

func TestAnswerHead(t *testing.T) {
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Date"], h["Content-Type"] = nil, nil
		switch r.URL.Path {
		case "/headers":
			h.Set("Fgw-Error", "egress_denied")
			h.Set("Fgw-Handover", "x")
			h.Set("Connection", "X-Hop")
			h.Set("X-Hop", "1")
			h.Add("Set-Cookie", "a=1")
			h.Add("Set-Cookie", "b=2")
			h.Set("Content-Encoding", "gzip")
			io.WriteString(w, "not gzip at all")
		case "/long":
			h.Set("X-Long", strings.Repeat("x", wire.MaxHeadBytes))
		case "/empty":
			w.WriteHeader(204)
		case "/switch":
			c, _, _ := http.NewResponseController(w).Hijack()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			c.Close()
		case "/garbage":
			c, _, _ := http.NewResponseController(w).Hijack()
			io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			c.Close()
		case "/nothing":
			c, _, _ := http.NewResponseController(w).Hijack()
			c.Close()
		}
	})
	w := newWorld(t, Config{AllowAddrs: loopback}, "127.0.0.1:"+port)
	base := "http://127.0.0.1:" + port
	r, _ := http.NewRequest("GET", base+"/headers", nil)
	res, err := w.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	want := http.Header{"Set-Cookie": {"a=1", "b=2"}, "Content-Encoding": {"gzip"}, "Content-Length": {"15"}}
	if string(body) != "not gzip at all" || fmt.Sprint(res.Header) != fmt.Sprint(want) {
		t.Errorf("%q %v, want %v", body, res.Header, want)
	}
	if status, code, _ := w.get(base + "/empty"); status != 204 || code != "" {
		t.Errorf("no content: %d %s", status, code)
	}
	r, _ = http.NewRequest("HEAD", base+"/headers", nil)
	if res, err = w.RoundTrip(r); err != nil || res.ContentLength != 15 {
		t.Errorf("HEAD: %v %v", res, err)
	} else {
		res.Body.Close()
	}
	w.refused(base+"/long", CodeFailed, "exceeded")
	w.refused(base+"/switch", CodeFailed, "switched protocols")
	w.refused(base+"/garbage", CodeFailed, "malformed")
	w.refused(base+"/nothing", CodeFailed, "closed the connection")
}

func TestConnectionIsKeptAfterARefusal(t *testing.T) {
	_, port := upstream(t, mirror)
	w := newWorld(t, Config{AllowAddrs: loopback}, "127.0.0.1:"+port, "10.0.0.1")
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, target := range []string{"http://10.0.0.1/", "http://127.0.0.1:" + port + "/", "http://other.test/", "http://127.0.0.1:" + port + "/"} {
		r, _ := http.NewRequest("POST", target, strings.NewReader("ping"))
		if err := r.WriteProxy(c); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), r)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		io.Copy(io.Discard, res.Body)
		if want := !strings.Contains(target, "127"); (res.StatusCode == 403) != want || res.Close {
			t.Errorf("%s: %d, close %v", target, res.StatusCode, res.Close)
		}
	}
}

func TestPoliciesShareNoConnection(t *testing.T) {
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	e := New(Config{AllowAddrs: loopback})
	ask := func(p *Policy) string {
		w := httptest.NewRecorder()
		e.Serve(w, httptest.NewRequest("GET", "http://127.0.0.1:"+port+"/", nil), p, nil)
		return w.Body.String()
	}
	a, _ := ParsePolicy([]string{"127.0.0.1:" + port})
	b, _ := ParsePolicy([]string{"127.0.0.1:" + port})
	defer a.Close()
	defer b.Close()
	first := ask(a)
	if again := ask(a); again != first {
		t.Errorf("one policy: %s, then %s: the connection was not kept", first, again)
	}
	if other := ask(b); other == first {
		t.Errorf("two policies came from %s", other)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	for _, cfg := range []Config{{AllowAddrs: loopback, MaxConns: 1}, {AllowAddrs: loopback, MaxConnsFacet: 1}} {
		release := make(chan struct{})
		begun := make(chan struct{}, 1)
		_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { begun <- struct{}{}; <-release })
		w := newWorld(t, cfg, "127.0.0.1:"+port)
		done := make(chan int)
		go func() {
			status, _, _ := w.get("http://127.0.0.1:" + port + "/")
			done <- status
		}()
		<-begun
		w.refused("http://127.0.0.1:"+port+"/", CodeFailed, "maximum of 1")
		close(release)
		if status := <-done; status != 200 {
			t.Errorf("the first: %d", status)
		}
	}
}

func TestRefusedPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	w := newWorld(t, Config{AllowAddrs: loopback}, addr)
	w.refused("http://"+addr+"/", CodeFailed, "connection refused")
}

func discard() *log.Logger { return log.New(io.Discard, "", 0) }
