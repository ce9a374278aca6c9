package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// writer enters numbered entries into one object's ledger and remembers, outside, which
// of them were acknowledged.
type writer struct {
	object string

	mu   sync.Mutex
	sent int
	ack  map[string]bool
}

func (w *writer) acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ack)
}

// run writes until stop is closed. A write whose answer was lost may have happened or not, and is not repeated.
func (w *writer) run(address func() string, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		w.mu.Lock()
		w.sent++
		entry := fmt.Sprintf("%s-%d", w.object, w.sent)
		w.mu.Unlock()
		a, err := rig.Post("http://"+address()+"/t/"+w.object+"/probe/ledger", entry)
		if err == nil && a.Status == 200 && string(a.Body) == "entered\n" {
			w.mu.Lock()
			w.ack[entry] = true
			w.mu.Unlock()
			continue
		}
		time.Sleep(10 * time.Millisecond) // the gateway is being killed, or not there: no use in asking faster
	}
}

// check reads the ledger inside: whatever was acknowledged is there, once; nothing else than what was sent is.
func (w *writer) check(t *testing.T, g *rig.Gateway) {
	t.Helper()
	var entries []string
	rig.Eventually(t, 30*time.Second, w.object+" answers", func() bool { return g.Do("GET", "/t/"+w.object+"/probe/hello", nil).Status == 200 })
	g.Get("/t/"+w.object+"/probe/ledger", &entries)
	if sorted := slices.Sorted(slices.Values(entries)); len(slices.Compact(sorted)) != len(entries) {
		t.Errorf("%s: an entry is there twice", w.object)
	}
	inside := map[string]bool{}
	for _, e := range entries {
		inside[e] = true
	}
	lost := 0
	for e := range w.ack {
		if !inside[e] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%s: %d acknowledged entries of %d are lost", w.object, lost, len(w.ack))
	}
	if len(entries) > w.sent {
		t.Errorf("%s: %d entries, of which only %d were sent", w.object, len(entries), w.sent)
	}
	if got := g.Text("GET", "/t/"+w.object+"/probe/check", ""); got != "ok" {
		t.Errorf("%s: its database: %s", w.object, got)
	}
}

// Whichever process is killed at whatever moment, no acknowledged write is lost and nothing is left behind.
func TestKilledUnderLoad(t *testing.T) {
	g := probes(t)
	var mu sync.Mutex
	address := g.Addr
	at := func() string { mu.Lock(); defer mu.Unlock(); return address }

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var writers []*writer
	for i := range 8 {
		w := &writer{object: fmt.Sprint("o", i), ack: map[string]bool{}}
		writers = append(writers, w)
		wg.Go(func() { w.run(at, stop) })
	}
	total := func() (n int) {
		for _, w := range writers {
			n += w.acknowledged()
		}
		return n
	}
	const rounds = 25
	for round := range rounds {
		before := total()
		// Crash loops rest for a while (that is theirs to prove elsewhere); some writers always go on.
		rig.Eventually(t, 30*time.Second, fmt.Sprintf("round %d: writes are acknowledged", round), func() bool { return total() > before+20 })
		g.Remember()
		victim := []string{"fgw-gateway", "fgw-sqld", "sandboxd", "fgw-launcher", "facet"}[round%5]
		pid := find(g, victim)
		if pid == 0 {
			t.Fatalf("round %d: there is no %s", round, victim)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("round %d: kill %s: %v", round, victim, err)
		}
		if victim == "fgw-sqld" || victim == "facet" {
			continue // the gateway mends that itself
		}
		if !g.Ended(20 * time.Second) {
			t.Fatalf("round %d: the gateway outlives its %s", round, victim)
		}
		g.Start()
		mu.Lock()
		address = g.Addr
		mu.Unlock()
		// What the killed one left is gone once the next one serves.
		own := rig.Descendants(g.PID())
		for _, p := range rig.Orphans() {
			if p.PID != g.PID() && !slices.Contains(own, p) {
				t.Errorf("round %d: process %d (%s) outlived its gateway", round, p.PID, p.Name)
			}
		}
		if m := rig.Mounts(); len(m) > 0 {
			t.Errorf("round %d: mounts %s", round, strings.Join(m, "; "))
		}
	}
	close(stop)
	wg.Wait()
	for _, w := range writers {
		w.check(t, g)
	}
	t.Logf("%d rounds, %d acknowledged writes", rounds, total())
	g.Stop()
	if c := rig.Cgroups(); len(c) > 0 {
		t.Errorf("cgroups are left: %v", c)
	}
}

// find gives the id of a process of the gateway's, 0 where there is none of that kind.
func find(g *rig.Gateway, kind string) int {
	switch kind {
	case "sandboxd":
		return g.PID()
	case "facet":
		var facets []struct{ PID int }
		g.JSON(&facets, "facets", "ls", "t")
		for _, f := range facets {
			if f.PID != 0 {
				return f.PID
			}
		}
		return 0
	}
	for _, p := range g.Named(kind) {
		return p.PID
	}
	return 0
}
