package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// probes is a gateway with the probe app in the namespace t.
func probes(t *testing.T, args ...string) *rig.Gateway {
	t.Helper()
	g := rig.Start(t, args...)
	g.Deploy(rig.App(t, "probe", ""), "t", "probe")
	return g
}

// who is what a handler says of itself.
type who struct {
	Namespace, Facet, Edition, Born, Method, Path, Query, Host string
	Object                                                     []byte
	Version                                                    int
	Headers                                                    map[string][]string
}

func whoIs(g *rig.Gateway, path string, headers ...string) (w who) {
	g.T.Helper()
	g.Get(path+"/whoami", &w, headers...)
	return w
}

func TestOneInstanceForAll(t *testing.T) {
	g := probes(t)
	g.Must("namespaces", "set", "t", "in_flight=200")
	var mu sync.Mutex
	born := map[string]int{}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			a, err := g.Try("GET", "/t/crowd/probe/whoami", nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || a.Status != 200 {
				t.Errorf("%v %v", a, err)
				return
			}
			_, rest, _ := strings.Cut(string(a.Body), `"born":"`)
			id, _, _ := strings.Cut(rest, `"`)
			born[id]++
		})
	}
	wg.Wait()
	if d := g.Inspect("t/crowd/probe"); len(born) != 1 || d.Usage.Starts != 1 {
		t.Errorf("instances %v, %d starts", born, d.Usage.Starts)
	}
}

func TestIdleStopAndWake(t *testing.T) {
	g := probes(t)
	g.Must("namespaces", "set", "t", "idle_timeout=300ms")
	g.Text("POST", "/t/a/probe/incr", "")
	first := whoIs(g, "/t/a/probe")
	rig.Eventually(t, 10*time.Second, "the facet stops", func() bool { return g.Inspect("t/a/probe").State == "stopped" })
	if d := g.Inspect("t/a/probe"); d.LastExit == nil || d.LastExit.Reason != "idle" || d.MemoryBytes != 0 {
		t.Errorf("stopped: %+v", d)
	}
	if n := g.Text("GET", "/t/a/probe/read", ""); n != "1" {
		t.Errorf("its data are %s", n)
	}
	if second := whoIs(g, "/t/a/probe"); second.Born == first.Born {
		t.Error("the same instance woke")
	}
	if n := g.Text("GET", "/t/a/probe/stops", ""); n != "1" {
		t.Errorf("its stop handler ran %s times", n)
	}
	// A request that takes long is not idle.
	slow := make(chan string, 1)
	go func() { a, _ := g.Try("GET", "/t/a/probe/wait?door=d", nil); slow <- string(a.Body) }()
	time.Sleep(900 * time.Millisecond) // three idle times must pass for this to say anything
	g.Text("GET", "/t/a/probe/open?door=d", "")
	if got := <-slow; !strings.Contains(got, "version 1") {
		t.Errorf("a long request was answered %q", got)
	}
}

func TestCrashes(t *testing.T) {
	g := probes(t)
	g.Text("POST", "/t/a/probe/incr", "")
	for _, test := range []struct{ path, says string }{
		{"exit", "exit status 7: so long"},
		{"panic", "panic: a goroutine of its own"},
	} {
		p := g.Refused(502, crashed, "GET", "/t/a/probe/"+test.path, nil)
		if !strings.Contains(p.Message, test.says) {
			t.Errorf("%s is told as %q", test.path, p.Message)
		}
		if d := g.Inspect("t/a/probe"); d.LastExit == nil || !strings.Contains(d.LastExit.Detail, test.says) {
			t.Errorf("last_exit is %+v", d.LastExit)
		}
		if n := g.Text("GET", "/t/a/probe/read", ""); n != "1" {
			t.Errorf("the next instance reads %s", n)
		}
	}
}

func TestCrashLoopBacksOff(t *testing.T) {
	g := probes(t)
	for i := range 20 {
		a := g.Do("GET", "/t/loop/probe/exit", nil)
		if a.Status == 502 {
			continue
		}
		wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if a.Status != 503 || a.Problem().Code != "facet_backoff" || err != nil || wait < 1 || wait > 60 || i < 3 {
			t.Fatalf("request %d: %d %s, Retry-After %q", i, a.Status, a.Body, a.Header.Get("Retry-After"))
		}
		if !strings.Contains(a.Problem().Message, "so long") {
			t.Errorf("the reason is not told: %s", a.Body)
		}
		if s := g.Inspect("t/loop/probe").State; s != "backoff" {
			t.Errorf("its state is %s", s)
		}
		rig.Eventually(t, time.Duration(wait+5)*time.Second, "it recovers", func() bool { return g.Do("GET", "/t/loop/probe/hello", nil).Status == 200 })
		return
	}
	t.Error("it never backs off")
}

