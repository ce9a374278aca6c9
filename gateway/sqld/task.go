package sqld

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

const (
	// inlineFor is how long a task may run on the goroutine that reads the channel.
	inlineFor = int64(200 * time.Microsecond)
	// creditTimeout is how long a result waits for its client to take more rows.
	creditTimeout = 30 * time.Second
	// flushAfter is how long rows wait for more to fill a message.
	flushAfter = int64(5 * time.Millisecond)
)

// Why a task stops.
const (
	running = iota
	stopCancelled
	stopEnded
	stopTimeout
)

type counters = sqlite.Counters

// task is one request that runs or waits. Its fields belong to the goroutine that
// runs it, but for stop, credit and wake.
type task struct {
	ch      *channel
	db      *database
	session *session
	conn    *conn
	typ     sqlchan.Type
	begins  byte // the flag that makes it begin a transaction first
	request uint32
	payload []byte
	size    int  // of the payload, which the channel holds
	kept    bool // the payload is the task's own, not a packet's
	r       *runner

	stop   atomic.Int32
	credit atomic.Int64
	wake   chan struct{} // look again at stop and credit

	began    int64
	ranAt    int64 // when its goroutine began with it
	deadline int64
	turn     int // the index of the turn it holds, or -1
	turnAt   int64
	ran      bool // a statement of it was run
	parks    bool // it asks for its turn to write, and to be run anew then
	again    bool // it did

	args  []argument
	out   output
	stats taskStats
	sql   []byte // of the request, for the audit
}

// taskStats are what a task adds to its database's counts.
type taskStats struct {
	read, written, rows, bytes int64
}

var tasks = sync.Pool{New: func() any { return &task{wake: make(chan struct{}, 1)} }}

func newTask(s *session, h sqlchan.Header) *task {
	t := tasks.Get().(*task)
	t.ch, t.db, t.session, t.typ, t.request = s.ch, s.ch.db, s, h.Type, h.Request
	t.begins = h.Flags &^ sqlchan.More
	t.turn = -1
	return t
}

// free makes the task ready for another request. Nothing refers to it any more.
func (t *task) free() {
	select {
	case <-t.wake:
	default:
	}
	clear(t.args)
	out := t.out
	out.reset()
	*t = task{wake: t.wake, args: t.args[:0], out: out}
	tasks.Put(t)
}

// keep copies the payload, whose packet is about to be given back.
func (t *task) keep() {
	if !t.kept {
		t.payload, t.kept = append([]byte(nil), t.payload...), true
	}
}

// signal asks the task to stop. The channel's mutex is held, so that the task still is that request.
func (t *task) signal(why int32) {
	t.stop.CompareAndSwap(running, why)
	t.poke()
}

func (t *task) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// maxCredit keeps the sum of a client's credits from overflowing.
const maxCredit = 1 << 40

func (t *task) addCredit(n uint64) {
	if t.credit.Add(int64(min(n, maxCredit))) > maxCredit {
		t.credit.Store(maxCredit)
	}
	t.poke()
}

// stopped is the error of a task that was stopped; nil if it was not.
func (t *task) stopped() *sqlchan.Failure {
	switch t.stop.Load() {
	case stopCancelled:
		return failure(sqlchan.CodeCancelled, "the statement was cancelled")
	case stopEnded:
		return failure(sqlchan.CodeCancelled, "the SQL channel has ended")
	case stopTimeout:
		return failure(sqlchan.CodeStatementTimeout, fmt.Sprintf("the statement ran longer than %v", time.Duration(t.deadline-t.began).Round(time.Millisecond)))
	}
	return nil
}

// progress is called again and again while SQLite works; true stops it.
func (t *task) progress() bool {
	if t.stop.Load() != running {
		return true
	}
	at := now()
	if at > t.deadline {
		t.stop.CompareAndSwap(running, stopTimeout)
		return true
	}
	if at-t.ranAt > inlineFor {
		t.r.handOff()
	}
	if t.out.rows > 0 && at-t.out.since > flushAfter && t.credit.Load() > 0 {
		t.flushEarly()
	}
	if t.turn >= 0 && at-t.turnAt > int64(quantum) {
		if !t.db.w.turns.others() {
			return false
		}
		t.r.handOff()
		t.releaseTurn()
		return t.takeTurn() != nil
	}
	return false
}

// expired tells whether the task should have ended; it only looks.
func (t *task) expired() bool {
	if t.stop.Load() == running && now() > t.deadline {
		t.stop.CompareAndSwap(running, stopTimeout)
	}
	return t.stop.Load() != running
}

// errStopped ends a task that was asked to.
var errStopped = errors.New("stopped")

// takeTurn waits for the task's turn to run.
func (t *task) takeTurn() error {
	q := t.db.w.turns
	index := q.tryAcquire(t.db)
	if index < 0 {
		t.r.handOff()
		w := q.wait(t.db)
		err := t.wait(w.ready)
		if err != nil {
			if q.leave(t.db, w) {
				q.release(t.db, w.index)
			}
			return err
		}
		index = w.index
	}
	t.turn, t.turnAt = index, now()
	r := &t.db.slot.Load().Running[index]
	r.Budget.Store(t.deadline - t.turnAt)
	r.Channel.Store(t.ch.id)
	r.Seq.Store(t.db.seq.Add(1))
	return nil
}

func (t *task) releaseTurn() {
	if t.turn < 0 {
		return
	}
	slot := t.db.slot.Load()
	slot.Running[t.turn].Seq.Store(0)
	slot.CPU.Add(now() - t.turnAt)
	t.db.w.turns.release(t.db, t.turn)
	t.turn = -1
}

