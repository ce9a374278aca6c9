package sqld

import (
	"runtime"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// batch sends requests of some sessions, of each one, in one packet, and returns their numbers.
func (c *client) batch(typ sqlchan.Type, payloads map[uint16][]byte) map[uint16]uint32 {
	c.t.Helper()
	b := sqlchan.Header{Type: sqlchan.BatchRequests, Epoch: c.epoch}.Append(nil)
	numbers := map[uint16]uint32{}
	for s, p := range payloads {
		c.request++
		numbers[s] = c.request
		b = sqlchan.AppendPart(b, append(sqlchan.Header{Type: typ, Session: s, Request: c.request, Epoch: c.epoch}.Append(nil), p...))
	}
	if _, err := unix.Write(c.fd, b); err != nil {
		c.t.Fatal(err)
	}
	return numbers
}

// TestBatch has requests of several sessions answered as if they had come one by one, and together.
func TestBatch(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (id INTEGER PRIMARY KEY, n)"))
	c.ok(c.exec(1, "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30), (4, 40)"))
	if c.packets != c.messages {
		t.Error("a batch came to a client that may not know it")
	}
	before := c.packets
	reads := map[uint16][]byte{}
	for s := range uint16(5) {
		reads[s+1] = payload(0, 4, "SELECT n FROM t WHERE id = ?", []any{int(s + 1)})
	}
	reads[4] = payload(0, 4, "SELECT nonsense", nil)
	for s, n := range c.batch(sqlchan.Query, reads) {
		switch a := c.wait(s, n); {
		case s == 4:
			c.fails(sqlchan.CodeSQL, a)
		case s == 5 && len(a.rows) != 0 || s < 4 && (len(a.rows) != 1 || a.rows[0][0] != int64(s)*10):
			t.Errorf("session %d: rows %v", s, a.rows)
		}
	}
	if c.packets-before >= 5 {
		t.Errorf("five answers came in %d packets", c.packets-before)
	}
	// One that takes long keeps nobody waiting.
	endless := payload(0, 4, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT count(*) FROM c", nil)
	numbers := c.batch(sqlchan.Query, map[uint16][]byte{1: payload(0, 4, "SELECT 1", nil), 2: endless, 3: payload(0, 4, "SELECT 3", nil)})
	c.ok(c.wait(1, numbers[1]))
	c.ok(c.wait(3, numbers[3]))
	c.send(sqlchan.Cancel, 2, numbers[2], nil)
	c.fails(sqlchan.CodeCancelled, c.wait(2, numbers[2]))
	// Of one session they come in order, whoever sends them.
	order := sqlchan.Header{Type: sqlchan.BatchRequests}.Append(nil)
	for range 3 {
		c.request++
		order = sqlchan.AppendPart(order, append(sqlchan.Header{Type: sqlchan.Query, Session: 1, Request: c.request}.Append(nil), payload(0, 4, "SELECT 1", nil)...))
	}
	if _, err := unix.Write(c.fd, order); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3) {
		if p, err := c.receive(); err != nil || p.h.Request != c.request-2+i {
			t.Errorf("answer %d is to request %d of %d, %v", i, p.h.Request, c.request, err)
		}
	}
	// A long answer is not put into one, and comes all the same.
	numbers = c.batch(sqlchan.Query, map[uint16][]byte{1: payload(0, 4, "SELECT hex(zeroblob(10000))", nil), 2: payload(0, 4, "SELECT 2", nil)})
	if a := c.ok(c.wait(1, numbers[1])); len(a.rows[0][0].(string)) != 20000 {
		t.Error("a long answer was cut")
	}
	c.ok(c.wait(2, numbers[2]))
}

// TestOldEpochInBatch has messages of before a RESET not executed.
func TestOldEpochInBatch(t *testing.T) {
	c := serveFile(t)
	c.ok(c.exec(1, "CREATE TABLE t (a)"))
	old := append(sqlchan.Header{Type: sqlchan.Exec, Session: 1, Request: 100, Epoch: 9}.Append(nil), payload(0, -1, "INSERT INTO t VALUES (1)", nil)...)
	count := append(sqlchan.Header{Type: sqlchan.Query, Session: 1, Request: 101}.Append(nil), payload(0, 4, "SELECT count(*) FROM t", nil)...)
	b := sqlchan.AppendPart(sqlchan.AppendPart(sqlchan.Header{Type: sqlchan.BatchRequests}.Append(nil), old), count)
	if _, err := unix.Write(c.fd, b); err != nil {
		t.Fatal(err)
	}
	if a := c.ok(c.wait(1, 101)); a.rows[0][0] != int64(0) {
		t.Errorf("%v rows", a.rows[0][0])
	}
}

// waiters are sessions that asked for the turn to write, which session 1 has. They hold no goroutine.
func waiters(t *testing.T, c *client, typ sqlchan.Type, request []byte) []uint32 {
	t.Helper()
	c.ok(c.exec(1, "CREATE TABLE t (id INTEGER PRIMARY KEY, n)"))
	c.ok(c.exec(1, "INSERT INTO t VALUES (1, 0)"))
	c.ok(c.begin(1, sqlchan.Immediate))
	c.ok(c.exec(1, "UPDATE t SET n = n + 1"))
	c.value(2, "SELECT 1") // what reads the channel is back at it
	before := runtime.NumGoroutine()
	numbers := make([]uint32, 16)
	for s := uint16(3); s <= 15; s++ {
		numbers[s] = c.start(typ, s, request)
	}
	c.value(2, "SELECT 1")
	if n := runtime.NumGoroutine() - before; n > 2 {
		t.Errorf("13 sessions that wait hold %d goroutines", n)
	}
	return numbers
}

// TestBeginWaitsInOrder has transactions wait for their turn without a goroutine, and get it in the order in which they asked.
func TestBeginWaitsInOrder(t *testing.T) {
	c := serveFile(t)
	numbers := waiters(t, c, sqlchan.Begin, []byte{0, sqlchan.Immediate})
	c.ok(c.commit(1))
	for s := uint16(3); s <= 15; s++ {
		c.ok(c.wait(s, numbers[s])) // the next one can't have it before this one's COMMIT
		if len(c.held) != 0 {
			t.Fatalf("another session than %d has its turn too", s)
		}
		c.ok(c.exec(s, "UPDATE t SET n = n * 2"))
		c.ok(c.commit(s))
	}
	if n := c.value(1, "SELECT n FROM t"); n != int64(1<<13) {
		t.Errorf("n is %v", n)
	}
}

// TestWritesWaitWithoutGoroutines has each statement outside a transaction run once, when its turn comes.
func TestWritesWaitWithoutGoroutines(t *testing.T) {
	c := serveFile(t)
	numbers := waiters(t, c, sqlchan.Query, payload(0, 4, "UPDATE t SET n = n + 1 WHERE id = ? RETURNING n", []any{1}))
	c.ok(c.commit(1))
	for s := uint16(3); s <= 15; s++ {
		if a := c.ok(c.wait(s, numbers[s])); len(a.rows) != 1 || a.rows[0][0] != int64(s)-1 || a.result.RowsAffected != 1 {
			t.Errorf("session %d: %v, %+v", s, a.rows, a.result)
		}
	}
	if n := c.value(1, "SELECT n FROM t"); n != int64(14) {
		t.Errorf("n is %v", n)
	}
}

// TestWaitingEnds has what waits for its turn end by CANCEL, by its deadline and with the channel, and the rest of the queue move up.
func TestWaitingEnds(t *testing.T) {
	c, ch := serveLimits(t, func(*control.Limits) {}, nil)
	numbers := waiters(t, c, sqlchan.Exec, payload(0, -1, "UPDATE t SET n = n + 1", nil))
	c.send(sqlchan.Cancel, 3, numbers[3], nil)
	c.fails(sqlchan.CodeCancelled, c.wait(3, numbers[3]))
	soon := c.start(sqlchan.Begin, 3, []byte{20, sqlchan.Immediate})
	c.fails(sqlchan.CodeBusy, c.wait(3, soon))
	behind := c.start(sqlchan.Rollback, 4, nil) // waits behind the UPDATE of its session
	c.ok(c.commit(1))
	for s := uint16(4); s <= 15; s++ {
		c.ok(c.wait(s, numbers[s]))
	}
	c.ok(c.wait(4, behind))
	c.ok(c.begin(1, sqlchan.Immediate))
	for s := uint16(3); s <= 15; s++ {
		c.start(sqlchan.Begin, s, []byte{0, sqlchan.Immediate})
	}
	c.value(2, "SELECT 1")
	c.close()
	select {
	case <-ch.closed:
	case <-time.After(20 * time.Second):
		t.Error("the worker does not let go of a channel whose requests wait")
	}
}

// TestCheckpointBesideWriters has the log moved now and then, and not after each commit: a writer who had begun before the log was moved does
// not begin it anew.
func TestCheckpointBesideWriters(t *testing.T) {
	c, ch := serveLimits(t, func(*control.Limits) {}, nil)
	db := ch.db
	c.ok(c.exec(1, "CREATE TABLE t (id INTEGER PRIMARY KEY, n)"))
	c.ok(c.exec(1, "INSERT INTO t VALUES (1, 0)"))
	for i := range 2*checkpointHard + 10 { // there is always one who waits for the turn, and begins before the last one's answer has left
		s, next := uint16(i%2+1), uint16((i+1)%2+1)
		if i == 0 {
			c.ok(c.begin(s, sqlchan.Immediate))
			c.ok(c.exec(s, "UPDATE t SET n = n + 1"))
		}
		begin := c.start(sqlchan.Begin, next, []byte{0, sqlchan.Immediate})
		c.ok(c.commit(s))
		c.ok(c.wait(next, begin))
		c.ok(c.exec(next, "UPDATE t SET n = n + 1"))
	}
	if n := db.walPages.Load(); n > checkpointHard+checkpointPages {
		t.Errorf("the log has %d pages", n)
	}
	made, most := db.checkpoints.Load(), int64(2*(checkpointHard/checkpointPages+1))
	if made < 2 || made > most {
		t.Errorf("%d checkpoints, at most %d are due", made, most)
	}
}
