package sqld

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// TestReturningBreaksOff has a statement whose rows nobody takes commit and count what it wrote, and hold up nobody.
func TestReturningBreaksOff(t *testing.T) {
	c, ch := serveLimits(t, func(*control.Limits) {}, nil)
	c.ok(c.exec(1, "CREATE TABLE t (n INTEGER PRIMARY KEY, b)"))
	before := ch.db.slot.Load().Committed.Load()
	// Without credit the rows wait.
	r := c.start(sqlchan.Query, 1, payload(0, 0, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT 100) INSERT INTO t SELECT i, zeroblob(5000) FROM c RETURNING n, b", nil))
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	c.send(sqlchan.Cancel, 1, r, nil)
	if a := c.wait(1, r); a.failure == nil || a.failure.Code != sqlchan.CodeCancelled || a.failure.InTx {
		t.Fatalf("cancelled: %+v", a.failure)
	}
	if n := ch.db.slot.Load().Committed.Load(); n != before+1 {
		t.Errorf("%d commits are counted", n-before)
	}
	if !ch.db.commitMu.TryLock() {
		t.Fatal("a connection that nobody uses holds up all answers")
	}
	ch.db.commitMu.Unlock()
	if n := c.value(2, "SELECT count(*) FROM t"); n != int64(100) {
		t.Errorf("%v rows are there", n)
	}
}

// TestWideRow has a row that shows one value in many columns refused before it is copied, and one that may be
// copied once, while the channel holds room for it.
func TestWideRow(t *testing.T) {
	c, ch := serveLimits(t, func(*control.Limits) {}, nil)
	value := strings.Repeat("x", 4<<20-100)
	c.value(1, "SELECT length(?1)", value) // buffers are made
	wide := func(columns int) string {
		return "SELECT " + strings.TrimSuffix(strings.Repeat("?1,", columns), ",")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f := c.fails(sqlchan.CodeResultLimit, c.query(1, wide(500), value))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d MB of Go's memory were made of a row that was refused", n>>20)
	}
	if !strings.Contains(f.Message, "larger than") {
		t.Errorf("the message tells no reason: %s", f.Message)
	}
	a := c.ok(c.query(1, wide(1)+", 1, NULL, 2.5", value))
	if row := a.rows[0]; len(a.rows) != 1 || row[0] != value || row[1] != int64(1) || row[2] != nil || row[3] != 2.5 {
		t.Errorf("a row of 4 MB came as %d rows, %.40q", len(a.rows), fmt.Sprint(a.rows[0]))
	}
	// Short rows around a long one keep their order.
	a = c.ok(c.query(1, "SELECT 1, 'a' UNION ALL SELECT 2, 'b' UNION ALL SELECT 3, ?1 UNION ALL SELECT 4, 'd'", value))
	for i, row := range a.rows {
		if row[0] != int64(i+1) {
			t.Errorf("row %d is %v", i+1, row[0])
		}
	}
	if len(a.rows) != 4 || a.rows[2][1] != value {
		t.Errorf("%d rows", len(a.rows))
	}
	until(t, "the room to be given back", func() bool { return ch.held.Load() == 0 })
	// While its client does not take it, it counts as what the channel holds.
	r := c.start(sqlchan.Query, 1, payload(0, 0, "SELECT zeroblob(4000000)", nil))
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	until(t, "the row to be held", func() bool { return ch.held.Load() >= 4_000_000 })
	c.send(sqlchan.Cancel, 1, r, nil)
	if a := c.wait(1, r); a.failure == nil {
		t.Error("a cancelled query succeeds")
	}
}
