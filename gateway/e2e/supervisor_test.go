package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// Durable Object facets: each child has a counter of its own, at whatever depth, and a start function runs only
// when nothing does.
func TestFacetCounters(t *testing.T) {
	s := staged(t)
	s.plan("foo", plan{"children": true})
	s.expect("foo", "/count", "0", "1", "2")
	s.expect("bar", "/count", "0")
	s.Text("PUT", s.path("on", "foo", "/~plan/bar"), `{}`)
	s.expect("foo", "/~on/bar/count", "0", "1")
	s.expect("foo", "/count", "3", "4")
	if foo, bar := s.starts("foo"), s.starts("bar"); foo != 1 || bar != 1 {
		t.Errorf("start functions ran %d and %d times", foo, bar)
	}
}

// The numbers of the databases are given once: 1 2 5 6, whatever was deleted between, and kept across restarts in
// which the children come back in another order.
func TestFacetIDsAreStable(t *testing.T) {
	s := staged(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		s.expect(name, "/count", "0")
	}
	s.done("delete", "c", "")
	s.done("delete", "d", "")
	for _, name := range []string{"e", "c"} {
		s.expect(name, "/count", "0")
	}
	if got := s.databases(); got != "0 1 2 5 6" {
		t.Errorf("databases %s", got)
	}
	s.restart()
	for _, name := range []string{"c", "e", "b", "a"} {
		s.expect(name, "/count", "1")
	}
	if got := s.databases(); got != "0 1 2 5 6" {
		t.Errorf("databases after a restart %s", got)
	}
}

// What lies on the disk: for each facet one database, named by its number, with its log, and one description of the
// object; no file is called as a facet is, and none is left of what was deleted.
func TestFacetFilesOnDisk(t *testing.T) {
	s := staged(t)
	for _, name := range []string{"../../etc/passwd", "a/b", "gone"} {
		s.expect(name, "/count", "0")
	}
	s.done("delete", "gone", "")
	s.Stop()
	if got := strings.Join(s.files(), " "); got != "0.db 0.db-wal 1.db 1.db-wal 2.db 2.db-wal object.jsonl" {
		t.Errorf("files: %s", got)
	}
	s.Start()
	s.expect("a/b", "/count", "1")
}

// abort, then other code: it reads the old data. A running instance keeps what it was started with.
func TestAbortAndOtherCode(t *testing.T) {
	s := staged(t)
	s.expect("foo", "/count", "0", "1")
	first := s.who("foo")
	s.plan("foo", plan{"app": "other"})
	if again := s.who("foo"); again.Born != first.Born || again.Edition != "" {
		t.Errorf("new code took over without an abort: %+v", again)
	}
	s.done("abort", "foo", "?reason=update")
	s.expect("foo", "/count", "2")
	if second := s.who("foo"); second.Edition != "other" || second.Born == first.Born {
		t.Errorf("after the abort runs %+v", second)
	}
	s.expect("foo", "/mem", "0")
}

// A call in flight is told the reason; the same stub used again starts the next instance.
func TestOldStubIsToldTheReason(t *testing.T) {
	s := staged(t)
	s.who("foo")
	got := make(chan *rig.Answer, 1)
	go func() { a, _ := s.Try("GET", s.path("held", "foo", ""), nil); got <- a }()
	rig.Eventually(t, 10*time.Second, "the call runs", func() bool { return requests(s.Gateway, s.address("foo")) == 2 })
	s.done("abort", "foo", "?reason=out+of+ink")
	var said [2]any
	if err := json.Unmarshal((<-got).Body, &said); err != nil {
		t.Fatal(err)
	}
	if f, _ := said[0].(map[string]any); f["Code"] != "facet_aborted" || f["Message"] != "out of ink" {
		t.Errorf("the call was told %v", said[0])
	}
	if next, _ := said[1].(string); !strings.Contains(next, `"name":"foo"`) {
		t.Errorf("the next call of the stub gave %v", said[1])
	}
}

// delete takes the descendants along, and a name used again meets nothing old.
func TestDeleteIsRecursive(t *testing.T) {
	s := staged(t)
	s.plan("foo", plan{"children": true})
	s.expect("foo", "/count", "0", "1")
	s.expect("foo", "/~on/bar/count", "0", "1")
	if got := s.databases(); got != "0 1 2" {
		t.Errorf("databases %s", got)
	}
	s.done("delete", "foo", "")
	if got := s.files(); strings.Contains(strings.Join(got, " "), "1.db") || strings.Contains(strings.Join(got, " "), "2.db") {
		t.Errorf("files %s", got)
	}
	s.expect("foo", "/count", "0")
	s.expect("foo", "/~on/bar/count", "0")
	s.done("delete", "never was", "")
	s.done("delete", "foo", "")
	s.done("delete", "foo", "")
}

