package e2e_test

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// hostiles is a gateway with the hostile app in the namespace bad and a well-behaved neighbour.
func hostiles(t *testing.T) *rig.Gateway {
	t.Helper()
	g := rig.Start(t)
	g.Deploy(rig.App(t, "hostile", ""), "bad", "hostile")
	g.Deploy(rig.App(t, "probe", ""), "good", "probe")
	g.Must("namespaces", "set", "bad", "request_timeout=2s", "memory=64MiB", "idle_timeout=60s")
	return g
}

// ending is what becomes of one way to misbehave.
type ending struct {
	mode string
	// What the first caller gets: 200, or the status with code and part of the message.
	status     int
	code, says string
	// How the instance ends, "" for one that lives on, and part of the detail.
	reason, detail string
}

const (
	crashed = "facet_crashed"
	breach  = "facet_protocol"
	timeout = "facet_timeout"
)

var endings = []ending{
	{"garbage", 502, breach, "does not speak the facet wire", "protocol", "sdk.Serve"},
	{"half", 502, breach, "does not speak the facet wire", "protocol", ""},
	{"no-version", 502, breach, "not so fast", "protocol", "no common version"},
	{"version-9", 502, breach, "does not speak", "protocol", ""},
	{"long-no", 502, breach, "does not speak", "protocol", ""},
	{"exit", 502, crashed, "exit status 3", "crash", "before it spoke the facet wire"},
	{"close", 502, crashed, "before it spoke the facet wire", "crash", ""},
	{"print-exit", 502, crashed, "exit status 1: license expired", "crash", "license expired"},
	{"exit-inside", 502, crashed, "exit status 4", "crash", "exit status 4"},

	{"garbage-mux", 502, breach, "frame of version 255", "protocol", "frame of version 255"},
	{"odd-stream", 200, "", "", "protocol", "opened stream 7"},
	{"syn-flood", 200, "", "", "protocol", "more than 32 streams"},
	{"ping-flood", 200, "", "", "protocol", "more than 64 pings"},
	{"big-frame", 200, "", "", "protocol", "data frame of 16777216 bytes"},
	{"close-later", 200, "", "", "protocol", "closed its wire"},

	{"first-junk", 502, breach, "type 77 before READY", "protocol", "type 77"},
	{"control-junk", 200, "", "", "protocol", "type 77"},
	{"control-huge", 200, "", "", "protocol", "over its limit"},
	{"control-close", 200, "", "", "protocol", "closed its control stream"},
	{"failed-lie", 502, breach, "unreadable control frame", "protocol", ""},

	{"two-logs", 200, "", "", "protocol", "second log stream"},
	{"call", 200, "", "", "", ""}, // a call whose head never comes
	{"bad-kind", 200, "", "", "protocol", "0x41"},
	{"log-junk", 200, "", "", "protocol", "unreadable log record"},
	{"log-huge", 200, "", "", "protocol", "over its limit"},
	{"log-flood", 200, "", "", "", ""},

	{"endless-head", 502, breach, "head of more than 65536 bytes", "protocol", ""},
	{"endless-line", 502, breach, "head of more than 65536 bytes", "protocol", ""},
	{"informal", 502, breach, "more than 8 informational answers", "protocol", ""},
	{"no-http", 502, breach, "HTTP", "protocol", ""},
	{"status-099", 502, breach, "status 99", "protocol", ""},
	{"wrong-switch", 502, breach, "chess", "protocol", ""},
	{"unasked", 200, "", "", "protocol", "window"},
	{"reset", 502, crashed, "broke off without an answer", "", ""},
	{"mute", 504, timeout, "no answer within 2s", "", ""},

	{"sql-garbage", 200, "", "", "protocol", "malformed SQL channel message"},
	{"sql-long", 200, "", "", "protocol", "malformed SQL channel message"},
	{"sql-close", 200, "", "", "", ""},
	{"sql-flood", 200, "", "", "", ""},

	{"forks", 200, "", "made 0", "", ""},
	{"signal", 200, "", "hit 0", "", ""},
	{"print", 200, "", "said it", "", ""},
	{"babble", 200, "", "", "", ""},
	{"memory", 502, crashed, "ran out of memory: its limit is 64MiB", "memory", ""},
	{"threads", 502, crashed, "failed to create new OS thread", "crash", ""},
	{"stack", 502, crashed, "memory", "memory", ""},
	{"fault", 502, crashed, "nil pointer dereference", "crash", ""},
	{"trip", 502, crashed, "system call", "seccomp", ""},
	{"spin", 504, timeout, "no answer within 2s", "", ""},
}

