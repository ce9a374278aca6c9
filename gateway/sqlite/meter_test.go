package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	lib "modernc.org/sqlite/lib"
)

// TestMeter charges each connection's memory to its own account, and limits it.
func TestMeter(t *testing.T) {
	small, large := open(t, 4<<20, Hooks{}), open(t, 64<<20, Hooks{})
	const sql = "SELECT length(group_concat(hex(zeroblob(1000)))) FROM (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT 5000) SELECT i FROM c)"
	before := large.account.Used()
	err := small.Exec(sql)
	var e *Error
	if !errors.As(err, &e) || e.Primary() != NoMem {
		t.Errorf("10 MB within 4: %v", err)
	}
	if n := small.account.Used(); n > 4<<20 {
		t.Errorf("holds %d", n)
	}
	if small.account.Refused() == 0 {
		t.Error("no refusal is counted")
	}
	if n := large.account.Used(); n != before {
		t.Errorf("another account went from %d to %d", before, n)
	}
	if err := large.Exec(sql); err != nil {
		t.Errorf("10 MB within 64: %v", err)
	}
	if err := small.Exec("SELECT 1"); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
}

// TestMeterFollowsTheOwner frees memory on another connection than the one that
// allocated it: what two connections of one file share is charged once, to one.
func TestMeterFollowsTheOwner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var accounts [2]*Account
	var conns [2]*Conn
	for i := range conns {
		var err error
		if accounts[i], err = NewAccount(64 << 20); err != nil {
			t.Fatal(err)
		}
		if conns[i], err = Open(file, accounts[i], Hooks{}); err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{"PRAGMA journal_mode=WAL", "CREATE TABLE IF NOT EXISTS t (a)", "INSERT INTO t VALUES (1)"} {
			if err := conns[i].Exec(sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range conns { // the first goes first: what it made lives on
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range accounts {
		if n := a.Used(); n != 0 {
			t.Errorf("account %d holds %d bytes", i, n)
		}
		a.Close()
	}
}

// TestPageCachesAreSeparate has one connection's reading not evict another's pages.
func TestPageCachesAreSeparate(t *testing.T) {
	if pcache.FseparateCache != 1 {
		t.Fatal("SQLite shares one page cache among all connections")
	}
	a := open(t, 64<<20, Hooks{})
	fill(t, a, 1000)
	held := a.account.Used()
	b := open(t, 64<<20, Hooks{})
	fill(t, b, 50000)
	if err := b.Exec("SELECT count(*) FROM t WHERE name LIKE '%x%'"); err != nil {
		t.Fatal(err)
	}
	if n := a.account.Used(); n != held {
		t.Errorf("the other connection's memory went from %d to %d", held, n)
	}
}

// TestExpired refuses large allocations to a statement that should have ended.
func TestExpired(t *testing.T) {
	expired := false
	c := open(t, 64<<20, Hooks{Expired: func() bool { return expired }})
	if err := c.Exec("SELECT hex(zeroblob(500000))"); err != nil {
		t.Fatal(err)
	}
	expired = true
	var e *Error
	if err := c.Exec("SELECT hex(zeroblob(500000))"); !errors.As(err, &e) || e.Primary() != NoMem {
		t.Errorf("a large value: %v", err)
	}
	if err := c.Exec("SELECT hex(zeroblob(50))"); err != nil {
		t.Errorf("a small value: %v", err)
	}
}

// TestNothingNew tells when SQLite has grown a virtual table that reaches where
// none should: the policy of the worker allows reading from tables by any name.
func TestNothingNew(t *testing.T) {
	c := open(t, 64<<20, Hooks{})
	s, _, err := c.Prepare([]byte("SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_module_list WHERE name NOT LIKE 'pragma_%' ORDER BY name)"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if row, err := s.Step(); !row || err != nil {
		t.Fatal(row, err)
	}
	const want = "dbstat fts5 fts5vocab geopoly rtree rtree_i32 sqlite_dbpage"
	if got := string(s.ColumnText(0)); got != want {
		t.Errorf("modules %s, known are %s", got, want)
	}
}

// TestRandomness has every VFS seeded by the kernel.
func TestRandomness(t *testing.T) {
	c := open(t, 64<<20, Hooks{})
	n := 0
	for vfs := lib.Xsqlite3_vfs_find(c.tls, 0); vfs != 0; vfs = (*lib.Tsqlite3_vfs)(ptr(vfs)).FpNext {
		n++
		if (*lib.Tsqlite3_vfs)(ptr(vfs)).FxRandomness != callback(randomness) {
			t.Error("a VFS has another source of randomness")
		}
	}
	if n == 0 {
		t.Error("no VFS is registered")
	}
	s, _, err := c.Prepare([]byte("SELECT randomblob(16) <> randomblob(16) AND randomblob(16) <> zeroblob(16)"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if row, err := s.Step(); !row || err != nil || s.ColumnInt64(0) != 1 {
		t.Error(row, err)
	}
}