// The same code with other props, env, secrets and id is another child; none of it is shared.
func TestPropsOfEachChild(t *testing.T) {
	s := staged(t)
	s.plan("a", plan{"props": map[string]any{"owner": "alice"}, "env": map[string]string{"COLOUR": "red"}, "secrets": map[string]string{"KEY": "hunter2"}, "id": "of my own"})
	s.plan("b", plan{"props": []int{1, 2}})
	a, b := s.who("a"), s.who("b")
	if fmt.Sprint(a.Props) != "map[owner:alice]" || a.Colour != "red" || a.Key != "hunter2" || a.ID != "of my own" || a.Name != "a" || a.Object != "studio" {
		t.Errorf("a: %+v", a)
	}
	if fmt.Sprint(b.Props) != "[1 2]" || b.Colour != "" || b.Key != "" || b.ID == "" || b.ID == a.ID {
		t.Errorf("b: %+v", b)
	}
	for _, where := range []string{s.Must("facets", "inspect", s.address("a")), s.Must("logs", s.address("a")), s.Log()} {
		if strings.Contains(where, "hunter2") {
			t.Errorf("the secret stands in %s", where)
		}
	}
}

// A secret that a child prints, logs, queries or dies with stands in no log, listing or error, whoever asks.
func TestSecretsAreHidden(t *testing.T) {
	s := staged(t)
	const key = "hunter2"
	s.plan("a", plan{"secrets": plan{"KEY": key}})
	s.expect("a", "/count", "0")
	s.Must("audit", s.address("a"), "on")
	s.on("a", "/leak")
	logged := func(texts ...string) func() bool {
		return func() bool {
			log := s.Must("logs", s.address("a"))
			return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(log, text) })
		}
	}
	rig.Eventually(t, rawWait, "all that it says is logged", logged("printed ", "logged ", "SELECT "))
	died := s.Do("GET", s.path("on", "a", "/leak?die"), nil)
	s.plan("b", plan{"secrets": plan{"KEY": key}, "env": plan{"BEHAVE": "leak"}})
	failed := s.Do("GET", s.path("on", "b", "/count"), nil)
	rig.Eventually(t, rawWait, "its death is logged", logged("died of "))
	log := s.Must("logs", s.address("a"))
	for where, text := range map[string]string{
		"the answer of one that died": string(died.Body), "the answer of one that did not start": string(failed.Body), "the log": log, "the log of the other": s.Must("logs", s.address("b")),
		"its inspection": s.Must("facets", "inspect", s.address("a"), "--output", "json"), "that of the other": s.Must("facets", "inspect", s.address("b")),
		"the listing": s.Must("facets", "ls", "--output", "json"), "the gateway's log": s.Log(),
	} {
		if strings.Contains(text, key) {
			t.Errorf("%s has the secret: %s", where, text)
		}
	}
	for where, text := range map[string]string{"died": string(died.Body), "failed": string(failed.Body), "log": log} {
		if !strings.Contains(text, "[secret KEY]") {
			t.Errorf("%s: what was said is not there, with the secret's name: %s", where, text)
		}
	}
}

// Names of 256 bytes are fine on all verbs, and 257 are refused, as are none and a NUL.
func TestFacetNameLimits(t *testing.T) {
	s := staged(t)
	long := strings.Repeat("n", 256)
	s.expect(long, "/count", "0")
	for _, verb := range []string{"abort", "usage", "delete"} {
		s.done(verb, long, "")
	}
	s.done("clone", long, "?to="+strings.Repeat("m", 256))
	for _, bad := range []string{long + "n", "", "a\x00b"} {
		says := map[int]string{257: "256", 0: "empty", 3: "NUL"}[len(bad)]
		for _, verb := range []string{"abort", "usage", "delete", "clone"} {
			query := map[bool]string{true: "?to=x"}[verb == "clone"]
			if f := s.order(verb, bad, query); f == nil || f.Code != "bad_name" || !strings.Contains(f.Message, says) {
				t.Errorf("%s of %d bytes: %+v", verb, len(bad), f)
			}
		}
		for _, verb := range []string{"on", "loud"} {
			a := s.Do("GET", s.path(verb, bad, "/who"), nil)
			if a.Status < 400 || !strings.Contains(string(a.Body), "bad_name") || !strings.Contains(string(a.Body), says) {
				t.Errorf("%s of %d bytes: %d %s", verb, len(bad), a.Status, a.Body)
			}
		}
	}
	if f := s.order("clone", "x", "?to="+long+"n"); f == nil || f.Code != "bad_name" {
		t.Errorf("clone to 257 bytes: %+v", f)
	}
	for _, odd := range []string{"..", ".", "/", "a/b", "../x", "ß\xff", " ", "%2e"} {
		s.expect(odd, "/count", "0")
		if k := s.who(odd); len(k.Name) == 0 {
			t.Errorf("%q is called %q", odd, k.Name)
		}
	}
}

