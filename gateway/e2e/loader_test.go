package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// load runs a dynamic worker by its plan.
func (s *stage) load(p plan, rest string) *rig.Answer {
	s.T.Helper()
	return s.Do("GET", s.path("load", "", rest), nil, "Plan", text(s.T, p))
}

// passEnvCaps: what a child is given is there, and nothing else is.
func TestCapabilities(t *testing.T) {
	s := staged(t)
	s.plan("rich", plan{"services": plan{"desk": plan{"service": "desk", "props": plan{"user": "bob"}}}, "env": plan{"COLOUR": "red"}, "secrets": plan{"KEY": "k"}, "props": 7})
	s.plan("other", plan{"services": plan{"desk": plan{"service": "desk", "props": "eve"}}})
	s.plan("wrong", plan{"services": plan{"desk": plan{"service": "nobody offers this"}}})
	s.expect("rich", "/ask/tea", `"hello map[user:bob] at /tea"`)
	s.expect("other", "/ask/tea", `"hello eve at /tea"`)
	s.expect("rich", "/ask/tea", `"hello map[user:bob] at /tea"`)
	if k := s.who("rich"); k.Colour != "red" || k.Key != "k" || k.Props != 7.0 || fmt.Sprint(k.Services) != "[desk]" {
		t.Errorf("rich: %+v", k)
	}
	if k := s.who("poor"); k.Colour != "" || k.Key != "" || k.Props != nil || len(k.Services) != 0 {
		t.Errorf("poor: %+v", k)
	}
	if f := faultIn(t, s.Do("GET", s.path("on", "poor", "/ask/tea"), nil)); f == nil || !strings.Contains(f.Message, "no service") {
		t.Errorf("a service that was not given: %+v", f)
	}
	if f := faultIn(t, s.Do("GET", s.path("on", "wrong", "/ask/tea"), nil)); f == nil || !strings.Contains(f.Message, "nobody offers this") {
		t.Errorf("a service that is not offered: %+v", f)
	}
	for _, header := range []string{"Fgw-Caller-Props", "Fgw-Service"} { // a client can't pretend to be a child
		if a := s.Do("GET", "/t/studio/who", nil, header, "ImV2ZSI="); strings.Contains(string(a.Body), header) || a.Status != 200 {
			t.Errorf("a client's %s reached the supervisor: %d %s", header, a.Status, a.Body)
		}
	}
}

// A child that calls its supervisor while the supervisor waits for it does not deadlock, nor does one in its start.
func TestChildCallsItsSupervisor(t *testing.T) {
	s := staged(t)
	desk := plan{"desk": plan{"service": "desk", "props": "p"}}
	s.plan("a", plan{"services": desk})
	s.plan("b", plan{"services": desk})
	a := s.Do("GET", s.path("loud", "a", "/ask/child/b/ask/tea"), nil)
	if !strings.Contains(string(a.Body), "HELLO P AT /TEA") {
		t.Errorf("by way of the other child: %d %s", a.Status, a.Body)
	}
	s.expect("a", "/ask/child/a/count", `"0\n"`) // itself, in the midst of its own request
	s.plan("early", plan{"services": desk, "env": plan{"BEHAVE": "ask", "ASK": "/child/b/count"}})
	s.expect("early", "/mem", "0")
	if log := s.Must("logs", s.address("early")); !strings.Contains(log, "in start it was told: 0") {
		t.Errorf("the log says %s", log)
	}
	s.plan("led", plan{"call": "b"}) // the start function itself calls a child
	s.expect("led", "/mem", "0")
}

// What calls itself for ever, by a service or by the way out, ends with an error that says so, and leaves no harm. Where the
// calls don't say for which request they are made, it ends all the same: with the time of the facet, whose streams are used up.
func TestEndlessRecursion(t *testing.T) {
	s := staged(t)
	desk := plan{"service": "desk"}
	s.plan("a", plan{"services": plan{"desk": desk}, "via": desk})
	s.plan("b", plan{"services": plan{"desk": desk}, "requestms": 1000})
	calm := s.who("calm")
	for _, c := range []struct{ name, path, code string }{
		{"a", "/again", "call_depth"},
		{"a", "/around", "call_depth"},
		{"b", "/again?forget", "facet_timeout"},
	} {
		for _, verb := range []string{"on", "loud"} {
			a := s.Do("GET", s.path(verb, c.name, c.path), nil)
			if a.Status < 400 || !strings.Contains(strings.ToLower(string(a.Body)), c.code) {
				t.Errorf("%s %s: %d %.300s", verb, c.path, a.Status, a.Body)
			}
			if again := s.who("calm"); again.Born != calm.Born {
				t.Error("the sibling was started again")
			}
		}
		rig.Eventually(t, rawWait, "it works again", func() bool { return s.Do("GET", s.path("on", c.name, "/count"), nil).Status == 200 })
	}
	if d := s.Inspect(s.address()); d.Usage.Starts != 1 {
		t.Errorf("the supervisor started %d times: %+v", d.Usage.Starts, d.LastExit)
	}
}

