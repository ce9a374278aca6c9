package sqlpool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

func TestRemove(t *testing.T) {
	p, s := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (a)")
	other := attach(t, p, AttachOptions{File: "object/2.db"})
	other.exec(1, "CREATE TABLE t (a)")
	if err := p.Remove(t.Context(), "object", []string{"object/1.db", "object/3.db"}); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(s.dir, "object/1.db*"))
	if len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	if _, err := c.do(sqlchan.Query, 1, "SELECT 1"); err == nil {
		t.Error("a channel to a removed database answers")
	}
	other.query(1, "SELECT * FROM t")
	c = attach(t, p, AttachOptions{})
	if _, err := c.do(sqlchan.Query, 1, "SELECT * FROM t"); err == nil {
		t.Error("a new database has the old one's table")
	}
	for _, f := range []string{"other/1.db", "../object/1.db", "object/../object/1.db", "/object/1.db", "object/1", "object"} {
		if err := p.Remove(t.Context(), "object", []string{f}); err == nil {
			t.Errorf("%s was taken for a file of the object", f)
		}
		if _, err := p.Attach(t.Context(), AttachOptions{Object: "object", File: f}); err == nil {
			t.Errorf("%s was attached", f)
		}
	}
}

// TestClone copies a database while it is written to: the copy is of one moment.
func TestClone(t *testing.T) {
	p, s := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE a (n); CREATE TABLE b (n, pad); INSERT INTO a VALUES (0); INSERT INTO b VALUES (0, zeroblob(3000000))")
	old := attach(t, p, AttachOptions{File: "object/2.db"})
	old.exec(1, "CREATE TABLE old (a)")
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Add(1)
	writes := 0
	go func() {
		defer wg.Done()
		for !stop.Load() {
			// Both tables change in one transaction.
			if _, err := c.do(sqlchan.Exec, 1, "BEGIN IMMEDIATE; UPDATE a SET n = n+1; UPDATE b SET n = n+1; COMMIT"); err != nil {
				t.Error(err)
				return
			}
			writes++
		}
	}()
	for range 5 {
		if err := p.Clone(t.Context(), "object", []string{"object/1.db"}, []string{"object/2.db"}); err != nil {
			t.Fatal(err)
		}
		copied := attach(t, p, AttachOptions{File: "object/2.db"})
		if v := copied.query(1, "SELECT (SELECT n FROM a) = (SELECT n FROM b), (SELECT length(pad) FROM b)"); v[0] != int64(1) || v[1] != int64(3000000) {
			t.Errorf("the copy has %v", v)
		}
		if v := copied.query(1, "PRAGMA integrity_check"); v[0] != "ok" {
			t.Errorf("integrity: %v", v)
		}
		if v := copied.query(1, "PRAGMA journal_mode"); v[0] != "wal" {
			t.Errorf("journal mode %v", v)
		}
		copied.exec(1, "INSERT INTO a VALUES (7)") // the copy is its own
	}
	stop.Store(true)
	wg.Wait()
	if writes == 0 {
		t.Error("nothing was written meanwhile")
	}
	if v := c.query(1, "SELECT count(*) FROM a"); v[0] != int64(1) {
		t.Errorf("the source has %v rows", v)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "object/*.new*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := p.Clone(t.Context(), "object", []string{"object/1.db"}, []string{"object/1.db"}); err == nil {
		t.Error("a database was cloned onto itself")
	}
}