// wait waits for ready, the deadline or a signal to stop.
func (t *task) wait(ready <-chan struct{}) error {
	timer := time.NewTimer(time.Duration(t.deadline - now()))
	defer timer.Stop()
	for {
		select {
		case <-ready:
			return nil
		case <-timer.C:
			t.stop.CompareAndSwap(running, stopTimeout)
		case <-t.wake:
		}
		if f := t.stopped(); f != nil {
			return f
		}
	}
}

// errParked ends the run of a task that is to be run anew when it is its turn to write.
var errParked = errors.New("waits for the turn to write")

// takeWriter waits for the session's turn to write. A task of which nothing has run yet waits without a goroutine, and
// holding nothing: whoever passes the turn on to it runs it.
func (t *task) takeWriter() error {
	q := &t.db.writers
	if q.try(t.session) {
		return nil
	}
	if t.session.conn == nil && !t.ran && (t.conn == nil || t.typ == sqlchan.Exec || t.typ == sqlchan.Query) {
		t.parks = true
		return errParked
	}
	held := t.turn >= 0
	w := q.wait(t.session) // before anybody else reads the channel: what comes later waits behind this
	t.r.handOff()
	t.releaseTurn()
	if err := t.wait(w.ready); err != nil {
		if q.leave(w) {
			t.db.pass(t.session)
		}
		if t.stop.Load() == stopTimeout {
			err = t.busy()
		}
		return err
	}
	if held {
		if err := t.takeTurn(); err != nil {
			t.db.pass(t.session)
			return err
		}
	}
	return nil
}

// park has the task wait for its turn to write; false if it has that already. From then on it is somebody else's.
func (t *task) park() bool {
	t.keep()
	t.parks, t.again = false, true
	ch, s, q := t.ch, t.session, &t.db.writers
	if !q.park(t) {
		return false
	}
	// A channel that has just ended may not have seen the task in the queue.
	return !ch.ended.Load() || !q.unpark(t, s)
}

// busy is the failure of a task whose deadline came before its turn to write.
func (t *task) busy() *sqlchan.Failure {
	return failure(sqlchan.CodeBusy, fmt.Sprintf("other sessions were writing for all of the %v that the statement had", time.Duration(t.deadline-t.began).Round(time.Millisecond)))
}

// takeCredit takes one credit for a ROWS message, waiting for the client to give more.
func (t *task) takeCredit() error {
	if t.credit.Load() > 0 {
		t.credit.Add(-1)
		return nil
	}
	t.r.handOff()
	held := t.turn >= 0
	t.releaseTurn()
	began := now()
	timer := time.NewTimer(creditTimeout)
	defer timer.Stop()
	for t.credit.Load() <= 0 {
		select {
		case <-timer.C:
			return failure(sqlchan.CodeStatementTimeout, fmt.Sprintf("the client took no rows for %v", creditTimeout))
		case <-t.wake:
		}
		if f := t.stopped(); f != nil {
			return f
		}
	}
	t.credit.Add(-1)
	t.deadline += now() - began // a client's pace is not the statement's
	if held {
		return t.takeTurn()
	}
	return nil
}

// aside does what waits for the disk without the task's turn.
func (t *task) aside(f func() error) error {
	held := t.turn >= 0
	t.r.handOff()
	t.releaseTurn()
	if err := f(); err != nil {
		return err
	}
	if held {
		return t.takeTurn()
	}
	return nil
}

// run answers the request, whatever happens.
func (t *task) run() {
	if t.ranAt = now(); !t.again {
		t.began = t.ranAt
	}
	defer func() {
		if p := recover(); p != nil {
			t.panicked(p, debug.Stack())
		}
	}()
	t.answer()
	t.settle()
}

// passOn gives up the turns before the answer is sent: the next writer need not wait until that has left and
// the client is awake.
func (t *task) passOn() {
	t.releaseTurn()
	_, first := t.db.checkpointDue()
	if c := t.conn; c != nil && !c.Writing() && !first {
		t.r.pass(t.db, t.session)
	}
}

// settle gives back what the task held, once its answer is on its way.
func (t *task) settle() {
	c := t.conn
	s := t.session
	if c == nil {
		t.releaseTurn()
		if s.conn == nil { // it may have got its turn to write, but no connection
			t.r.pass(t.db, s)
		}
		return
	}
	inTx := !c.AutoCommit()
	t.releaseTurn()
	if !c.Writing() {
		if _, first := t.db.checkpointDue(); first {
			t.r.handOff()
			t.db.checkpoint(c, false)
		}
		t.r.pass(t.db, s)
	}
	t.ch.setInTx(s, inTx)
	c.task, t.conn = nil, nil
	if inTx || c.changed {
		s.conn = c
		return
	}
	s.conn = nil
	c.alarm = 0 // of a transaction that was rolled back
	s.counters = c.Counters()
	if due, _ := t.db.checkpointDue(); due {
		t.r.handOff()
		t.db.checkpoint(c, false)
	}
	t.db.giveBack(c)
}

// panicked quarantines the connection: what SQLite's memory holds is not known any more.
func (t *task) panicked(p any, stack []byte) {
	if t.conn != nil {
		t.conn.broken = true
		t.conn.afterCommit()
		t.conn.task = nil
		t.session.conn = nil
		t.db.drop(t.conn)
		t.conn = nil
	}
	t.releaseTurn()
	t.r.pass(t.db, t.session)
	t.ch.setInTx(t.session, false)
	t.ch.w.broke(t.ch, fmt.Sprintf("panic: %v", p), stack)
	t.out.reset()
	t.fail(failure(sqlchan.CodeInternal, "the SQL worker failed while it ran the statement"))
}