// nullGlobalOutbound, overrideGlobalOutbound, and a list of hosts: the default is none, not the supervisor's own.
func TestEgress(t *testing.T) {
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s %s got out", r.Method, r.URL) }))
	defer outside.Close()
	_, port, _ := net.SplitHostPort(outside.Listener.Addr().String())
	s := staged(t)
	fetch := func(name, u string) (string, *fault) {
		a := s.Do("GET", s.path("on", name, "/fetch?u="+escape(u)), nil)
		return string(a.Body), faultIn(t, a)
	}
	if _, f := fetch("none", outside.URL); f == nil || f.Code != "no_egress" {
		t.Errorf("without egress: %+v", f)
	}
	a := s.Do("GET", s.path("on", "none", "/fetch?default&u="+escape(outside.URL)), nil)
	if f := faultIn(t, a); f == nil || !strings.Contains(f.Message, "no egress") {
		t.Errorf("http.DefaultClient without egress: %+v", f)
	}
	s.plan("via", plan{"via": plan{"service": "desk", "props": "token"}})
	for _, path := range []string{"/fetch?u=", "/fetch?default&u="} {
		for _, u := range []string{"http://api.test/pay?x=1", "https://api.test/pay", outside.URL + "/"} {
			a := s.Do("GET", s.path("on", "via", path+escape(u)), nil)
			var said string
			json.Unmarshal(a.Body, &said)
			if want := fmt.Sprintf("200 POST %s as token with \"ping\"", u); said != want {
				t.Errorf("via: %d %s, wanted %s", a.Status, a.Body, want)
			}
		}
	}
	if got, f := fetch("via", "http://forbidden.test/"); f != nil || !strings.Contains(got, "403 refused by the director") {
		t.Errorf("refused by the supervisor: %s %+v", got, f)
	}
	s.plan("list", plan{"hosts": []string{"127.0.0.1:" + port, "localhost:" + port, "app.localhost", "[::1]:" + port, "169.254.169.254", "10.0.0.1", "0.0.0.0:" + port, "*"}})
	for _, u := range []string{outside.URL, "http://localhost:" + port, "http://localhost:" + port + "/", "http://app.localhost/", "http://[::1]:" + port, "http://169.254.169.254/latest/", "http://10.0.0.1/", "http://0.0.0.0:" + port, "http://2130706433:" + port + "/", "http://[::ffff:127.0.0.1]:" + port, s.healthz()} {
		if got, f := fetch("list", u); f == nil || f.Code != "egress_denied" {
			t.Errorf("%s: %s %+v", u, got, f)
		}
	}
	s.plan("few", plan{"hosts": []string{"api.test"}})
	if got, f := fetch("few", "http://other.test/"); f == nil || f.Code != "egress_denied" || !strings.Contains(f.Message, "other.test") {
		t.Errorf("a host that is not listed: %s %+v", got, f)
	}
}

