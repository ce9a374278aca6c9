package sqld

import (
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

const (
	// maxGathered is how many answers leave together: with more, the client would do nothing while the worker does
	// everything, and then the other way round.
	maxGathered = 8
	// gatherFor is how long an answer waits for others, while the same goroutine is at work on them.
	gatherFor = 100_000 // nanoseconds
	// gatherRoom is the length up to which answers are gathered; maxSmall that of one that is.
	gatherRoom = 16 << 10
	maxSmall   = 4 << 10
)

// runner is a goroutine on a channel. It runs tasks, one at a time; one runner of a channel is its reader, and runs
// what it reads. Before a task waits or takes long its runner leaves all else to a new one.
type runner struct {
	ch      *channel
	reading bool
	todo    []*task // that can run once this one has ended: the next of its session, and who got the turn to write
	in      *packetBuffer
	rest    []byte // messages of in that are still to be handled
	out     gathered
}

// packetBuffer holds a packet; one more byte shows a packet that is too long. It is used by the task that runs out of it, and by
// whoever handles the rest of its messages.
type packetBuffer struct {
	b     [sqlchan.MaxPacket + 1]byte
	users atomic.Int32
}

var packetBuffers = sync.Pool{New: func() any { return new(packetBuffer) }}

func (b *packetBuffer) done() {
	if b != nil && b.users.Add(-1) == 0 {
		packetBuffers.Put(b)
	}
}

// run reads the channel until it ends or another goroutine has taken over.
func (r *runner) run() {
	debug.SetPanicOnFault(true) // a bad address in translated C becomes a panic that the task recovers
	ch := r.ch
	err := r.flush() // what the runner before had gathered
	for err == nil {
		if len(r.todo) > 0 {
			r.work(r.take())
			continue
		}
		if !r.reading || ch.ended.Load() {
			break
		}
		if len(r.rest) > 0 {
			err = r.part()
			continue
		}
		r.in.done()
		r.in = nil
		if err = r.flush(); err == nil && r.reading {
			err = r.receive()
		}
	}
	if err != nil {
		ch.end(err)
	}
	for len(r.todo) > 0 { // each is refused
		r.work(r.take())
	}
	r.in.done()
	ch.leave()
}

// handOff leaves all but the task that runs to another goroutine, before this one waits or works on. It never waits.
func (r *runner) handOff() {
	if !r.reading && len(r.todo) == 0 {
		return
	}
	n := &runner{ch: r.ch, reading: r.reading, todo: r.todo, rest: r.rest, out: r.out}
	if len(r.rest) > 0 {
		n.in = r.in
		n.in.users.Add(1)
	}
	r.reading, r.todo, r.rest, r.out = false, nil, nil, gathered{}
	r.ch.active.Add(1) // not zero: the caller is counted
	go n.run()
}

// pass gives the turn to write to the next who waits for it, if the session has it.
func (r *runner) pass(db *database, s *session) {
	switch t := db.writers.release(s); {
	case t == nil:
	case t.ch == r.ch:
		r.todo = append(r.todo, t)
	default:
		t.resume()
	}
}

func (r *runner) take() *task {
	t := r.todo[0]
	r.todo = append(r.todo[:0], r.todo[1:]...)
	return t
}

// work runs a task, and what its end lets run.
func (r *runner) work(t *task) {
	for {
		t.r = r
		if r.out.has(t.session) { // a session's answers leave in order
			if err := r.flush(); err != nil {
				r.ch.end(err)
			}
		}
		t.run()
		if t.parks {
			if !t.park() {
				continue
			}
		} else if next := r.ch.over(t); next != nil {
			r.todo = append(r.todo, next)
		}
		if len(r.todo) == 0 {
			return
		}
		t = r.take()
	}
}

// resume runs a task that waited without a goroutine, on one of its own.
func (t *task) resume() {
	ch, s := t.ch, t.session
	if !ch.enter() { // the channel has ended, and with it what the task was for
		ch.db.pass(s)
		return
	}
	go func() {
		r := &runner{ch: ch, todo: []*task{t}}
		r.run()
	}()
}

// pass gives the turn to write to the next who waits for it, if the session has it.
func (db *database) pass(s *session) {
	if t := db.writers.release(s); t != nil {
		t.resume()
	}
}

// receive waits for a packet and begins with it. No buffer is held while there is none.
func (r *runner) receive() error {
	buf, n, err := r.ch.receive()
	if err != nil {
		return err
	}
	r.in = buf
	h, payload, err := sqlchan.ParseHeader(buf.b[:n])
	if err != nil {
		return breach("%w", err)
	}
	if h.Epoch != r.ch.epoch {
		return nil // of before a RESET, which was its answer
	}
	if h.Type != sqlchan.BatchRequests {
		return r.message(h, payload)
	}
	if h.Session != 0 || h.Request != 0 || h.Flags != 0 || len(payload) == 0 {
		return breach("a batch of session %d, request %d, flags %#x and %d bytes: %w", h.Session, h.Request, h.Flags, len(payload), sqlchan.ErrMalformed)
	}
	r.ch.batches.Store(true)
	r.rest = payload
	return nil
}

// part handles the next message of a batch.
func (r *runner) part() error {
	h, payload, rest, err := sqlchan.CutPart(r.rest)
	if err != nil {
		return breach("%w", err)
	}
	r.rest = rest
	if h.Epoch != r.ch.epoch {
		return nil
	}
	return r.message(h, payload)
}

// message handles one message or a part of one.
func (r *runner) message(h sqlchan.Header, payload []byte) error {
	ch := r.ch
	if h.Session == 0 || h.Type < sqlchan.Exec || h.Type > sqlchan.Builtin {
		return breach("message of type %d, session %d: %w", h.Type, h.Session, sqlchan.ErrMalformed)
	}
	if h.Type == sqlchan.Credit || h.Type == sqlchan.Cancel {
		t, err := ch.notice(h, payload)
		if t != nil {
			r.work(t)
		}
		return err
	}
	message, state, err := ch.assemble(h, payload)
	if err != nil || state == partial {
		return err
	}
	if state == refused {
		return r.refuse(h, failure(sqlchan.CodeTooManyRequests, "the requests that wait hold too much memory"))
	}
	t, refusal, err := ch.request(h, message)
	if refusal != nil {
		return r.refuse(h, refusal)
	}
	if t != nil {
		r.work(t)
	}
	return err
}

// refuse answers a request that was not taken in.
func (r *runner) refuse(h sqlchan.Header, f *sqlchan.Failure) error {
	if err := r.flush(); err != nil {
		return err
	}
	p := sqlchan.Header{Type: sqlchan.Error, Session: h.Session, Request: h.Request, Epoch: r.ch.epoch}.Append(nil)
	return r.ch.send(sqlchan.AppendFailure(p, f), nil)
}

// gathered are answers that wait to leave together, as a batch with room for its header.
type gathered struct {
	buf      *[]byte
	n        int
	one      int // where the first one begins
	since    int64
	sessions [maxGathered]*session // whose they are
}

func (o *gathered) has(s *session) bool {
	for _, x := range o.sessions[:o.n] {
		if x == s {
			return true
		}
	}
	return false
}

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, gatherRoom); return &b }}

