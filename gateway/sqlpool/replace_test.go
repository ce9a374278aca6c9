package sqlpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

const endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT count(*) FROM c"

// sorting is a statement that spends much of its time in one operation.
const sorting = "SELECT count(*) FROM (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT 1900) SELECT row_number() OVER (ORDER BY zeroblob(100000) || (i*7919%1900)) FROM c)"

// query is the payload of a QUERY without arguments.
func query(sql string) []byte {
	b, _ := sqlchan.AppendArgs(sqlchan.AppendText([]byte{0, 8}, sql), nil)
	return b
}

// running tells whether a statement of the client's database runs.
func running(c *client) bool {
	return c.c.slot.Running[0].Seq.Load()|c.c.slot.Running[1].Seq.Load() != 0
}

// TestKilledUnderLoad kills the worker while eight clients write: what was
// acknowledged is there afterwards, each client learns of the RESET, and all go on.
func TestKilledUnderLoad(t *testing.T) {
	p, s := pool(t, nil)
	const clients, kills = 8, 2 // one whose statement runs at three deaths is taken for their cause
	type result struct{ acknowledged, unknown, resets int64 }
	results := make([]result, clients)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		c := attach(t, p, AttachOptions{Object: fmt.Sprintf("o%d", i)})
		c.exec(1, "CREATE TABLE t (n INTEGER PRIMARY KEY)")
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := &results[i]
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				_, err := c.do(sqlchan.Exec, 1, "INSERT INTO t VALUES (?)", n)
				var gone reset
				switch {
				case err == nil:
					r.acknowledged++
				case errors.As(err, &gone):
					r.resets++
					r.unknown++
				default:
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		}()
	}
	for k := range kills {
		worker := s.last.Load()
		wait := time.Now().Add(150 * time.Millisecond)
		until(t, "some load", func() bool { return time.Now().After(wait) })
		if err := worker.Kill(); err != nil {
			t.Fatal(err)
		}
		<-worker.done
		until(t, "a replacement", func() bool { return s.spawned.Load() == int64(k+2) })
	}
	wait := time.Now().Add(150 * time.Millisecond)
	until(t, "some load", func() bool { return time.Now().After(wait) })
	close(stop)
	wg.Wait()
	for i, r := range results {
		c := attach(t, p, AttachOptions{Object: fmt.Sprintf("o%d", i)})
		n := c.query(1, "SELECT count(*) FROM t")[0].(int64)
		if n < r.acknowledged || n > r.acknowledged+r.unknown {
			t.Errorf("client %d: %d rows, %d acknowledged and %d unknown", i, n, r.acknowledged, r.unknown)
		}
		if r.resets == 0 || r.acknowledged == 0 {
			t.Errorf("client %d: %+v", i, r)
		}
		if v := c.query(1, "PRAGMA integrity_check")[0]; v != "ok" {
			t.Errorf("client %d: %v", i, v)
		}
	}
}

// TestStuckStatement has a worker replaced that does not come back from a
// statement (it is stopped by a signal, since no statement is left that would do
// that to it reliably); the culprit's channel ends, the others go on.
func TestStuckStatement(t *testing.T) {
	p, s := pool(t, nil)
	other := attach(t, p, AttachOptions{Object: "other"})
	other.exec(1, "CREATE TABLE t (a); INSERT INTO t VALUES (1)")
	other.exec(1, "BEGIN")
	culprit := attach(t, p, AttachOptions{Object: "culprit", Limits: Limits{StatementTimeout: 200 * time.Millisecond}})
	began := time.Now()
	req, err := culprit.start(sqlchan.Query, 1, query(endless))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the statement to run", func() bool { return running(culprit) })
	if err := unix.Kill(s.last.Load().PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := culprit.wait(1, req); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Fatalf("the statement came back: %v", err)
	}
	if d := time.Since(began); d < grace || d > slack*3*time.Second {
		t.Errorf("it took %v", d)
	}
	<-culprit.c.Done()
	if err := culprit.c.Err(); !errors.Is(err, ErrStuck) {
		t.Errorf("the channel ended with %v", err)
	}
	until(t, "a replacement", func() bool { return s.spawned.Load() == 2 })
	var gone reset
	if _, err := other.do(sqlchan.Query, 1, "SELECT a FROM t"); !errors.As(err, &gone) {
		t.Errorf("the other client got %v", err)
	}
	if v := other.query(1, "SELECT a FROM t"); v[0] != int64(1) {
		t.Errorf("the other client reads %v", v)
	}
	select {
	case <-other.c.Done():
		t.Errorf("the other channel ended: %v", other.c.Err())
	default:
	}
	again := attach(t, p, AttachOptions{Object: "culprit"})
	again.query(1, "SELECT 1")
}