// What the administrator opens to a namespace its supervisor may call: so it can send its children's requests on, with a credential
// that they never see. Addresses that are not public must be opened for the whole gateway, too.
func TestEgressOfASupervisor(t *testing.T) {
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s by %q", r.Method, r.URL, body, r.Header.Get("Authorization"))
	}))
	defer outside.Close()
	host := outside.Listener.Addr().String()
	s := staged(t, "--egress-allow", "127.0.0.0/8")
	s.plan("child", plan{"via": plan{"service": "desk", "props": "credential"}})
	s.plan("listed", plan{"hosts": []string{host}})
	s.plan("web", plan{"hosts": []string{"*"}})
	fetch := func(name, u string) string {
		t.Helper()
		var said string
		a := s.Do("GET", s.path("on", name, "/fetch?u="+escape(u)), nil)
		if f := faultIn(t, a); f != nil {
			return f.Code
		}
		json.Unmarshal(a.Body, &said)
		return said
	}
	if said := fetch("child", outside.URL+"/pay"); !strings.HasPrefix(said, "502 ") || !strings.Contains(said, "no egress") {
		t.Errorf("before anything is opened to the supervisor: %s", said)
	}
	for _, bad := range []string{"egress=http://x/", "egress=-"} {
		if out := s.Run("namespaces", "set", "t", bad); out.Code != 2 {
			t.Errorf("%s: exit %d", bad, out.Code)
		}
	}
	s.Must("namespaces", "set", "t", "egress=api.test, "+host)
	s.Must("facets", "abort", s.address())
	var ns struct{ Egress []string }
	s.JSON(&ns, "namespaces", "show", "t")
	if !slices.Equal(ns.Egress, []string{"api.test", host}) {
		t.Errorf("the namespace's egress is %q", ns.Egress)
	}
	if said := fetch("child", outside.URL+"/pay"); said != `200 POST /pay "ping" by "Bearer of the director"` && said != `200 POST /pay ping by "Bearer of the director"` {
		t.Errorf("sent on by the supervisor: %s", said)
	}
	if said := fetch("listed", outside.URL+"/"); said != `200 POST / ping by ""` {
		t.Errorf("a child that was granted the host: %s", said)
	}
	for name, u := range map[string]string{"listed": s.healthz(), "web": outside.URL} {
		if said := fetch(name, u); said != "egress_denied" {
			t.Errorf("%s to %s: %s", name, u, said)
		}
	}
	if said := fetch("none", outside.URL); said != "no_egress" {
		t.Errorf("a child that was granted nothing: %s", said)
	}
	s.Must("namespaces", "set", "t", "egress=")
	s.Must("facets", "abort", s.address())
	if said := fetch("child", outside.URL+"/pay"); !strings.HasPrefix(said, "502 ") {
		t.Errorf("once it is closed again: %s", said)
	}
}

func (s *stage) healthz() string { return "http://" + s.Addr + "/_fgw/healthz" }

// A dynamic worker has no name and no database, one process for each call, and nothing of it stays.
func TestDynamicWorkers(t *testing.T) {
	s := staged(t)
	bare := plan{"env": plan{"BEHAVE": "stateless", "COLOUR": "blue"}, "props": "p"}
	var k [2]kid
	for i := range k {
		a := s.load(bare, "/who")
		if err := json.Unmarshal(a.Body, &k[i]); err != nil {
			t.Fatalf("%v in %d %s", err, a.Status, a.Body)
		}
	}
	if k[0].Born == k[1].Born || k[0].Name != "" || k[0].Colour != "blue" || k[0].Props != "p" {
		t.Errorf("workers %+v", k)
	}
	if f := faultIn(t, s.load(bare, "/count")); f == nil || f.Code != "no_database" {
		t.Errorf("its database: %+v", f)
	}
	if f := faultIn(t, s.load(bare, "/fetch?u=http://x.test/")); f == nil || f.Code != "no_egress" {
		t.Errorf("its egress: %+v", f)
	}
	bare["services"] = plan{"desk": plan{"service": "desk", "props": "w"}}
	if a := s.load(bare, "/ask/tea"); !strings.Contains(string(a.Body), "hello w at /tea") {
		t.Errorf("its service: %d %s", a.Status, a.Body)
	}
	a := s.Do("POST", s.path("load", "", "/echo"), strings.NewReader(strings.Repeat("abc", 50_000)), "Plan", text(t, bare))
	if a.Status != 200 || len(a.Body) != 150_000 {
		t.Errorf("its echo: %d, %d bytes", a.Status, len(a.Body))
	}
	if got := s.databases(); got != "0" {
		t.Errorf("databases %s", got)
	}
	if list := s.Text("GET", s.path("list", "", ""), ""); strings.TrimSpace(list) != "[]" {
		t.Errorf("children %s", list)
	}
	rig.Eventually(t, rawWait, "no worker is left", func() bool { return len(s.kids()) == 0 })
}

// kids are the processes that lie below the supervisor. Those that are kept ready for others lie elsewhere.
func (s *stage) kids() (found []rig.Process) {
	s.T.Helper()
	below := strings.TrimSuffix(s.Inspect(s.address()).Confinement.Cgroups["pids"], "own") + "kids/"
	for _, p := range rig.Descendants(s.PID()) {
		if groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID)); err == nil && strings.Contains(string(groups), below) {
			found = append(found, p)
		}
	}
	return found
}

