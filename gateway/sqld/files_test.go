package sqld

import (
	"path/filepath"
	"testing"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlite"
)

// Snapshots begin once no commit is under way in any of the databases, and none becomes visible before all have begun.
func TestSnapshotsBeginAtOneMoment(t *testing.T) {
	if err := sqlite.Init(aloneMemory); err != nil {
		t.Fatal(err)
	}
	w := newWorker(aloneMemory/2, func(*control.Message, bool) bool { return true })
	t.Cleanup(w.stop)
	limits, dir := DefaultLimits(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var snapshots, writers []*snapshot
	for _, name := range []string{"1.db", "2.db"} {
		for _, into := range []*[]*snapshot{&snapshots, &writers} {
			s, err := w.snapshot(filepath.Join(dir, name), &limits)
			must(err)
			t.Cleanup(s.close)
			*into = append(*into, s)
		}
		c := writers[len(writers)-1].conn
		must(c.Exec("CREATE TABLE t (n)"))
		c.afterCommit()
		must(c.Exec("INSERT INTO t VALUES (0)"))
		c.afterCommit()
	}
	const more = "UPDATE t SET n = n + 1"
	first, second := writers[0], writers[1]
	must(second.conn.Exec(more)) // and it is not told yet
	begun := make(chan error, 1)
	go func() { begun <- begin(snapshots) }()
	until(t, "the first database commits no more", func() bool {
		if first.db.commitMu.TryLock() {
			first.db.commitMu.Unlock()
			return false
		}
		return true
	})
	written := make(chan error, 1)
	go func() {
		err := first.conn.Exec(more)
		first.conn.afterCommit()
		written <- err
	}()
	if len(begun) > 0 || len(written) > 0 {
		t.Error("it does not wait for a commit that is under way")
	}
	second.conn.afterCommit()
	must(<-begun)
	must(<-written)
	for i, want := range []int64{0, 1} {
		s, _, err := snapshots[i].conn.prepare([]byte("SELECT n FROM t"))
		must(err)
		if ok, err := s.Step(); err != nil || !ok || s.ColumnInt64(0) != want {
			t.Errorf("database %d: %d, %v; want %d", i+1, s.ColumnInt64(0), err, want)
		}
		snapshots[i].conn.done(s)
	}
}
