package gate

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func database(t testing.TB) (db, top string) {
	t.Helper()
	top = t.TempDir()
	dir := filepath.Join(top, "ob", "ject")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db = filepath.Join(dir, "1.db")
	for _, f := range []string{db, db + "-wal"} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return db, top
}

func TestWait(t *testing.T) {
	var committed atomic.Uint64
	s := newSyncer(t)
	db, top := database(t)
	g := s.New(db, top, committed.Load, func(uint64) {})
	if err := g.Wait(); err != nil || s.Syncs() != 0 {
		t.Fatalf("nothing committed: %v after %d syncs", err, s.Syncs())
	}
	committed.Add(3)
	for range 2 {
		if err := g.Wait(); err != nil || s.Syncs() != 1 {
			t.Fatalf("three commits: %v after %d syncs", err, s.Syncs())
		}
	}
	os.Remove(db + "-wal") // as a checkpoint at close does
	committed.Add(1)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestOneSyncForAll: those who wait while a sync runs share the next one.
func TestOneSyncForAll(t *testing.T) {
	var committed atomic.Uint64
	s := newSyncer(t)
	db, top := database(t)
	g := s.New(db, top, committed.Load, func(uint64) {})
	const waiters = 200
	var wg sync.WaitGroup
	for range waiters {
		wg.Go(func() {
			want := committed.Add(1)
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
			if g.durable.Load() < want {
				t.Error("passed before its commit was durable")
			}
		})
	}
	wg.Wait()
	if n := s.Syncs(); n >= waiters {
		t.Errorf("%d syncs for %d waiters", n, waiters)
	}
}

// TestPause: only a crowd is waited for, and never longer than the pace.
func TestPause(t *testing.T) {
	for _, c := range []struct {
		crowd int
		since time.Duration
		wait  bool
	}{{0, 0, false}, {1, 0, false}, {crowded - 1, 0, false}, {crowded, 0, true}, {50, pace / 2, true}, {50, pace, false}, {50, time.Hour, false}} {
		if d := pause(c.crowd, c.since); d > 0 != c.wait || d > pace {
			t.Errorf("%d served %v ago: a pause of %v", c.crowd, c.since, d)
		}
	}
}

// TestCrowdIsCounted: a sync notes how many it served.
func TestCrowdIsCounted(t *testing.T) {
	var committed atomic.Uint64
	s := newSyncer(t)
	db, top := database(t)
	g := s.New(db, top, committed.Load, func(uint64) {})
	g.mu.Lock()
	g.syncing = true // so that all wait
	g.mu.Unlock()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			committed.Add(1)
			g.Wait()
		})
	}
	for came := 0; came < 5; runtime.Gosched() {
		g.mu.Lock()
		came = g.came
		g.mu.Unlock()
	}
	g.mu.Lock()
	g.syncing = false
	g.cond.Broadcast()
	g.mu.Unlock()
	wg.Wait()
	if g.crowd != 5 || s.Syncs() != 1 {
		t.Errorf("%d syncs, the last of which served %d of 5", s.Syncs(), g.crowd)
	}
}

// TestFailureIsForEver: after a sync failed, nothing passes, even if a later one would succeed.
func TestFailureIsForEver(t *testing.T) {
	var committed atomic.Uint64
	s := newSyncer(t)
	db, top := database(t)
	os.Remove(db + "-wal")
	if err := os.Mkdir(db+"-wal", 0o700); err != nil { // can't be opened for writing
		t.Fatal(err)
	}
	g := s.New(db, top, committed.Load, func(uint64) {})
	committed.Add(1)
	if err := g.Wait(); err == nil {
		t.Fatal("no error")
	}
	os.Remove(db + "-wal")
	committed.Add(1)
	if err := g.Wait(); err == nil {
		t.Fatal("it passed after a failure")
	}
}

// BenchmarkRead is what a request pays that wrote nothing.
func BenchmarkRead(b *testing.B) {
	var committed atomic.Uint64
	db, top := database(b)
	g := newSyncer(b).New(db, top, committed.Load, func(uint64) {})
	committed.Add(1)
	g.Wait()
	for b.Loop() {
		g.Wait()
	}
}

// BenchmarkCommit32 is what each of 32 writers on one file pays for durability.
func BenchmarkCommit32(b *testing.B) {
	var committed atomic.Uint64
	db, top := database(b)
	g := newSyncer(b).New(db, top, committed.Load, func(uint64) {})
	f, err := os.OpenFile(db+"-wal", os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f.Write(page)
			committed.Add(1)
			if err := g.Wait(); err != nil {
				b.Error(err)
			}
		}
	})
}

func newSyncer(t testing.TB) *Syncer {
	s := NewSyncer()
	t.Cleanup(s.Close)
	return s
}