// A version that is deployed while the one before rests after its failures starts at once.
func TestDeployForgivesFailures(t *testing.T) {
	g := probes(t)
	two := rig.App(t, "probe", "two")
	rig.Eventually(t, time.Minute, "it rests for long", func() bool {
		wait, _ := strconv.Atoi(g.Do("GET", "/t/loop/probe/exit", nil).Header.Get("Retry-After"))
		return wait >= 4
	})
	g.Deploy(two, "t", "probe")
	if a := g.Do("GET", "/t/loop/probe/hello", nil); a.Status != 200 {
		t.Errorf("after the deployment: %d %s", a.Status, a.Body)
	}
}

func TestStartsThatFail(t *testing.T) {
	g := probes(t)
	for _, test := range []struct{ object, code, says, reason string }{
		{"start-error", "facet_start_failed", "the shop is closed on Sundays", "start"},
		{"start-panic", "facet_start_failed", "the shelf fell down", "start"},
		{"start-exit", crashed, "exit status 3: not today", "crash"},
	} {
		p := g.Refused(502, test.code, "GET", "/t/"+test.object+"/probe/hello", nil)
		d := g.Inspect("t/" + test.object + "/probe")
		if !strings.Contains(p.Message, test.says) || d.LastExit == nil || d.LastExit.Reason != test.reason || !strings.Contains(d.LastExit.Detail, test.says) {
			t.Errorf("%s: told %q, last_exit %+v", test.object, p.Message, d.LastExit)
		}
	}
}

// A start function that hangs is waited for, for a minute: then everyone who waits is told.
func TestStartThatHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	rig.NeedRoot(t)
	t.Parallel() // it waits for all of the time
	g := probes(t)
	p := g.Refused(504, timeout, "GET", "/t/start-hang/probe/hello", nil)
	if !strings.Contains(p.Message, "start function did not return within") {
		t.Errorf("told %q", p.Message)
	}
}

func TestDeployOnARunningFacet(t *testing.T) {
	g := probes(t)
	g.Text("POST", "/t/a/probe/incr", "")
	slow := make(chan *rig.Answer, 1)
	go func() { a, _ := g.Try("GET", "/t/a/probe/wait?door=d&begin", nil); slow <- a }()
	rig.Eventually(t, 10*time.Second, "the slow request runs", func() bool { return g.Inspect("t/a/probe").Requests >= 2 })
	g.Deploy(rig.App(t, "probe", "two"), "t", "probe")
	next := make(chan *rig.Answer, 1)
	go func() { a, _ := g.Try("GET", "/t/a/probe/whoami", nil); next <- a }()
	select {
	case a := <-next:
		t.Fatalf("a request did not wait for the new version: %s", a.Body)
	case <-time.After(300 * time.Millisecond): // it waits
	}
	if d := g.Inspect("t/a/probe"); d.Version != 1 {
		t.Errorf("version %d runs while version 1 works", d.Version)
	}
	// The old instance takes no request any more, not even the one that would open the door: abort it.
	g.Must("facets", "abort", "t/a/probe", "--reason", "the new one is wanted")
	<-slow
	if a := <-next; a == nil || !strings.Contains(string(a.Body), `"edition":"two"`) || !strings.Contains(string(a.Body), `"version":2`) {
		t.Errorf("the request that waited: %s", a.Body)
	}
	if n := g.Text("GET", "/t/a/probe/read", ""); n != "1" {
		t.Errorf("the new version reads %s", n)
	}
	g.Must("apps", "rollback", "t/probe")
	rig.Eventually(t, 10*time.Second, "version 1 is back", func() bool { return whoIs(g, "/t/a/probe").Edition == "" })
	if n := g.Text("GET", "/t/a/probe/read", ""); n != "1" {
		t.Errorf("the old version reads %s", n)
	}
}

// What runs when a new version is deployed finishes, and is not cut.
func TestDeployLetsRequestsFinish(t *testing.T) {
	g := probes(t)
	conn := g.Dial("POST /t/a/probe/hash HTTP/1.1\nHost: localhost\nContent-Length: 10\n\n12345")
	rig.Eventually(t, 10*time.Second, "the upload runs", func() bool {
		return g.Do("GET", "/t/a/probe/hello", nil).Status == 200 && g.Inspect("t/a/probe").Requests >= 2
	})
	g.Deploy(rig.App(t, "probe", "two"), "t", "probe")
	conn.Send("67890")
	if resp, body := conn.Whole("POST"); resp.StatusCode != 200 || !strings.HasPrefix(string(body), "10 ") {
		t.Errorf("the upload was answered %d %s", resp.StatusCode, body)
	}
	if w := whoIs(g, "/t/a/probe"); w.Edition != "two" || w.Version != 2 {
		t.Errorf("then %q, version %d, runs", w.Edition, w.Version)
	}
	if n := g.Text("GET", "/t/a/probe/stops", ""); n != "1" {
		t.Errorf("the stop handler ran %s times", n)
	}
}