// slack is how much longer than its own bound an answer may take on a machine that is busy with other tests.
const slack = 5 * time.Second

func TestHostilePeers(t *testing.T) {
	g := hostiles(t)
	near := watch(g, "/good/near/probe/hello", "hello\n")
	silent := make(chan error, 1)
	go func() { silent <- silence(g) }()
	for _, e := range endings {
		t.Run(e.mode, func(t *testing.T) {
			g.T = t
			address := "bad/" + e.mode + "/hostile"
			for range 2 { // what the first instance did must not spoil the second
				a, err := g.Try("GET", "/"+address+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				e.check(t, a)
				if e.reason == "" {
					break
				}
				var d rig.Detail
				rig.Eventually(t, slack, "the instance ends", func() bool {
					d = g.Inspect(address)
					return d.State != "running" && d.LastExit != nil
				})
				if d.LastExit.Reason != e.reason || !strings.Contains(d.LastExit.Detail, e.detail) {
					t.Errorf("last_exit says %+v, wanted %s %q", *d.LastExit, e.reason, e.detail)
				}
			}
			if e.reason == "" {
				if d := g.Inspect(address); d.State != "running" {
					t.Errorf("the facet is %s: %+v", d.State, d.LastExit)
				}
				g.Must("facets", "abort", address)
			}
		})
	}
	g.T = t
	if err := <-silent; err != nil {
		t.Error(err)
	}
	near.check(t, 2*time.Second)
	checkBounds(t, g)
}

func (e *ending) check(t *testing.T, a *rig.Answer) {
	t.Helper()
	p := a.Problem()
	if e.status == 200 && e.reason == "protocol" && a.Status == 502 && p.Code == breach {
		return // its breach arrived together with its answer
	}
	text := p.Message
	if e.status == 200 {
		text = string(a.Body)
	}
	if a.Status != e.status || p.Code != e.code || !strings.Contains(text, e.says) {
		t.Errorf("answered %d %.300s, wanted %d %s %q", a.Status, a.Body, e.status, e.code, e.says)
	}
	if limit := 2*time.Second + slack; a.Took > limit {
		t.Errorf("the answer took %s, more than %s", a.Took, limit)
	}
}

// silence asks a peer that says nothing at all: the gateway gives it ten seconds.
func silence(g *rig.Gateway) error {
	a, err := g.Try("GET", "/bad/silent/hostile/", nil)
	if err != nil {
		return err
	}
	if p := a.Problem(); a.Status != 502 || p.Code != breach || !strings.Contains(p.Message, "said nothing") || a.Took > 15*time.Second {
		return fmt.Errorf("a silent peer: %d %s in %s", a.Status, a.Body, a.Took)
	}
	return nil
}

// maxGateway is the most memory that the gateway process may have held after all that:
// ten times what it takes with a few idle facets.
const maxGateway = 256 << 20

func checkBounds(t *testing.T, g *rig.Gateway) {
	t.Helper()
	if peak := g.PeakRSS(); peak > maxGateway {
		t.Errorf("the gateway held %d MB", peak>>20)
	}
	var logs int64
	filepath.WalkDir(filepath.Join(g.Data, "logs"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			logs += info.Size()
		}
		return nil
	})
	if logs > 64<<20 {
		t.Errorf("the logs take %d MB", logs>>20)
	}
	t.Logf("the gateway's peak: %d MB; logs: %d KB", g.PeakRSS()>>20, logs>>10)
}

