package front

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/facet"
	"github.com/facetgateway/fgw/gateway/origin"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
)

func TestSplitHost(t *testing.T) {
	for _, c := range []struct {
		host, base string
		kind       hostKind
		label      string
	}{
		{"127.0.0.1:8080", "", hostPath, ""},
		{"[::1]:8080", "", hostPath, ""},
		{"[::1]", "", hostPath, ""},
		{"192.168.1.5", "", hostPath, ""},
		{"localhost", "", hostPath, ""},
		{"LOCALHOST:1", "", hostPath, ""},
		{"a--b--c.localhost:8080", "", hostOrigin, "a--b--c"},
		{"A--B--C.localhost.", "", hostOrigin, "a--b--c"},
		{"x.y.localhost", "", hostBad, ""},
		{"evil.example", "", hostBad, ""},
		{"localhost.evil.example", "", hostBad, ""},
		{"evil-localhost", "", hostBad, ""},
		{"", "", hostBad, ""},
		{"apps.example", "apps.example", hostPath, ""},
		{"a--b.apps.example:443", "apps.example", hostOrigin, "a--b"},
		{"a--b.apps.example.evil", "apps.example", hostBad, ""},
	} {
		kind, label := splitHost(c.host, c.base)
		if kind != c.kind || label != c.label {
			t.Errorf("%q: %d %q, wanted %d %q", c.host, kind, label, c.kind, c.label)
		}
	}
}

func TestCutPath(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, c := range []struct {
		path         string
		n            int
		names        string // joined by |
		prefix, rest string
		bad          bool
	}{
		{"/t/alice/probe/x/y", 3, "t|alice|probe", "/t/alice/probe", "/x/y", false},
		{"/t/alice/probe", 3, "t|alice|probe", "/t/alice/probe", "", false},
		{"/t/alice/probe/", 3, "t|alice|probe", "/t/alice/probe", "/", false},
		{"/t/a%2Fb/probe/", 3, "t|a/b|probe", "/t/a%2Fb/probe", "/", false},
		{"/t/%ff%20/probe/", 3, "t|\xff |probe", "/t/%ff%20/probe", "/", false},
		{"/t", 3, "t", "/t", "", false},
		{"/", 3, "", "", "/", false},
		{"/t/%2e%2e/x", 3, "", "", "", true},
		{"/t/%00/x", 3, "", "", "", true},
		{"/t/%zz/x", 3, "", "", "", true},
		{"/t//x", 3, "", "", "", true},
		{"/t/" + long, 3, "", "", "", true},
	} {
		names, prefix, rest, err := cutPath(c.path, c.n)
		if c.bad {
			if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != problem.BadName {
				t.Errorf("%q: %v", c.path, err)
			}
			continue
		}
		if err != nil || strings.Join(names, "|") != c.names || prefix != c.prefix || rest != c.rest {
			t.Errorf("%q: %q %q %q %v", c.path, names, prefix, rest, err)
		}
	}
}

func FuzzCutPath(f *testing.F) {
	f.Add("/t/a%2Fb/probe/x", 3)
	f.Add("//..//%2e/", 2)
	f.Fuzz(func(t *testing.T, path string, n int) {
		if n < 0 || n > 8 {
			return
		}
		_, prefix, rest, err := cutPath(path, n)
		if err == nil && prefix+rest != path {
			t.Errorf("%q became %q and %q", path, prefix, rest)
		}
	})
}

func TestPrefixLocation(t *testing.T) {
	for _, c := range [][3]string{
		{"/p", "/x", "/p/x"},
		{"/p", "/", "/p/"},
		{"", "/x", "/x"},
		{"/p", "//evil.example/", "//evil.example/"},
		{"/p", `/\evil.example/`, `/\evil.example/`},
		{"/p", "x", "x"},
		{"/p", "http://else.example/x", "http://else.example/x"},
	} {
		h := http.Header{"Location": {c[1]}}
		if prefixLocation(h, c[0]); h.Get("Location") != c[2] {
			t.Errorf("%q with prefix %q: %q, wanted %q", c[1], c[0], h.Get("Location"), c[2])
		}
	}
}

func TestStripDomains(t *testing.T) {
	h := http.Header{"Set-Cookie": {"a=1; Domain=localhost; Path=/", "b=domain; domain=x", "c=3;  DOMAIN = y ; HttpOnly", "d=4; Secure"}}
	stripDomains(h)
	want := []string{"a=1; Path=/", "b=domain", "c=3; HttpOnly", "d=4; Secure"}
	for i, got := range h["Set-Cookie"] {
		if got != want[i] {
			t.Errorf("%q, wanted %q", got, want[i])
		}
	}
}

