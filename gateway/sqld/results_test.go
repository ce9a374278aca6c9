package sqld

import (
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
