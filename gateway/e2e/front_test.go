package e2e_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestNamesOnTheWeb(t *testing.T) {
	g := probes(t)
	_, port, _ := net.SplitHostPort(g.Addr)
	host := func(label string) []string { return []string{"Host", label + ".localhost:" + port} }

	t.Run("any bytes", func(t *testing.T) {
		g.T = t
		for _, name := range []string{"a/b", "../../etc/passwd", "ü", "\xff\xfe", strings.Repeat("x", 256), "a b", "%", "%2e", "A", "…", ";", "?", "#", "-", "...", "\n", "\r\nX-Evil: 1"} {
			w := whoIs(g, "/t/"+url.PathEscape(name)+"/probe")
			if string(w.Object) != name || w.Path != "/whoami" || w.Namespace != "t" || w.Facet != "probe" {
				t.Errorf("object %q became %+v", name, w)
			}
		}
	})
	t.Run("bad names", func(t *testing.T) {
		g.T = t
		for _, path := range []string{"/t/" + strings.Repeat("x", 257) + "/probe/", "/t/a%00b/probe/", "/t/%2e%2e/probe/", "/t/%2e/probe/"} {
			g.Refused(400, "bad_name", "GET", path, nil)
		}
		c := g.Dial("GET /t/%zz/probe/hello HTTP/1.1\nHost: localhost\n\n")
		if resp := c.Answer("GET"); resp.StatusCode != 400 {
			t.Errorf("a bad percent-encoding: %d", resp.StatusCode)
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		g.T = t
		g.Refused(404, "namespace_not_found", "GET", "/nosuch/a/probe/", nil)
		g.Refused(404, "app_not_found", "GET", "/t/a/nosuch/", nil)
		g.Refused(404, "facet_not_found", "GET", "/_fgw/nosuch", nil)
		g.Refused(404, "namespace_not_found", "GET", "/", nil)
		if a := g.Do("GET", "/t/a/probe/nosuch", nil); a.Status != 404 || a.Problem().Code != "" {
			t.Errorf("the app's own 404: %d %s", a.Status, a.Body)
		}
		if a := g.Do("GET", "/_fgw/healthz", nil); a.Status != 200 {
			t.Errorf("healthz: %d", a.Status)
		}
	})
	t.Run("what the handler sees", func(t *testing.T) {
		g.T = t
		w := whoIs(g, "/t/a/probe", "X-Forwarded-Prefix", "/forged", "X-Request-Id", "forged", "X-Forwarded-For", "6.6.6.6", "Fgw-Child", "forged")
		if got := w.Headers["X-Forwarded-Prefix"]; len(got) != 1 || got[0] != "/t/a/probe" {
			t.Errorf("the prefix is %q", got)
		}
		for _, name := range []string{"X-Request-Id", "X-Forwarded-For", "Fgw-Child"} {
			if strings.Contains(fmt.Sprint(w.Headers[name]), "forged") || strings.Contains(fmt.Sprint(w.Headers[name]), "6.6.6.6") {
				t.Errorf("%s is the client's: %q", name, w.Headers[name])
			}
		}
		a := g.Do("GET", "/t/a/probe/whoami?q=%31+x", nil)
		if !strings.Contains(string(a.Body), `"query":"q=%31+x"`) || a.Header.Get("X-Request-Id") == "" {
			t.Errorf("%v %s", a.Header, a.Body)
		}
	})
	t.Run("the origin form", func(t *testing.T) {
		g.T = t
		w := whoIs(g, "", host("probe--alice--t")...)
		if string(w.Object) != "alice" || w.Facet != "probe" || w.Path != "/whoami" || len(w.Headers["X-Forwarded-Prefix"]) != 0 {
			t.Errorf("%+v", w)
		}
		g.Refused(404, "app_not_found", "GET", "/", nil, host("nosuch--alice--t")...)
		g.Refused(404, "namespace_not_found", "GET", "/", nil, host("probe--alice--nosuch")...)
		g.Refused(404, "facet_not_found", "GET", "/", nil, host("alice--t")...)
		g.Refused(404, "facet_not_found", "GET", "/", nil, host("h--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")...)
	})
	t.Run("origins of names that fit no host", func(t *testing.T) {
		g.T = t
		g.Text("GET", "/t/Not%20A%20Label/probe/hello", "")
		to := g.Do("GET", "/t/Not%20A%20Label/probe/whoami?x=1", nil, "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate")
		u, err := url.Parse(to.Header.Get("Location"))
		if to.Status != 307 || err != nil || !strings.HasPrefix(u.Host, "h--") || u.RequestURI() != "/whoami?x=1" {
			t.Fatalf("%d %v", to.Status, to.Header)
		}
		if w := whoIs(g, "", "Host", u.Host); string(w.Object) != "Not A Label" {
			t.Errorf("%s reaches %q", u.Host, w.Object)
		}
	})
	t.Run("answers are shaped", func(t *testing.T) {
		g.T = t
		for _, c := range []struct{ to, want string }{{"/there", "/t/a/probe/there"}, {"there", "there"}, {"//else.example/", "//else.example/"}, {"https://else.example/", "https://else.example/"}} {
			a := g.Do("GET", "/t/a/probe/redirect?to="+url.QueryEscape(c.to), nil)
			if got := a.Header.Get("Location"); a.Status != 303 || got != c.want {
				t.Errorf("a redirect to %s leads to %s", c.to, got)
			}
		}
		if a := g.Do("GET", "/redirect?to=/there", nil, host("probe--a--t")...); a.Header.Get("Location") != "/there" {
			t.Errorf("on its origin a redirect leads to %s", a.Header.Get("Location"))
		}
		a := g.Do("GET", "/t/a/probe/cookie", nil)
		if len(a.Header["Set-Cookie"]) != 0 || !strings.Contains(fmt.Sprint(a.Header["Content-Security-Policy"]), "sandbox") {
			t.Errorf("the path form answers with %v", a.Header)
		}
		a = g.Do("GET", "/cookie", nil, host("probe--a--t")...)
		if cookies := strings.ToLower(fmt.Sprint(a.Header["Set-Cookie"])); !strings.Contains(cookies, "a=1") || !strings.Contains(cookies, "b=2") || strings.Contains(cookies, "domain") || !strings.Contains(cookies, "httponly") {
			t.Errorf("on its origin the cookies are %s", cookies)
		}
	})
	t.Run("browsers", func(t *testing.T) {
		g.T = t
		a := g.Do("GET", "/t/a/probe/whoami", nil, "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate")
		if a.Status != 307 || a.Header.Get("Location") != "http://probe--a--t.localhost:"+port+"/whoami" {
			if a.Header.Get("Location") != "http://probe--a--t.localhost/whoami" {
				t.Errorf("a navigation: %d %v", a.Status, a.Header)
			}
		}
		for _, site := range []string{"cross-site", "same-site"} {
			g.Refused(403, "cross_site", "POST", "/t/a/probe/incr", nil, "Sec-Fetch-Site", site, "Sec-Fetch-Mode", "cors")
			g.Refused(403, "cross_site", "POST", "/t/a/probe/incr", nil, "Sec-Fetch-Site", site, "Sec-Fetch-Mode", "navigate")
		}
		if n := g.Text("GET", "/t/a/probe/read", "", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"); n != "0" {
			t.Errorf("a refused request was carried out: %s", n)
		}
	})
	t.Run("hosts", func(t *testing.T) {
		g.T = t
		for _, h := range []string{"evil.example", "localhost.evil.example", "xlocalhost", "a.b.localhost"} {
			g.Refused(421, "bad_host", "GET", "/t/a/probe/hello", nil, "Host", h)
		}
		for _, h := range []string{"localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]", "192.0.2.7"} {
			if a := g.Do("GET", "/t/a/probe/hello", nil, "Host", h); a.Status != 200 {
				t.Errorf("host %s: %d %s", h, a.Status, a.Body)
			}
		}
		for h, want := range map[string]int{"localhost": 204, "probe--a--t.localhost": 204, "evil.example": 421} {
			resp := g.Dial("OPTIONS * HTTP/1.1\nHost: " + h + "\n\n").Answer("OPTIONS")
			if resp.StatusCode != want || resp.Header.Get("X-Request-Id") == "" {
				t.Errorf("OPTIONS * of host %s: %d %v", h, resp.StatusCode, resp.Header)
			}
		}
	})
}

func TestWhoMayCreateObjects(t *testing.T) {
	g := probes(t)
	g.Must("namespaces", "set", "t", "create=admin")
	g.Refused(404, "object_not_found", "GET", "/t/a/probe/hello", nil)
	g.Must("objects", "create", "t/a")
	if got := g.Text("GET", "/t/a/probe/hello", ""); got != "hello\n" {
		t.Errorf("an object made by the administrator says %q", got)
	}
	g.Must("namespaces", "set", "t", "create=open", "max_objects=2")
	g.Text("GET", "/t/b/probe/hello", "")
	a := g.Do("GET", "/t/c/probe/hello", nil)
	if a.Status != 429 || a.Problem().Code != "object_limit" || a.Header.Get("Retry-After") == "" {
		t.Errorf("one object too many: %d %v %s", a.Status, a.Header, a.Body)
	}
	if got := g.Text("GET", "/t/b/probe/hello", ""); got != "hello\n" {
		t.Errorf("an object that was there says %q", got)
	}
}

// On an address that others reach, only public namespaces are served.
func TestAccess(t *testing.T) {
	address := outside(t)
	g := probes(t, "--listen", net.JoinHostPort(address, "0"))
	g.Refused(403, "access_denied", "GET", "/t/a/probe/hello", nil)
	g.Must("namespaces", "set", "t", "access=public")
	if got := g.Text("GET", "/t/a/probe/hello", ""); got != "hello\n" {
		t.Errorf("a public namespace says %q", got)
	}
}

// outside is an address of this machine's that is not loopback.
func outside(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}