// TestCloneOfSeveral copies databases of which each commit in one leads to one in the next: the copies show no effect without its cause.
func TestCloneOfSeveral(t *testing.T) {
	const several = 16
	p, _ := pool(t, nil)
	var sources, copies []string
	var all []*client
	for i := range several {
		sources = append(sources, fmt.Sprintf("object/%d.db", i))
		copies = append(copies, fmt.Sprintf("object/%d.db", 100+i))
		c := attach(t, p, AttachOptions{File: sources[i]})
		c.exec(1, "CREATE TABLE a (n, pad); INSERT INTO a VALUES (0, zeroblob(20000))")
		all = append(all, c)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			for _, c := range all {
				if _, err := c.do(sqlchan.Exec, 1, "UPDATE a SET n = n+1"); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 15 {
		if err := p.Clone(t.Context(), "object", sources, copies); err != nil {
			t.Fatal(err)
		}
		var counts []int64
		for i := range several {
			c := attach(t, p, AttachOptions{File: fmt.Sprintf("object/%d.db", 100+i)})
			counts = append(counts, c.query(1, "SELECT n FROM a")[0].(int64))
		}
		first, last := counts[0], counts[several-1]
		if !slices.IsSortedFunc(counts, func(a, b int64) int { return cmp.Compare(b, a) }) || first-last > 1 {
			t.Errorf("the copies count %v", counts)
		}
	}
	stop.Store(true)
	wg.Wait()
	if n := all[0].query(1, "SELECT n FROM a")[0].(int64); n < 20 {
		t.Errorf("only %d commits were made meanwhile", n)
	}
	for name, files := range map[string][2][]string{
		"a copy too few":    {{"object/1.db", "object/2.db"}, {"object/11.db"}},
		"two onto one":      {{"object/1.db", "object/2.db"}, {"object/11.db", "object/11.db"}},
		"onto a source":     {{"object/1.db", "object/2.db"}, {"object/2.db", "object/11.db"}},
		"another object's":  {{"object/1.db"}, {"other/1.db"}},
		"more than at once": {make([]string, MaxClone+1), make([]string, MaxClone+1)},
		"none":              {},
	} {
		if err := p.Clone(t.Context(), "object", files[0], files[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestCommittedIsCountedFirst has no session see a commit that the word in
// shared memory does not tell of.
func TestCommittedIsCountedFirst(t *testing.T) {
	p, _ := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (n); INSERT INTO t VALUES (0)")
	base := c.c.Committed()
	reader := attach(t, p, AttachOptions{})
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for !stop.Load() {
			if _, err := c.do(sqlchan.Exec, 1, "UPDATE t SET n = n+1"); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range 3000 {
		n := reader.query(1, "SELECT n FROM t")[0].(int64)
		if told := reader.c.Committed() - base; told < uint64(n) {
			t.Fatalf("%d commits are visible, %d told", n, told)
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestUnsyncedLog syncs the log itself where nobody else does.
func TestUnsyncedLog(t *testing.T) {
	p, _ := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (a)")
	peak := int64(0)
	for range 40 {
		c.exec(1, "INSERT INTO t VALUES (randomblob(500000))")
		peak = max(peak, c.c.UnsyncedBytes())
	}
	if peak < 1<<20 || peak > 5<<20 {
		t.Errorf("up to %d bytes of log waited for the disk", peak)
	}
	c.c.SetDurable(c.c.Committed())
	c.exec(1, "INSERT INTO t VALUES (1)")
	if n := c.c.UnsyncedBytes(); n > 100<<10 {
		t.Errorf("%d bytes wait after all was made durable", n)
	}
}

// TestLogIsBounded has a reader that stays open not make the log grow without end.
func TestLogIsBounded(t *testing.T) {
	p, s := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (a); INSERT INTO t VALUES (randomblob(2000000))")
	c.exec(2, "BEGIN")
	c.query(2, "SELECT count(*) FROM t")
	var refused *sqlchan.Failure
	for i := 0; refused == nil && i < 100; i++ {
		if _, err := c.do(sqlchan.Exec, 1, "UPDATE t SET a = randomblob(2000000)"); err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
	}
	if refused == nil || refused.Code != sqlchan.CodeStorageQuota {
		t.Fatalf("refused: %+v", refused)
	}
	info, err := os.Stat(filepath.Join(s.dir, "object/1.db-wal"))
	if err != nil || info.Size() > 70<<20 {
		t.Errorf("the log: %v %v", info.Size(), err)
	}
	c.exec(2, "COMMIT")
	c.exec(1, "UPDATE t SET a = randomblob(2000000)")
}

// TestDetach has a channel's end roll back what was open, and release what waits.
func TestDetach(t *testing.T) {
	p, _ := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (a)")
	second := attach(t, p, AttachOptions{})
	second.exec(1, "BEGIN IMMEDIATE")
	second.exec(1, "INSERT INTO t VALUES (1)")
	if !c.c.InTransaction() {
		t.Error("the transaction of another channel is not told")
	}
	if err := second.c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.c.InTransaction() {
		t.Error("a transaction outlived its channel")
	}
	began := time.Now()
	c.exec(1, "INSERT INTO t VALUES (2)")
	if d := time.Since(began); d > slack*time.Second {
		t.Errorf("waited %v for a channel that is closed", d)
	}
	if v := c.query(1, "SELECT a FROM t"); len(v) != 1 || v[0] != int64(2) {
		t.Errorf("rows %v", v)
	}
	// A client that just leaves.
	third := attach(t, p, AttachOptions{})
	third.exec(1, "BEGIN IMMEDIATE")
	third.hangUp()
	c.exec(1, "INSERT INTO t VALUES (3)")
}

func TestAudit(t *testing.T) {
	records := make(chan AuditRecord, 10)
	p, _ := pool(t, func(c *Config) { c.OnAudit = func(_ *Channel, r AuditRecord) { records <- r } })
	c := attach(t, p, AttachOptions{Audit: true})
	c.do(sqlchan.Query, 1, "SELECT 1 UNION SELECT 2")
	c.do(sqlchan.Exec, 1, "ATTACH 'x' AS y")
	if r := <-records; r.SQL != "SELECT 1 UNION SELECT 2" || r.Rows != 2 || r.Bytes == 0 || r.Duration <= 0 || r.Code != "" {
		t.Errorf("record %+v", r)
	}
	if r := <-records; r.Code != sqlchan.CodeDenied {
		t.Errorf("record %+v", r)
	}
}

func TestClosedPool(t *testing.T) {
	s := &spawner{dir: t.TempDir()}
	p, err := New(t.Context(), Config{Spawn: s.spawn, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Attach(context.Background(), AttachOptions{Object: "o", File: "o/1.db"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Attach(context.Background(), AttachOptions{Object: "o", File: "o/1.db"}); !errors.Is(err, ErrClosed) {
		t.Errorf("attach after close: %v", err)
	}
	c.Close(context.Background())
	select {
	case <-s.last.Load().done:
	default:
		t.Error("a worker outlived the pool")
	}
}

// TestClosedStartsNone: the end of a worker that is closed with its pool is no death that calls for another.
func TestClosedStartsNone(t *testing.T) {
	for range 10 { // it was chance
		s := &spawner{dir: t.TempDir()}
		p, err := New(t.Context(), Config{Spawn: s.spawn, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if n := s.spawned.Load(); n != 2 {
			t.Fatalf("2 workers, and %d processes were started", n)
		}
	}
}