// gather keeps an answer for the next packet, if there may be one: only the reader does, which sends it before it waits.
func (r *runner) gather(t *task, p []byte) bool {
	o := &r.out
	if !r.reading || len(p) > maxSmall || !r.ch.batches.Load() {
		return false
	}
	if o.n == maxGathered || o.n > 0 && len(*o.buf)+len(p)+3 > gatherRoom {
		return false
	}
	if o.n == 0 {
		o.buf, o.since = gatherBuffers.Get().(*[]byte), t.ranAt
		*o.buf = sqlchan.Header{Type: sqlchan.BatchAnswers, Epoch: r.ch.epoch}.Append((*o.buf)[:0])
	}
	*o.buf = sqlchan.AppendPart(*o.buf, p)
	o.sessions[o.n] = t.session
	if o.n++; o.n == 1 {
		o.one = len(*o.buf) - len(p)
	}
	return true
}

// full tells that what was gathered should leave now.
func (o *gathered) full(at int64) bool {
	return o.n >= maxGathered || o.n > 0 && at-o.since > gatherFor
}

func (o *gathered) packet() []byte {
	if o.n == 1 {
		return (*o.buf)[o.one:]
	}
	return *o.buf
}

func (o *gathered) reset() {
	gatherBuffers.Put(o.buf)
	*o = gathered{}
}

// flush sends what was gathered.
func (r *runner) flush() error {
	if r.out.n == 0 {
		return nil
	}
	o := r.out
	r.out = gathered{}
	err := r.ch.send(o.packet(), r.handOff)
	o.reset()
	return err
}
