package sqld

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came: %s", what)
		}
	}
}

// serveMany serves n databases from one worker, with room for few idle ones.
func serveMany(t testing.TB, n int, idleBytes int64) (*worker, []*client) {
	t.Helper()
	if err := sqlite.Init(aloneMemory); err != nil {
		t.Fatal(err)
	}
	w := newWorker(idleBytes, func(*control.Message, bool) bool { return true })
	dir := t.TempDir()
	clients := make([]*client, n)
	for i := range clients {
		fd, theirs := socketpair(t)
		own, err := ownCopy(theirs)
		if err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		l := DefaultLimits()
		if _, err := w.attach(own, uint64(i+1), filepath.Join(dir, fmt.Sprint(i), "1.db"), nil, &control.Message{Limits: &l}); err != nil {
			t.Fatal(err)
		}
		clients[i] = newClient(t, fd)
	}
	t.Cleanup(func() {
		for _, c := range clients {
			c.close()
		}
		w.stop()
	})
	return w, clients
}

// TestIdleDatabases keeps open what the budget holds, and a channel that does
// nothing costs one parked goroutine.
func TestIdleDatabases(t *testing.T) {
	const n, budget = 200, 8 << 20
	before := runtime.NumGoroutine()
	w, clients := serveMany(t, n, budget)
	for i, c := range clients {
		c.ok(c.exec(1, "CREATE TABLE t (a); INSERT INTO t VALUES (?)", i))
	}
	until(t, "idle databases to be closed", func() bool { return sqlite.Total() <= budget+1<<20 })
	open := 0
	w.mu.Lock()
	for _, db := range w.databases {
		db.mu.Lock()
		open += db.open
		db.mu.Unlock()
	}
	w.mu.Unlock()
	if open == 0 || open > n/2 {
		t.Errorf("%d of %d databases are open", open, n)
	}
	until(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before+n+5 })
	for i, c := range clients {
		if v := c.value(1, "SELECT a FROM t"); v != int64(i) {
			t.Errorf("database %d has %v", i, v)
		}
	}
}

// TestCloseForgets has nothing left of channels and databases that are gone.
func TestCloseForgets(t *testing.T) {
	w, clients := serveMany(t, 20, 64<<20)
	for _, c := range clients {
		c.ok(c.exec(1, "CREATE TABLE t (a)"))
		c.ok(c.begin(2, sqlchan.Immediate))
		c.start(sqlchan.Query, 3, payload(0, 0, "SELECT 1", nil))
		c.start(sqlchan.Exec, 4, payload(0, -1, "INSERT INTO t VALUES (1)", nil))
		c.close()
	}
	until(t, "the channels to end", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.channels) == 0 })
	w.evict(func(*conn) bool { return true })
	w.forget()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.databases) != 0 || len(w.inTx) != 0 {
		t.Errorf("%d databases, %d transactions are left", len(w.databases), len(w.inTx))
	}
	if n := sqlite.Total(); n > 1<<20 {
		t.Errorf("%d bytes of SQLite's memory are left", n)
	}
	w.turns.mu.Lock()
	defer w.turns.mu.Unlock()
	if w.turns.free != parallel || w.turns.extra != 0 || len(w.turns.ring) != 0 {
		t.Errorf("turns %+v", w.turns)
	}
}

// TestServeOneForgetsMemory leaves no file of a database in memory.
func TestServeOneForgetsMemory(t *testing.T) {
	left := func() []string {
		m, _ := filepath.Glob(filepath.Join(memoryDir(), "fgw-sqld-*"))
		return m
	}
	before := len(left())
	fd, theirs := socketpair(t)
	done := make(chan error, 1)
	go func() { done <- ServeOne(context.Background(), theirs, "") }()
	c := newClient(t, fd)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	if v := c.value(2, "SELECT count(*) FROM t"); v != int64(0) {
		t.Errorf("another session sees %v", v)
	}
	c.close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(left()); n != before {
		t.Errorf("%d directories are left, %d were there", n, before)
	}
}

// TestServeOneKeepsFile opens a file again, and one that a plain SQLite made.
func TestServeOneKeepsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dev.db")
	serve := func(f func(c *client)) {
		t.Helper()
		fd, theirs := socketpair(t)
		done := make(chan error, 1)
		go func() { done <- ServeOne(context.Background(), theirs, file) }()
		c := newClient(t, fd)
		f(c)
		c.close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	serve(func(c *client) { c.ok(c.exec(1, "CREATE TABLE t (a); INSERT INTO t VALUES (5)")) })
	serve(func(c *client) {
		if v := c.value(1, "SELECT a FROM t"); v != int64(5) {
			t.Errorf("value %v", v)
		}
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	account, err := sqlite.NewAccount(64 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer account.Close()
	plain, err := sqlite.Open(file, account, sqlite.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"PRAGMA journal_mode=DELETE", "CREATE TABLE t (a)", "INSERT INTO t VALUES (6)"} {
		if err := plain.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	serve(func(c *client) {
		if v := c.value(1, "SELECT a FROM t"); v != int64(6) {
			t.Errorf("value %v", v)
		}
		if v := c.value(1, "PRAGMA journal_mode"); v != "wal" {
			t.Errorf("journal mode %v", v)
		}
	})
}

// TestPanic answers a statement that made the worker panic, and tells the gateway.
func TestPanic(t *testing.T) {
	if err := sqlite.Init(aloneMemory); err != nil {
		t.Fatal(err)
	}
	told := make(chan *control.Message, 4)
	w := newWorker(1<<20, func(m *control.Message, _ bool) bool { told <- m; return true })
	fd, theirs := socketpair(t)
	own, err := ownCopy(theirs)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	l := DefaultLimits()
	ch, err := w.attach(own, 1, filepath.Join(t.TempDir(), "1.db"), nil, &control.Message{Limits: &l})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, fd)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	until(t, "the connection to be given back", func() bool { ch.db.mu.Lock(); defer ch.db.mu.Unlock(); return len(ch.db.idle) > 0 })
	ch.db.mu.Lock()
	broken := ch.db.idle[0]
	broken.cache["SELECT 1"] = &statement{} // a null pointer where a statement should be
	ch.db.mu.Unlock()
	f := c.fails(sqlchan.CodeInternal, c.query(1, "SELECT 1"))
	if strings.Contains(f.Message, "nil pointer") {
		t.Errorf("message %q", f.Message)
	}
	if m := <-told; m.Op != control.Broken || !strings.Contains(m.Error, "nil pointer") || !strings.Contains(m.Reason, "sqld") {
		t.Errorf("told %+v", m)
	}
	if v := c.value(1, "SELECT 1"); v != int64(1) { // on another connection
		t.Errorf("value %v", v)
	}
	c.close()
	until(t, "the channel to end", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.channels) == 0 })
}
