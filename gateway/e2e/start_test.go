package e2e_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// An abort while the start function still thinks ends the start; who waits is told the reason, and the next
// request starts anew.
func TestAbortDuringPendingStart(t *testing.T) {
	s := staged(t)
	s.plan("foo", plan{"door": "thought"})
	got := make(chan *rig.Answer, 1)
	go func() { a, _ := s.Try("GET", s.path("on", "foo", "/count"), nil); got <- a }()
	rig.Eventually(t, 10*time.Second, "the start function runs", func() bool { return s.starts("foo") == 1 })
	s.done("abort", "foo", "?reason=changed+my+mind")
	if a := <-got; a.Status != 502 || a.Problem().Code != "facet_aborted" || a.Problem().Message != "changed my mind" {
		t.Errorf("who waited is told %d %s", a.Status, a.Body)
	}
	s.plan("foo", plan{})
	s.expect("foo", "/count", "0")
	if n := s.starts("foo"); n != 2 {
		t.Errorf("the start function ran %d times", n)
	}
}

// Simultaneous requests to a child that has not started: one start function, one instance, one database.
func TestSimultaneousFirstRequests(t *testing.T) {
	s := staged(t)
	s.plan("foo", plan{"door": "all here"})
	const many = 40
	got := make(chan string, many)
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			a, err := s.Try("GET", s.path("on", "foo", "/mem"), nil)
			if err != nil {
				got <- err.Error()
				return
			}
			got <- fmt.Sprint(a.Status, " ", string(a.Body))
		})
	}
	rig.Eventually(t, 20*time.Second, "all wait", func() bool { return requests(s.Gateway, s.address()) >= many })
	s.Text("POST", s.path("open", "all here", ""), "")
	wg.Wait()
	close(got)
	seen := map[string]bool{}
	for v := range got {
		seen[v] = true
	}
	for i := range many {
		if !seen[fmt.Sprint("200 ", i)] {
			t.Errorf("nobody got %d: %v", i, seen)
			break
		}
	}
	if d := s.Inspect(s.address("foo")); d.Usage.Starts != 1 || s.starts("foo") != 1 {
		t.Errorf("%d instances, %d start functions", d.Usage.Starts, s.starts("foo"))
	}
}

// The client whose request brought the start function leaves: the others that wait are served all the same.
func TestFirstClientLeavesDuringStart(t *testing.T) {
	s := staged(t)
	s.plan("foo", plan{"door": "thought"})
	first := s.Dial("GET " + s.path("on", "foo", "/count") + " HTTP/1.1\nHost: localhost\n\n")
	rig.Eventually(t, rawWait, "the start function runs", func() bool { return s.starts("foo") == 1 })
	before := requests(s.Gateway, s.address())
	got := make(chan *rig.Answer, 1)
	go func() { a, _ := s.Try("GET", s.path("on", "foo", "/count"), nil); got <- a }()
	rig.Eventually(t, rawWait, "the second waits", func() bool { return requests(s.Gateway, s.address()) > before })
	first.Close()
	rig.Eventually(t, rawWait, "the second is served", func() bool {
		if s.starts("foo") <= 2 {
			s.Try("POST", s.path("open", "thought", ""), nil)
		}
		return len(got) == 1
	})
	if a := <-got; a.Status != 200 || strings.TrimSpace(string(a.Body)) != "0" {
		t.Errorf("the second got %d %s", a.Status, a.Body)
	}
	if d := s.Inspect(s.address()); d.Usage.Starts != 1 {
		t.Errorf("the supervisor: %+v", d)
	}
}

// A supervisor that ends while it is asked how a child starts: who waits is told of the supervisor's end, and the next
// request finds both well.
func TestSupervisorEndsDuringStart(t *testing.T) {
	s := staged(t)
	s.plan("foo", plan{"door": "never"})
	got := make(chan *rig.Answer, 1)
	go func() { a, _ := s.Try("GET", s.path("on", "foo", "/count"), nil); got <- a }()
	rig.Eventually(t, rawWait, "the start function runs", func() bool { return s.starts("foo") == 1 })
	s.Refused(502, "facet_crashed", "GET", "/t/studio/exit", nil)
	if a := <-got; a.Status != 502 || a.Problem().Code != "facet_crashed" || !strings.Contains(a.Problem().Message, "exit status 7: so long") {
		t.Errorf("who waited is told %d %s", a.Status, a.Body)
	}
	s.plan("foo", plan{})
	s.expect("foo", "/count", "0")
}