func TestTraceparent(t *testing.T) {
	good := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		given string
		kept  bool
	}{{good, true}, {"", false}, {"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", false}, {strings.ToUpper(good), false}, {good + "\r\nX: y", false}} {
		got, state := trace(&http.Request{Header: http.Header{"Traceparent": {c.given}, "Tracestate": {"a=1", "b=2"}}})
		if (got == c.given) != c.kept || !validTrace(got) {
			t.Errorf("%q became %q", c.given, got)
		}
		if want := map[bool]string{true: "a=1,b=2"}[c.kept]; state != want {
			t.Errorf("%q goes on with the state %q, want %q", c.given, state, want)
		}
	}
	if got, state := trace(&http.Request{Header: http.Header{"Traceparent": {good, good}, "Tracestate": {"a=1"}}}); got == good || state != "" {
		t.Errorf("of two parents %q was taken, with the state %q", got, state)
	}
}

// spaces and facets stand in for the registry and the facets, to see what would reach them.
type spaces map[string]*registry.Namespace

func (s spaces) Namespace(name string) (*registry.Namespace, error) {
	if ns := s[name]; ns != nil {
		return ns, nil
	}
	return nil, registry.ErrNotFound
}

func (spaces) Origin(_ context.Context, label string) (string, error) {
	if label == origin.Label("t", "Big Name", "probe") {
		return "t/Big%20Name/probe", nil
	}
	return "", registry.ErrNotFound
}

type seen struct {
	Object, Target, Prefix, Child string
	Path                          []string
}

type facets struct {
	got    *seen
	answer http.Header
	err    error
}

func (f *facets) Serve(w http.ResponseWriter, r *http.Request, t *facet.Target, q *relay.Request, o *relay.Options) error {
	f.got = &seen{Object: t.Object, Target: q.Target, Prefix: q.Prefix, Path: t.Path}
	for _, h := range q.Extra {
		if h.Name == "Fgw-Child" {
			f.got.Child = h.Value
		}
	}
	if f.err != nil {
		return f.err
	}
	for name, values := range f.answer {
		w.Header()[name] = append([]string{}, values...)
	}
	o.Answer(q.Prefix, w.Header())
	return nil
}