func TestAbortTellsItsReason(t *testing.T) {
	g := probes(t)
	got := make(chan *rig.Answer, 1)
	go func() { a, _ := g.Try("GET", "/t/a/probe/wait?door=d", nil); got <- a }()
	rig.Eventually(t, 10*time.Second, "the request runs", func() bool {
		return requests(g, "t/a/probe") == 1 && g.Inspect("t/a/probe").State == "running"
	})
	g.Must("facets", "abort", "t/a/probe", "--reason", "the plug was pulled")
	if a := <-got; a.Status != 502 || a.Problem().Code != "facet_aborted" || !strings.Contains(a.Problem().Message, "the plug was pulled") {
		t.Errorf("the request was told %d %s", a.Status, a.Body)
	}
}

func TestLimits(t *testing.T) {
	g := probes(t)
	g.Must("namespaces", "set", "t", "in_flight=4", "body=1MiB")
	t.Run("in_flight", func(t *testing.T) {
		g.T = t
		var conns []*rig.Conn
		for i := range 4 {
			c := g.Dial("GET /t/a/probe/wait?begin&door=d HTTP/1.1\nHost: localhost\n\n")
			if resp := c.Answer("GET"); resp.StatusCode != 200 {
				t.Fatalf("request %d: %d", i, resp.StatusCode)
			}
			conns = append(conns, c)
		}
		a := g.Do("GET", "/t/a/probe/hello", nil)
		if a.Status != 429 || a.Problem().Code != "too_many_requests" || a.Header.Get("Retry-After") == "" || !strings.Contains(a.Problem().Message, "in_flight") {
			t.Errorf("the fifth: %d %v %s", a.Status, a.Header, a.Body)
		}
		if got := g.Text("GET", "/t/b/probe/hello", ""); got != "hello\n" {
			t.Errorf("another object says %q", got)
		}
		for _, c := range conns {
			c.Close()
		}
		rig.Eventually(t, 10*time.Second, "there is room again", func() bool { return g.Do("GET", "/t/a/probe/hello", nil).Status == 200 })
	})
	t.Run("body", func(t *testing.T) {
		g.T = t
		for _, c := range []struct {
			size   int64
			status int
		}{{1 << 20, 200}, {1<<20 + 1, 413}, {8 << 20, 413}} {
			for _, chunked := range []bool{false, true} {
				body := rig.Repeat("x", int(c.size))
				if chunked {
					body = rig.Zeros(c.size)
				}
				// The answer may come while the body is still being sent, and the connection end with it.
				rig.Eventually(t, 10*time.Second, fmt.Sprintf("%d bytes are answered %d", c.size, c.status), func() bool {
					a, err := g.Try("POST", "/t/a/probe/hash", body)
					if err != nil {
						return false
					}
					if a.Status != c.status || c.status == 413 && a.Problem().Code != "body_too_large" {
						t.Errorf("%d bytes, chunked %v: %d %s", c.size, chunked, a.Status, a.Body)
					}
					return true
				})
			}
		}
	})
	t.Run("request_timeout", func(t *testing.T) {
		g.T = t
		g.Must("namespaces", "set", "t", "request_timeout=1s") // for an object that starts now: on a busy machine the others may take longer
		p := g.Refused(504, timeout, "GET", "/t/c/probe/wait?door=never", nil)
		if !strings.Contains(p.Message, "no answer within 1s, the request_timeout of namespace t") {
			t.Errorf("told %q", p.Message)
		}
		rig.Eventually(t, 10*time.Second, "its handler is told", func() bool { return g.Text("GET", "/t/c/probe/gone", "") != "0" })
		// A stream is not cut.
		c := g.Dial("GET /t/c/probe/wait?begin&door=long HTTP/1.1\nHost: localhost\n\n")
		resp := c.Answer("GET")
		time.Sleep(1500 * time.Millisecond) // the limit must have passed for this to say anything
		g.Text("GET", "/t/c/probe/open?door=long", "")
		var text [64]byte
		if n, err := resp.Body.Read(text[:]); err != nil && n == 0 {
			t.Errorf("a stream was cut: %v", err)
		}
	})
}