// A worker that does not let go of a channel, though no statement of it runs, is replaced, so that the channel's place is not taken for ever; not
// before its time, and not while a statement is waited for.
func TestWorkerThatDoesNotLetGo(t *testing.T) {
	p, s := pool(t, nil)
	w := p.workers[0]
	other := attach(t, p, AttachOptions{Object: "other"})
	other.exec(1, "CREATE TABLE t (a)")
	leaving := attach(t, p, AttachOptions{Object: "leaving"})
	leaving.exec(1, "CREATE TABLE t (a)")
	busy := attach(t, p, AttachOptions{Object: "busy", Limits: Limits{StatementTimeout: 10 * time.Minute}})
	if _, err := busy.start(sqlchan.Query, 1, query(endless)); err != nil {
		t.Fatal(err)
	}
	until(t, "the statement to run", func() bool { return running(busy) })
	taken := func(file string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.places[file] != nil
	}
	killed := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.culprit) > 0 || s.spawned.Load() > 1
	}
	stop(t, s.last.Load())
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for _, c := range []*client{leaving, busy} {
		if err := c.c.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a worker that is stopped let go: %v", err)
		}
	}
	w.watch(time.Now().Add(leaveTime - 5*time.Second))
	if killed() || !taken(leaving.c.options.File) {
		t.Fatal("it is given up before its time")
	}
	w.watch(time.Now().Add(leaveTime + time.Second))
	w.mu.Lock()
	if w.culprit[busy.c.id] != nil {
		t.Error("a statement is not given its time")
	}
	w.mu.Unlock()
	until(t, "a replacement", func() bool { return s.spawned.Load() == 2 })
	until(t, "the places", func() bool { return !taken(leaving.c.options.File) && !taken(busy.c.options.File) })
	var gone reset
	if _, err := other.do(sqlchan.Exec, 1, "INSERT INTO t VALUES (1)"); !errors.As(err, &gone) {
		t.Errorf("the other client got %v", err)
	}
	other.exec(1, "INSERT INTO t VALUES (1)")
}

// stop stops a worker, which a signal does some time after it was sent, until the test kills or continues it.
func stop(t testing.TB, p *process) {
	t.Helper()
	t.Cleanup(func() { p.Kill() }) // it may have been reaped
	if err := unix.Kill(p.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the worker to stop", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		return err == nil && bytes.Contains(b, []byte(") T "))
	})
}

// TestStuckStatementOfAClosedChannel has the watchdog replace the worker for a statement whose channel was given up
// before the worker let go of it, and no other database get the slot before that.
func TestStuckStatementOfAClosedChannel(t *testing.T) {
	p, s := pool(t, nil)
	other := attach(t, p, AttachOptions{Object: "other"})
	other.exec(1, "CREATE TABLE t (a)")
	culprit := attach(t, p, AttachOptions{Object: "culprit", Limits: Limits{StatementTimeout: time.Second}})
	if _, err := culprit.start(sqlchan.Query, 1, query(endless)); err != nil {
		t.Fatal(err)
	}
	until(t, "the statement to run", func() bool { return running(culprit) })
	stop(t, s.last.Load())
	culprit.hangUp()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := culprit.c.Close(gone); !errors.Is(err, context.Canceled) {
		t.Fatalf("closed while its statement hangs: %v", err)
	}
	w := culprit.c.w
	held := func(file string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.places[file] != nil
	}
	if !held("culprit/1.db") {
		t.Error("the slot is free while the worker may write to it")
	}
	until(t, "a replacement", func() bool { return s.spawned.Load() == 2 })
	until(t, "the slot to be given back", func() bool { return !held("culprit/1.db") })
	if !culprit.c.Replaced() {
		t.Error("the channel does not tell that its worker died")
	}
	var again reset
	if _, err := other.do(sqlchan.Query, 1, "SELECT a FROM t"); !errors.As(err, &again) {
		t.Errorf("the other client got %v", err)
	}
	other.query(1, "SELECT a FROM t")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.suspects) > 0 {
		t.Error("somebody is suspected, though the watchdog knew the culprit")
	}
}