func TestServe(t *testing.T) {
	ns := spaces{
		"t":    {Name: "t", Access: "local", Limits: registry.DefaultLimits()},
		"open": {Name: "open", Access: "public", Limits: registry.DefaultLimits()},
		"sup":  {Name: "sup", Access: "local", Supervisor: "maker", Limits: registry.DefaultLimits()},
	}
	navigate := http.Header{"Sec-Fetch-Site": {"none"}, "Sec-Fetch-Mode": {"navigate"}}
	foreign := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"no-cors"}}
	sibling := http.Header{"Sec-Fetch-Site": {"same-site"}, "Sec-Fetch-Mode": {"cors"}}
	for _, c := range []struct {
		name, method, host, path string
		header                   http.Header
		remote                   bool
		status                   int
		code, location           string
		want                     *seen
	}{
		{name: "path form", path: "/t/alice/probe/x?y=1", want: &seen{Object: "alice", Target: "/x?y=1", Prefix: "/t/alice/probe", Path: []string{"probe"}}},
		{name: "escapes stay", path: "/t/a%2Fb/probe/x%2Fy", want: &seen{Object: "a/b", Target: "/x%2Fy", Prefix: "/t/a%2Fb/probe", Path: []string{"probe"}}},
		{name: "origin form", host: "probe--alice--t.localhost:1", path: "/x", want: &seen{Object: "alice", Target: "/x", Path: []string{"probe"}}},
		{name: "hashed origin", host: origin.Label("t", "Big Name", "probe") + ".localhost", path: "/", want: &seen{Object: "Big Name", Target: "/", Path: []string{"probe"}}},
		{name: "supervisor", path: "/sup/alice/run/x", want: &seen{Object: "alice", Target: "/run/x", Prefix: "/sup/alice"}},
		{name: "supervisor's origin", host: "alice--sup.localhost", path: "/x", want: &seen{Object: "alice", Target: "/x"}},
		{name: "child's origin", host: "todo--alice--sup.localhost", path: "/x", want: &seen{Object: "alice", Target: "/x", Child: "todo"}},
		{name: "forged child", path: "/sup/alice/x", header: http.Header{"Fgw-Child": {"todo"}}, want: &seen{Object: "alice", Target: "/x", Prefix: "/sup/alice"}},
		{name: "no slash, GET", path: "/t/alice/probe?q=1", status: 308, location: "/t/alice/probe/?q=1"},
		{name: "no slash, POST", method: "POST", path: "/t/alice/probe", want: &seen{Object: "alice", Target: "/", Prefix: "/t/alice/probe", Path: []string{"probe"}}},
		{name: "unknown namespace", path: "/nosuch/a/b/", status: 404, code: problem.NamespaceNotFound},
		{name: "incomplete", path: "/t/alice", status: 404, code: problem.FacetNotFound},
		{name: "nothing", path: "/", status: 404, code: problem.NamespaceNotFound},
		{name: "rebinding", host: "evil.example", path: "/t/alice/probe/", status: 421, code: problem.BadHost},
		{name: "no origin of that name", host: "x.localhost", path: "/", status: 404, code: problem.FacetNotFound},
		{name: "navigation", path: "/t/alice/probe/x?y", header: navigate, status: 307, location: "http://probe--alice--t.localhost:8080/x?y", host: "127.0.0.1:8080"},
		{name: "foreign page", method: "POST", path: "/t/alice/probe/", header: foreign, status: 403, code: problem.CrossSite},
		{name: "sibling's page", path: "/t/alice/probe/", header: sibling, status: 403, code: problem.CrossSite},
		{name: "foreign form", method: "POST", path: "/t/alice/probe/", header: http.Header{"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"}}, status: 403, code: problem.CrossSite},
		{name: "foreign page of an old browser", method: "POST", path: "/t/alice/probe/", header: http.Header{"Origin": {"http://evil.example"}}, status: 403, code: problem.CrossSite},
		{name: "a page without an origin", method: "POST", path: "/t/alice/probe/", header: http.Header{"Origin": {"null"}}, status: 403, code: problem.CrossSite},
		{name: "an app's page, old browser", host: "localhost:8080", path: "/t/alice/probe/", header: http.Header{"Origin": {"http://evil--bob--t.localhost:8080"}}, status: 403, code: problem.CrossSite},
		{name: "another port's page", host: "localhost:8080", path: "/t/alice/probe/", header: http.Header{"Origin": {"http://localhost:9090"}}, status: 403, code: problem.CrossSite},
		{name: "own page, old browser", method: "POST", host: "localhost:8080", path: "/t/alice/probe/", header: http.Header{"Origin": {"http://LOCALHOST:8080"}}, want: &seen{Object: "alice", Target: "/", Prefix: "/t/alice/probe", Path: []string{"probe"}}},
		{name: "own page, usual port", method: "POST", host: "localhost:443", path: "/t/alice/probe/", header: http.Header{"Origin": {"https://localhost"}}, want: &seen{Object: "alice", Target: "/", Prefix: "/t/alice/probe", Path: []string{"probe"}}},
		{name: "foreign page, own origin", method: "POST", host: "probe--alice--t.localhost", path: "/", header: http.Header{"Origin": {"http://evil.example"}}, want: &seen{Object: "alice", Target: "/", Path: []string{"probe"}}},
		{name: "from elsewhere, local", path: "/t/alice/probe/", remote: true, status: 403, code: problem.AccessDenied},
		{name: "from elsewhere, public", path: "/open/alice/probe/", remote: true, want: &seen{Object: "alice", Target: "/", Prefix: "/open/alice/probe", Path: []string{"probe"}}},
		{name: "healthz", path: "/_fgw/healthz", status: 200},
		{name: "own namespace", path: "/_fgw/nosuch", status: 404, code: problem.FacetNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := &facets{}
			f := New(Config{Namespaces: ns, Facets: fs, Origins: ns, Ready: func() bool { return true }, Log: slog.New(slog.DiscardHandler)})
			if c.host == "" {
				c.host = "127.0.0.1"
			}
			if c.method == "" {
				c.method = "GET"
			}
			r := httptest.NewRequest(c.method, "http://"+c.host+c.path, nil)
			for name, v := range c.header {
				r.Header[name] = v
			}
			local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
			if c.remote {
				local.IP = net.IPv4(192, 0, 2, 1)
			}
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			if c.status == 0 {
				c.status = 200
			}
			if w.Code != c.status || w.Header().Get("Location") != c.location || w.Header().Get("X-Request-Id") == "" {
				t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
			}
			if c.code != "" {
				var e struct {
					Error struct{ Code, Message, Request_id string }
				}
				if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error.Code != c.code || e.Error.Message == "" || e.Error.Request_id != w.Header().Get("X-Request-Id") {
					t.Fatalf("%s", w.Body)
				}
			}
			if (c.want == nil) != (fs.got == nil) {
				t.Fatalf("reached %+v", fs.got)
			}
			if c.want != nil && (c.want.Object != fs.got.Object || c.want.Target != fs.got.Target || c.want.Prefix != fs.got.Prefix || c.want.Child != fs.got.Child || strings.Join(c.want.Path, "|") != strings.Join(fs.got.Path, "|")) {
				t.Fatalf("reached %+v, wanted %+v", fs.got, c.want)
			}
		})
	}
}