// A start that fails is tried again by the next request, which gets the code of that moment.
func TestFailedStartIsRetried(t *testing.T) {
	s := staged(t)
	for _, test := range []struct {
		name string
		plan plan
		code string
		says string
	}{
		{"function fails", plan{"fail": "the owner has not paid"}, "facet_start_failed", "the owner has not paid"},
		{"function panics", plan{"panic": "lost the list"}, "facet_start_failed", "lost the list"},
		{"app fails", plan{"env": plan{"BEHAVE": "fail"}}, "facet_start_failed", "the theatre is closed"},
		{"app panics", plan{"env": plan{"BEHAVE": "panic"}}, "facet_start_failed", "the curtain fell down"},
		{"app exits", plan{"env": plan{"BEHAVE": "exit"}}, "facet_crashed", "exit status 3: no performance today"},
		{"no such app", plan{"app": "nobody"}, "app_not_found", "nobody"},
		{"no such version", plan{"app": "kid", "version": 9}, "app_not_found", "9"},
		{"negative limit", plan{"memory": -1}, "bad_request", "memory"},
		{"memory below a program's need", plan{"memory": 1 << 20}, "bad_request", "16MiB"},
		{"a limit above its own", plan{"memory": 1 << 40}, "limit_above_own", "memory=1TiB is above the supervisor's own, 1GiB"},
		{"a time above its own", plan{"statementms": 3_600_000}, "limit_above_own", "statement_timeout=1h0m0s is above the supervisor's own, 5s"},
		{"cores above its own", plan{"cpu": 64}, "limit_above_own", "cpu=64 is above the supervisor's own, 2"},
		{"bad egress", plan{"hosts": []string{"http://x/"}}, "bad_request", "without scheme"},
		{"not an executable", plan{"exe": true}, "bad_request", "executable"},
		{"too large props", plan{"big": 1 << 20}, "bad_request", "props, env and secrets"},
	} {
		s.plan(test.name, test.plan)
		for _, verb := range []string{"on", "loud"} {
			a := s.Do("GET", s.path(verb, test.name, "/count"), nil)
			var code, message string
			if verb == "on" {
				code, message = a.Problem().Code, a.Problem().Message
			} else if f := faultIn(t, a); f != nil {
				code, message = f.Code, f.Message
			}
			if a.Status < 400 || code != test.code || !strings.Contains(message, test.says) {
				t.Errorf("%s by %s: %d %s %q, wanted %s %q", test.name, verb, a.Status, code, message, test.code, test.says)
			}
		}
		s.plan(test.name, plan{})
		s.expect(test.name, "/count", "0")
	}
	s.expect("sibling", "/count", "0")
	if d := s.Inspect(s.address()); d.Usage.Starts != 1 {
		t.Errorf("the supervisor started %d times", d.Usage.Starts)
	}
}

// What rests after failures in a row starts at once when it was mended and aborted, or deleted, or cloned over.
func TestAbortForgivesFailures(t *testing.T) {
	s := staged(t)
	s.expect("source", "/count", "0")
	for _, verb := range []string{"abort", "delete", "clone"} {
		s.plan(verb, plan{"fail": "the owner has not paid"})
		rig.Eventually(t, 10*time.Second, "it rests", func() bool {
			return s.Do("GET", s.path("on", verb, "/count"), nil).Problem().Code == "facet_backoff"
		})
		s.plan(verb, plan{})
		if verb == "clone" {
			s.done(verb, "source", "?to="+verb)
		} else {
			s.done(verb, verb, "")
		}
		if a := s.Do("GET", s.path("on", verb, "/count"), nil); a.Status != 200 {
			t.Errorf("after %s: %d %s", verb, a.Status, a.Body)
		}
	}
}

// A migration that fails leaves the data as they were; the old code still reads them.
func TestFailedMigrationLeavesTheData(t *testing.T) {
	s := staged(t)
	s.expect("foo", "/count", "0", "1")
	s.plan("foo", plan{"app": "other", "env": plan{"BEHAVE": "spoil"}})
	s.done("abort", "foo", "")
	p := s.Refused(502, "facet_start_failed", "GET", s.path("on", "foo", "/count"), nil)
	if !strings.Contains(p.Message, "a row that it does not know") {
		t.Errorf("told %q", p.Message)
	}
	s.plan("foo", plan{})
	s.expect("foo", "/count", "2")
}