// A tree is four deep with its root; the fifth is told why not. Without the right there are no children at all.
func TestFacetDepth(t *testing.T) {
	s := staged(t)
	s.plan("a", plan{"children": true})
	s.Text("PUT", s.path("on", "a", "/~plan/b"), `{"children": true}`)
	s.Text("PUT", s.path("on", "a", "/~on/b/~plan/c"), `{"children": true}`)
	s.expect("a", "/~on/b/~on/c/count", "0", "1")
	a := s.Do("GET", s.path("on", "a", "/~on/b/~on/c/~on/d/count"), nil)
	if p := a.Problem(); a.Status != 400 || p.Code != "depth_limit" || !strings.Contains(p.Message, "depth 5") || !strings.Contains(p.Message, "at most 4 deep") {
		t.Errorf("depth 5: %d %s", a.Status, a.Body)
	}
	for _, verb := range []string{"abort", "delete", "usage"} {
		f := faultIn(t, s.Do("POST", s.path("on", "a", "/~on/b/~on/c/~"+verb+"/d"), nil))
		if f == nil || f.Code != "depth_limit" {
			t.Errorf("%s at depth 5: %+v", verb, f)
		}
	}
	s.expect("leaf", "/count", "0")
	if a := s.Do("GET", s.path("on", "leaf", "/~on/x/who"), nil); a.Status != 403 || !strings.Contains(string(a.Body), "Start.Children") {
		t.Errorf("a child without the right: %d %s", a.Status, a.Body)
	}
}

// A facet can ask what it may use: a child what it was given, and for the rest, like the director, what the namespace has.
func TestLimitsAreTold(t *testing.T) {
	s := staged(t)
	s.Must("namespaces", "set", "t", "cpu=0.5", "statement_timeout=1s")
	s.plan("a", plan{"memory": 64 << 20, "requestms": 1500, "rows": 7})
	var own, kid struct {
		Memory, Storage, Rows      int64
		CPU                        float64
		Processes, InFlight        int
		StatementTime, RequestTime time.Duration
	}
	s.Get("/t/studio/limits", &own)
	if own.Memory != 1<<30 || own.Storage != 1<<30 || own.Rows != 0 || own.CPU != 0.5 || own.Processes != 512 || own.InFlight != 64 ||
		own.StatementTime != time.Second || own.RequestTime != time.Minute {
		t.Errorf("the director has %+v", own)
	}
	s.Get(s.path("on", "a", "/limits"), &kid)
	own.Memory, own.RequestTime, own.Rows, own.Processes = 64<<20, 1500*time.Millisecond, 7, 64
	if kid != own {
		t.Errorf("the child has %+v, not %+v", kid, own)
	}
}

// Errors of a running child reach the caller with message and stack, by both ways; the director lives on.
func TestErrorsExplain(t *testing.T) {
	s := staged(t)
	for _, test := range []struct{ name, path, code, says string }{
		{"a", "/panic", "facet_crashed", "panic: a goroutine of its own"},
		{"b", "/exit", "facet_crashed", "exit status 7: so long"},
		{"c", "/eat", "facet_crashed", "ran out of memory: its limit is 64MiB"},
		{"d", "/spin", "facet_timeout", "no answer within 1.5s, the limit that its supervisor set"},
		{"e", "/wait?door=never", "facet_timeout", "no answer within 1.5s, the limit that its supervisor set"},
	} {
		s.plan(test.name, plan{"memory": 64 << 20, "requestms": 1500})
		s.expect(test.name, "/count", "0")
		if p := s.Do("GET", s.path("on", test.name, test.path), nil).Problem(); p.Code != test.code || !strings.Contains(p.Message, test.says) {
			t.Errorf("on %s: %+v", test.path, p)
		}
		f := faultIn(t, s.Do("GET", s.path("loud", test.name, test.path), nil))
		if f == nil || f.Code != test.code || !strings.Contains(f.Message, test.says) {
			t.Errorf("loud %s: %+v", test.path, f)
		}
		if test.path == "/panic" && f != nil && !strings.Contains(f.Stack, "goroutine") {
			t.Errorf("the stack is %q", f.Stack)
		}
		s.done("abort", test.name, "")
		s.expect(test.name, "/count", "1")
	}
	if d := s.Inspect(s.address()); d.Usage.Starts != 1 || d.LastExit != nil {
		t.Errorf("the supervisor: %+v", d)
	}
}