// A dynamic worker with an id is kept while it is busy and for its idle time: load runs once.
func TestDynamicWorkerByID(t *testing.T) {
	s := staged(t)
	s.plan("w", plan{"env": plan{"BEHAVE": "stateless"}})
	for i := range 3 {
		if got := s.Text("GET", s.path("worker", "w", "/mem"), ""); got != fmt.Sprint(i) {
			t.Errorf("call %d got %s", i, got)
		}
	}
	if n := len(s.kids()); n != 1 {
		t.Errorf("%d workers are kept", n)
	}
	s.plan("v", plan{"env": plan{"BEHAVE": "stateless"}})
	if got := s.Text("GET", s.path("worker", "v", "/mem"), ""); got != "0" {
		t.Errorf("another id got %s", got)
	}
	if n := s.starts("w"); n != 1 {
		t.Errorf("load ran %d times", n)
	}
	s.Must("namespaces", "set", "t", "idle_timeout=300ms")
	s.object = "brief"
	s.plan("w", plan{"env": plan{"BEHAVE": "stateless"}})
	c := s.Dial("GET " + s.path("worker", "w", "/wait?begin&door=d") + " HTTP/1.1\nHost: localhost\n\n")
	resp := c.Answer("GET")
	time.Sleep(time.Second) // three idle times must pass for this to say anything
	if got := s.Text("GET", s.path("worker", "w", "/mem"), ""); got != "0" || s.starts("w") != 1 {
		t.Errorf("a busy worker was let go: %s, %d starts", got, s.starts("w"))
	}
	s.Text("GET", s.path("worker", "w", "/open?door=d"), "")
	var b [64]byte
	if n, err := resp.Body.Read(b[:]); n == 0 {
		t.Errorf("the long call got %v", err)
	}
	c.Close()
	rig.Eventually(t, rawWait, "it is let go", func() bool { // a call in less than its idle time would keep it
		time.Sleep(time.Second)
		return s.Text("GET", s.path("worker", "w", "/mem"), "") == "0"
	})
}

// sdk.Executable: a file that the supervisor has runs as a child; what is none is refused and says why.
func TestExecutable(t *testing.T) {
	s := staged(t)
	exe, err := os.ReadFile(rig.App(t, "troupe", "other"))
	if err != nil {
		t.Fatal(err)
	}
	s.plan("a", plan{"exe": true})
	for _, bad := range []string{"", "#!/bin/sh\nexit\n", string(exe[:1<<20])} {
		s.Text("PUT", s.path("exe", "", ""), bad)
		a := s.Do("GET", s.path("on", "a", "/count"), nil)
		if p := a.Problem(); a.Status != 400 || p.Code != "bad_request" || !strings.Contains(p.Message, "executable") {
			t.Errorf("%d bytes: %d %s", len(bad), a.Status, a.Body)
		}
	}
	s.Text("PUT", s.path("exe", "", ""), string(exe))
	s.expect("a", "/count", "0")
	if k := s.who("a"); k.Edition != "other" || k.Version != 0 {
		t.Errorf("runs %+v", k)
	}
}

// What a supervisor handed over is kept while a facet runs it, or an alarm will start one with it, and no longer.
func TestCodeThatIsNeeded(t *testing.T) {
	s := staged(t)
	exe, err := os.ReadFile(rig.App(t, "troupe", "other"))
	if err != nil {
		t.Fatal(err)
	}
	bundle := func(name, tail string) string { // starts a child with code of its own
		s.Text("PUT", s.path("exe", "", ""), string(exe)+tail)
		s.plan(name, plan{"exe": true})
		s.expect(name, "/mem", "0")
		sum := sha256.Sum256([]byte(string(exe) + tail))
		return filepath.Join(s.Data, "bundles", hex.EncodeToString(sum[:]))
	}
	old := func() { // nothing was stored lately
		all, err := filepath.Glob(filepath.Join(s.Data, "bundles", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range all {
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	there := func(what, path string, want bool) {
		t.Helper()
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %t", what, err == nil)
		}
	}
	runs, ended, alarmed := bundle("runs", "1"), bundle("ended", "2"), bundle("alarmed", "3")
	s.done("abort", "ended", "")
	s.on("alarmed", "/alarm?in=5s")
	s.done("abort", "alarmed", "")
	s.Deploy(rig.App(t, "probe", ""), "t", "spare")
	old()
	s.Must("apps", "rm", "t/spare", "--yes")
	there("what runs", runs, true)
	there("what nothing needs", ended, false)
	there("what an alarm needs", alarmed, true)
	s.Stop()
	old()
	s.Start()
	there("what ran before the restart", runs, false)
	there("what an alarm needs after it", alarmed, true)
	rig.Eventually(t, rawWait, "it rings", func() bool { return s.rangAsleep(s.address("alarmed")) == 1 })
}
