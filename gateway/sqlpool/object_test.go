package sqlpool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// TestObjectBound has the databases of one object take no more than is allowed to all of them, each in its own connection, at once
// and one after another, and gives back what is deleted.
func TestObjectBound(t *testing.T) {
	const most = 8 << 20
	p, s := pool(t, nil)
	limits := Limits{Storage: most, Object: most}
	a := attach(t, p, AttachOptions{File: "object/1.db", Limits: limits})
	b := attach(t, p, AttachOptions{File: "object/2.db", Limits: limits})
	sum := func() (n int64) {
		t.Helper()
		files, _ := filepath.Glob(filepath.Join(s.dir, "object", "*.db"))
		for _, f := range files {
			fi, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			n += fi.Size()
		}
		return n
	}
	const row = 64 << 10
	full := func(c *client) (rows int) {
		t.Helper()
		for ; rows < 2*most/row; rows++ {
			if _, err := c.do(sqlchan.Exec, 1, "INSERT INTO t VALUES (zeroblob(?))", row); err != nil {
				var failed *sqlchan.Failure
				if !errors.As(err, &failed) || failed.Code != sqlchan.CodeStorageQuota || !strings.Contains(failed.Message, "together") {
					t.Fatalf("after %d rows: %v", rows, err)
				}
				return rows
			}
		}
		t.Fatal("it never ends")
		return 0
	}
	for _, c := range []*client{a, b} {
		c.exec(1, "CREATE TABLE t (a)")
	}
	// While one writes, another can't take what the first was granted.
	a.exec(1, "BEGIN")
	a.exec(1, "INSERT INTO t VALUES (zeroblob(?))", row)
	b.exec(1, "BEGIN")
	if n := full(b); n*row > most/4 || n*row < most/8 { // half of the half that is left
		t.Errorf("beside another's transaction one may add %d bytes, of %d", n*row, most)
	}
	for range most/2/row - 4 {
		a.exec(1, "INSERT INTO t VALUES (zeroblob(?))", row)
	}
	a.exec(1, "COMMIT")
	// One after the other they take the rest, or nearly.
	full(a)
	full(b)
	for _, c := range []*client{a, b} {
		c.exec(1, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
	if n := sum(); n > most || n < most*3/4 {
		t.Errorf("the files take %d bytes, where %d are allowed", n, most)
	}
	// One that is closed counts all the same.
	if err := b.c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := full(a); n > 4 {
		t.Errorf("%d rows more, once the other was closed", n)
	}
	// One of another object does not.
	other := attach(t, p, AttachOptions{Object: "other", Limits: limits})
	other.exec(1, "CREATE TABLE t (a)")
	if n := full(other); n*row < most/2 {
		t.Errorf("another object has room for %d rows", n)
	}
	// What goes makes room.
	if err := p.Remove(t.Context(), "object", []string{"object/2.db"}); err != nil {
		t.Fatal(err)
	}
	if n := full(a); n*row < most/8 {
		t.Errorf("%d rows more, once the other was removed", n)
	}
}

// TestUnfinishedCopies has what a worker left of a copy when it died removed once the object is measured, and what else is there left alone.
func TestUnfinishedCopies(t *testing.T) {
	p, s := pool(t, nil)
	if err := os.MkdirAll(filepath.Join(s.dir, "object"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"7.db.new", "7.db.new-wal", "7.db.new-shm", "8.db.new-wal", "other"} {
		if err := os.WriteFile(filepath.Join(s.dir, "object", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := attach(t, p, AttachOptions{Limits: Limits{Storage: 8 << 20, Object: 8 << 20}})
	c.exec(1, "CREATE TABLE t (a)")
	if left, _ := filepath.Glob(filepath.Join(s.dir, "object/*.new*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "object/other")); err != nil {
		t.Error(err)
	}
	// A copy that is made while others write is not taken for one.
	for range 5 {
		written := make(chan struct{})
		go func() {
			defer close(written)
			for range 20 {
				c.do(sqlchan.Exec, 1, "INSERT INTO t VALUES (randomblob(10000))")
			}
		}()
		if err := p.Clone(t.Context(), "object", []string{"object/1.db"}, []string{"object/2.db"}); err != nil {
			t.Error(err)
		}
		<-written
	}
}