// What is in a peer's mouth when its answer is complete is no answer to the next request.
func TestAnswersAreNotMixedUp(t *testing.T) {
	g := hostiles(t)
	for range 5 {
		if got := g.Text("GET", "/bad/split-answer/hostile/", ""); got != "ok" {
			t.Fatalf("the answer is %q", got)
		}
	}
	if a, err := g.Try("GET", "/bad/cut/hostile/", nil); err == nil {
		t.Errorf("an answer that broke off looks whole: %d %q", a.Status, a.Body)
	}
	if a, err := g.Try("GET", "/bad/exit-answering/hostile/", nil); err == nil {
		t.Errorf("an answer that broke off looks whole: %d %q", a.Status, a.Body)
	}
}

// A peer that takes no streams is of no use, and must not stay.
func TestPeerThatTakesNoStreams(t *testing.T) {
	g := hostiles(t)
	// The first stream was opened before it said so. A longer body's is used for nothing else after it.
	if a := g.Do("POST", "/bad/go-away/hostile/", rig.Zeros(100<<10)); a.Status != 200 {
		t.Errorf("answered %d %s", a.Status, a.Body)
	}
	p := g.Refused(502, breach, "GET", "/bad/go-away/hostile/", nil)
	if d := g.Inspect("bad/go-away/hostile"); !strings.Contains(p.Message, "takes no more streams") || d.State == "running" || d.LastExit == nil || d.LastExit.Reason != "protocol" {
		t.Errorf("told %q; %s, %+v", p.Message, d.State, d.LastExit)
	}
}

// However much is sent to peers that do not take it, their callers are told in time.
func TestPeersThatTakeNothing(t *testing.T) {
	rig.NeedRoot(t)
	t.Parallel() // it waits for most of the time
	g := hostiles(t)
	near := watch(g, "/good/near/probe/hello", "hello\n")
	for _, test := range []struct {
		mode   string
		size   int64
		code   string
		within time.Duration
	}{
		{"mute", 60 << 10, timeout, 2 * time.Second},
		{"mute", 50 << 20, timeout, 2 * time.Second},
		{"never-credits", 60 << 10, timeout, 2 * time.Second},
		{"never-reads", 50 << 20, timeout, 2 * time.Second},
		{"never-reads", 60 << 10, timeout, 2 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s %d", test.mode, test.size), func(t *testing.T) {
			g.T = t
			for range 8 {
				conn := g.Dial(fmt.Sprintf("POST /bad/%s/hostile/ HTTP/1.1\nHost: localhost\nContent-Length: %d\n\n", test.mode, test.size))
				conn.SetDeadline(time.Now().Add(test.within + slack))
				go io.Copy(conn, rig.Zeros(test.size)) // until the gateway closes the connection
				resp, body := conn.Whole("POST")
				conn.Close()
				if resp.StatusCode == 200 { // as long as the stream's window lasts
					continue
				}
				a := rig.Answer{Status: resp.StatusCode, Body: body}
				if a.Problem().Code != test.code {
					t.Errorf("answered %d %s, wanted %s", a.Status, a.Body, test.code)
				}
				return
			}
			t.Error("it never fails")
		})
	}
	g.T = t
	// A peer that does not even read its socket is given up after 30 s (wire, SPEC §9).
	rig.Eventually(t, 2*time.Minute, "the peer that reads nothing ends", func() bool {
		d := g.Inspect("bad/never-reads/hostile")
		return d.LastExit != nil && d.LastExit.Reason == "protocol" && strings.Contains(d.LastExit.Detail, "reads nothing")
	})
	near.check(t, 2*time.Second)
	checkBounds(t, g)
}