// Facets of the same code share nothing: each has its globals, and so has the director.
func TestGlobalsAreIsolated(t *testing.T) {
	s := staged(t)
	s.expect("a", "/shared", "1", "2", "3")
	s.expect("b", "/shared", "1")
	s.expect("a", "/shared", "4")
	if got := s.Text("GET", "/t/studio/shared", ""); got != "1" {
		t.Errorf("the director's is %s", got)
	}
	if a, b := s.Inspect(s.address("a")), s.Inspect(s.address("b")); a.PID == b.PID || a.PID == 0 {
		t.Errorf("processes %d and %d", a.PID, b.PID)
	}
}

// A supervisor that ends takes its children with it; a child that ends leaves the rest alone.
func TestEndsOfParentsAndChildren(t *testing.T) {
	s := staged(t)
	s.plan("a", plan{"children": true})
	s.expect("a", "/count", "0")
	s.expect("a", "/~on/b/mem", "0", "1")
	s.expect("c", "/mem", "0", "1")
	s.Do("GET", s.path("on", "a", "/exit"), nil)
	s.expect("c", "/mem", "2")
	s.expect("a", "/count", "1")
	s.expect("a", "/~on/b/mem", "0")
	pids := map[string]int{"a": s.Inspect(s.address("a")).PID, "b": s.Inspect(s.address("a", "b")).PID, "c": s.Inspect(s.address("c")).PID}
	family := rig.Descendants(s.PID())
	s.Do("GET", "/t/studio/exit", nil)
	for _, p := range family {
		for name, pid := range pids {
			if p.PID == pid {
				rig.Eventually(t, 10*time.Second, name+" ends with the director", func() bool { return !p.Alive() })
			}
		}
	}
	if d := s.Inspect(s.address("c")); d.LastExit == nil || !strings.Contains(d.LastExit.Detail, "parent_stopped") {
		t.Errorf("c ended %+v", d.LastExit)
	}
	s.expect("c", "/mem", "0")
	s.expect("a", "/count", "2")
}

// An idle tree goes from its leaves up, and comes back with its data and without its memory.
func TestIdleTreeSleepsAndWakes(t *testing.T) {
	s := staged(t)
	s.Must("namespaces", "set", "t", "idle_timeout=300ms")
	s.object = "nap"
	s.plan("a", plan{"children": true})
	s.expect("a", "/~on/b/count", "0", "1")
	s.expect("a", "/mem", "0")
	for _, a := range []string{s.address("a", "b"), s.address("a"), s.address()} {
		rig.Eventually(t, 15*time.Second, a+" sleeps", func() bool { return s.Inspect(a).State == "stopped" })
		if d := s.Inspect(a); d.LastExit == nil || d.LastExit.Reason != "idle" {
			t.Errorf("%s ended %+v", a, d.LastExit)
		}
	}
	s.expect("a", "/mem", "0")
	s.expect("a", "/~on/b/count", "2")
	if n := s.starts("a"); n != 1 {
		t.Errorf("the start function ran %d times after the wake", n)
	}
}

// list and usage tell what the children are and what they used, and the limits of the namespace bound them.
func TestListAndUsage(t *testing.T) {
	s := staged(t)
	s.expect("a", "/count", "0", "1", "2")
	s.expect("b", "/count", "0")
	s.done("abort", "b", "")
	var list []struct {
		Name, State  string
		StorageBytes int64 `json:"storage_bytes"`
		Requests     int64
	}
	s.Get(s.path("list", "", ""), &list)
	if len(list) != 2 || list[0].Name != "a" || list[0].State != "running" || list[0].Requests != 3 || list[0].StorageBytes < 4096 || list[1].State != "stopped" {
		t.Errorf("list %+v", list)
	}
	var u struct {
		Requests, Errors, Starts int64
		RowsRead                 int64   `json:"rows_read"`
		RowsWritten              int64   `json:"rows_written"`
		StorageBytes             int64   `json:"storage_bytes"`
		CPUSeconds               float64 `json:"cpu_seconds"`
		MemoryPeakBytes          int64   `json:"memory_peak_bytes"`
	}
	s.Get(s.path("usage", "a", ""), &u)
	if u.Requests != 3 || u.Starts != 1 || u.Errors != 0 || u.RowsWritten < 3 || u.RowsRead < 3 || u.StorageBytes < 4096 || u.CPUSeconds <= 0 || u.MemoryPeakBytes < 1<<20 {
		t.Errorf("usage %+v", u)
	}
	if f := s.order("usage", "nobody", ""); f == nil || f.Code != "facet_not_found" {
		t.Errorf("usage of nobody: %+v", f)
	}
}