// TestAnswersAreShaped: the path form carries no cookies and a sandbox, an origin its own cookies.
// A hint is a command that works: a browser's /favicon.ico names nothing that could be made.
func TestHintsCanBeFollowed(t *testing.T) {
	f := New(Config{Namespaces: spaces{}, Facets: &facets{}, Origins: spaces{}, Log: slog.New(slog.DiscardHandler)})
	for path, hint := range map[string]bool{"/notes/a/b/": true, "/favicon.ico": false, "/NOTES/a/b/": false} {
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1"+path, nil))
		if w.Code != 404 || strings.Contains(w.Body.String(), "fgw namespaces create") != hint {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestAnswersAreShaped(t *testing.T) {
	ns := spaces{"t": {Name: "t", Access: "public", Limits: registry.DefaultLimits()}}
	fs := &facets{answer: http.Header{"Set-Cookie": {"a=1; Domain=localhost"}, "Location": {"/x"}}}
	f := New(Config{Namespaces: ns, Facets: fs, Origins: ns, Log: slog.New(slog.DiscardHandler)})
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/t/a/probe/", nil))
	if h := w.Header(); h.Get("Set-Cookie") != "" || h.Get("Content-Security-Policy") != "sandbox" || h.Get("Location") != "/t/a/probe/x" {
		t.Errorf("path form: %v", h)
	}
	w = httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest("GET", "http://probe--a--t.localhost/", nil))
	if h := w.Header(); h.Get("Set-Cookie") != "a=1" || h.Get("Content-Security-Policy") != "" || h.Get("Location") != "/x" {
		t.Errorf("origin form: %v", h)
	}
}

// What a browser applies to a whole origin, or domain, does not reach an app's neighbours.
func TestOriginWideHeaders(t *testing.T) {
	ns := spaces{"t": {Name: "t", Access: "public", Limits: registry.DefaultLimits()}}
	fs := &facets{answer: http.Header{
		"Clear-Site-Data": {`"cookies", "storage"`, `"*","cache"`}, "Strict-Transport-Security": {"max-age=1"}, "Nel": {"{}"}, "Report-To": {"{}"}, "Alt-Svc": {"clear"}, "X-Mine": {"1"},
	}}
	f := New(Config{Namespaces: ns, Facets: fs, Origins: ns, Log: slog.New(slog.DiscardHandler)})
	for _, c := range []struct{ url, clears, hsts string }{
		{"http://localhost/t/a/probe/", "", ""},
		{"http://probe--a--t.localhost/", `"storage", "cache"`, "max-age=1"},
	} {
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequest("GET", c.url, nil))
		h := w.Header()
		if h.Get("Clear-Site-Data") != c.clears || h.Get("Strict-Transport-Security") != c.hsts || h.Get("X-Mine") != "1" {
			t.Errorf("%s: %v", c.url, h)
		}
		for _, name := range []string{"Nel", "Report-To", "Alt-Svc"} {
			if (h.Get(name) == "") != (c.clears == "") {
				t.Errorf("%s: %s is %q", c.url, name, h.Get(name))
			}
		}
	}
	fs.answer = http.Header{"Clear-Site-Data": {`"*"`}}
	w := httptest.NewRecorder()
	if f.ServeHTTP(w, httptest.NewRequest("GET", "http://probe--a--t.localhost/", nil)); len(w.Header()["Clear-Site-Data"]) > 0 {
		t.Errorf("%v", w.Header())
	}
}

func TestFailures(t *testing.T) {
	ns := spaces{"t": {Name: "t", Access: "public", Limits: registry.DefaultLimits()}}
	for _, c := range []struct {
		err    error
		status int
		code   string
		aborts bool
	}{
		{problem.New(problem.FacetCrashed, "x"), 502, problem.FacetCrashed, false},
		{errors.New("open /secret/path"), 500, problem.Internal, false},
		{relay.ErrCut, 0, "", true},
		{relay.ErrClientGone, 0, "", true},
	} {
		f := New(Config{Namespaces: ns, Facets: &facets{err: c.err}, Origins: ns, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		w := httptest.NewRecorder()
		aborted := func() (aborted bool) {
			defer func() { aborted = recover() == http.ErrAbortHandler }()
			f.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/t/a/probe/", nil))
			return false
		}()
		if aborted != c.aborts || !aborted && (w.Code != c.status || !strings.Contains(w.Body.String(), c.code) || strings.Contains(w.Body.String(), "/secret")) {
			t.Errorf("%v: aborted %v, %d %s", c.err, aborted, w.Code, w.Body)
		}
	}
}