// TestAttachGivenUp has the worker let go of a channel whose attaching was given up.
func TestAttachGivenUp(t *testing.T) {
	p, s := pool(t, nil)
	attach(t, p, AttachOptions{Object: "other"}).query(1, "SELECT 1") // it serves
	stop(t, s.last.Load())
	pair, err := NewPair()
	if err != nil {
		t.Fatal(err)
	}
	end := pair.FacetEnd()
	defer end.Close()
	gone, cancel := context.WithCancel(t.Context())
	w := p.workers[0]
	w.mu.Lock()
	attached := len(w.channels)
	w.mu.Unlock()
	go func() {
		defer cancel()
		until(t, "the channel to be handed over", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.channels) > attached && len(w.calls) > 0
		})
	}()
	if _, err := p.Attach(gone, AttachOptions{Object: "late", File: "late/1.db", Pair: pair}); !errors.Is(err, context.Canceled) {
		t.Fatalf("attached to a worker that is stopped: %v", err)
	}
	if err := unix.Kill(s.last.Load().PID(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	unix.SetsockoptTimeval(int(end.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
	var n int
	if err := restart(func() (err error) { n, err = unix.Read(int(end.Fd()), make([]byte, 1)); return err }); err != nil || n != 0 {
		t.Errorf("the worker goes on serving it: %d bytes, %v", n, err)
	}
}

// TestStuckStatementsLeaveTurns has others served while a facet's two statements are stuck.
func TestStuckStatementsLeaveTurns(t *testing.T) {
	p, _ := pool(t, nil)
	culprit := attach(t, p, AttachOptions{Object: "culprit", Limits: Limits{Memory: 200 << 20, StatementTimeout: 2 * time.Second}})
	for s := range uint16(3) {
		if _, err := culprit.start(sqlchan.Query, s+1, query(sorting)); err != nil {
			t.Fatal(err)
		}
	}
	other := attach(t, p, AttachOptions{Object: "other"})
	other.query(1, "SELECT 1")
	for range 20 {
		began := time.Now()
		other.query(1, "SELECT 1")
		if d := time.Since(began); d > slack*300*time.Millisecond {
			t.Errorf("another facet's statement took %v", d)
		}
	}
}

// TestTurns has a facet with sixteen endless statements leave another its share: fifty statements of that one end
// before the first of the sixteen, whose time is all that could end them otherwise.
func TestTurns(t *testing.T) {
	p, _ := pool(t, nil)
	greedy := attach(t, p, AttachOptions{Object: "greedy", Limits: Limits{StatementTimeout: 15 * time.Second}})
	for s := range uint16(16) {
		if _, err := greedy.start(sqlchan.Query, s+1, query(endless)); err != nil {
			t.Fatal(err)
		}
	}
	other := attach(t, p, AttachOptions{Object: "other"})
	for range 50 {
		other.query(1, "SELECT 1")
	}
	if _, _, err := unix.Recvfrom(greedy.fd, make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Errorf("the other facet's statements waited until the greedy one's had ended: %v", err)
	}
	until(t, "the greedy facet to be charged", func() bool { return greedy.c.Usage().CPU >= 10*time.Millisecond })
}

// TestCrashes ends the channel whose statement ran each time that the worker died, though its client had others before.
func TestCrashes(t *testing.T) {
	p, s := pool(t, nil)
	var c *client
	for i := range suspectTimes {
		c = attach(t, p, AttachOptions{})
		req, err := c.start(sqlchan.Query, 1, query(endless))
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the statement to run", func() bool { return running(c) })
		s.last.Load().Kill()
		_, err = c.wait(1, req)
		var gone reset
		if last := i == suspectTimes-1; errors.As(err, &gone) == last {
			t.Fatalf("death %d: %v", i+1, err)
		}
	}
	<-c.c.Done()
	if err := c.c.Err(); !errors.Is(err, ErrStuck) {
		t.Errorf("the channel ended with %v", err)
	}
}