// Peers that open streams, fill them and close none: what that can make the gateway hold is counted until it is over, and nobody
// else waits for it.
func TestHoarders(t *testing.T) {
	g := hostiles(t)
	near := watch(g, "/good/near/probe/hello", "hello\n")
	const hoarders, streams, own = 8, 32, 4 // own: those that each may open whatever the others do
	for i := range hoarders {
		if got := g.Text("GET", fmt.Sprintf("/bad/hoard.%d/hostile/", i), ""); got != "hello" {
			t.Errorf("hoarder %d answers %q", i, got)
		}
	}
	rig.Eventually(t, rawWait, "their streams are counted", func() bool { return g.Metric("fgw_calls_open") == hoarders*(streams-own) })
	for i := range hoarders {
		if d := g.Inspect(fmt.Sprintf("bad/hoard.%d/hostile", i)); d.State != "running" {
			t.Errorf("hoarder %d is %s: %+v", i, d.State, d.LastExit)
		}
		g.Must("facets", "abort", fmt.Sprintf("bad/hoard.%d/hostile", i))
	}
	rig.Eventually(t, rawWait, "they count no more", func() bool { return g.Metric("fgw_calls_open") == 0 })
	near.check(t, 2*time.Second)
	checkBounds(t, g)
}

// Everything at once, while a neighbour works.
func TestNeighbourOfAStorm(t *testing.T) {
	g := hostiles(t)
	quiet := watch(g, "/good/near/probe/incr", "")
	rig.Eventually(t, 30*time.Second, "the quiet neighbour is measured", func() bool { return quiet.count() >= 100 })
	quiet.check(t, 2*time.Second)

	stormy := watch(g, "/good/near/probe/incr", "")
	var wg sync.WaitGroup
	for _, mode := range []string{"spin", "print", "babble", "sql-flood", "log-flood", "forks", "memory", "threads", "stack", "syn-flood", "ping-flood", "informal", "mute"} {
		wg.Go(func() {
			for range 3 {
				if a, err := g.Try("GET", "/bad/"+mode+"/hostile/", nil); err == nil && a.Took > 10*time.Second {
					t.Errorf("%s: answered after %s: %d %s", mode, a.Took, a.Status, a.Body)
				}
			}
		})
	}
	wg.Wait()
	rig.Eventually(t, 30*time.Second, "the neighbour goes on", func() bool { return stormy.count() >= 100 })
	stormy.check(t, 3*time.Second)
	t.Logf("a durable increment of the neighbour's, median and 99th percentile: quiet %s %s, in the storm %s %s",
		quiet.percentile(50), quiet.percentile(99), stormy.percentile(50), stormy.percentile(99))
	for _, a := range []string{"spin", "babble", "sql-flood"} {
		g.Must("facets", "abort", "bad/"+a+"/hostile")
	}
	checkBounds(t, g)
}

// neighbour asks a facet again and again, and remembers how that went.
type neighbour struct {
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	took  []time.Duration
	wrong []string
}

// watch asks until check is called. want is the body, "" for any.
func watch(g *rig.Gateway, path, want string) *neighbour {
	n := &neighbour{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			a, err := g.Try("GET", path, nil)
			n.mu.Lock()
			switch {
			case err != nil:
				n.wrong = append(n.wrong, err.Error())
			case a.Status != 200 || want != "" && string(a.Body) != want:
				n.wrong = append(n.wrong, fmt.Sprintf("%d %.200s", a.Status, a.Body))
			default:
				n.took = append(n.took, a.Took)
			}
			n.mu.Unlock()
			select {
			case <-tick.C:
			case <-n.stop:
				return
			}
		}
	}()
	return n
}

func (n *neighbour) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.took)
}

func (n *neighbour) percentile(p int) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.took) == 0 {
		return 0
	}
	slices.Sort(n.took)
	return n.took[(len(n.took)-1)*p/100]
}

// check ends the watch; nothing may have gone wrong, nor taken longer than worst.
func (n *neighbour) check(t *testing.T, worst time.Duration) {
	t.Helper()
	close(n.stop)
	<-n.done
	if len(n.wrong) > 0 {
		t.Errorf("the neighbour had %d bad answers of %d, such as %s", len(n.wrong), len(n.wrong)+len(n.took), n.wrong[0])
	}
	if max := n.percentile(100); max > worst || len(n.took) == 0 {
		t.Errorf("the neighbour waited up to %s, in %d requests", max, len(n.took))
	}
}
