package sqld

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

const (
	// maxHeld bounds what one channel's requests and rows hold of Go's memory at
	// once, being assembled, waiting, running or being sent; maxHeldAll what all
	// channels of the worker do. A request of up to smallRequest is taken even then.
	maxHeld      = 32 << 20
	maxHeldAll   = 192 << 20
	smallRequest = 4 << 10
	// maxAssembly bounds those that are being assembled (SPEC §1).
	maxAssembly = sqlchan.MaxMessage
)

// errBreach is wrapped by the reasons for which a channel ends that are its client's fault.
var errBreach = errors.New("SQL channel")

func breach(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errBreach, fmt.Errorf(format, args...))
}

// errGone says that the client closed its end.
var errGone = errors.New("the client closed the SQL channel")

// channel is one client's channel. One goroutine at a time reads from it and runs
// what it reads (runner); when that takes longer, another takes over reading. So a short
// statement costs no switch between goroutines, and CANCEL is always read.
type channel struct {
	w        *worker
	db       *database
	id       uint64
	epoch    uint32
	readOnly bool
	audited  atomic.Bool // each statement is told to the gateway

	sock *sqlchan.Socket // open until finish

	active  atomic.Int32 // goroutines on the channel; the last one out finishes it
	ended   atomic.Bool
	batches atomic.Bool   // the client knows BATCH
	closed  chan struct{} // closed by finish
	held    atomic.Int64  // bytes of requests and rows

	mu       sync.Mutex // guards what follows
	err      error      // why it ended
	sessions map[uint16]*session
	live     map[uint32]*task // unanswered requests
	parts    map[uint32]*assembly
	partial  int      // bytes in parts
	waiting  int      // tasks that wait to send
	room     *os.File // what they wait with
}

// assembly is a message of which more packets are to come.
type assembly struct {
	h       sqlchan.Header
	payload []byte
	refused bool // there was no room: the rest is dropped, and the request answered so
}

// hold takes room for n bytes, and tells whether there was any.
func (ch *channel) hold(n int) bool {
	all := ch.w.held.Add(int64(n))
	if ch.held.Add(int64(n)) > maxHeld || all > maxHeldAll && n > smallRequest {
		ch.letGo(n)
		return false
	}
	return true
}

func (ch *channel) letGo(n int) {
	ch.held.Add(-int64(n))
	ch.w.held.Add(-int64(n))
}

// session is one conversation with the database. Its fields belong to the task
// that runs; busy, queue and idle times are guarded by the channel's mutex.
type session struct {
	ch       *channel
	id       uint16
	conn     *conn // kept while a transaction is open or its settings differ
	counters counters
	readOnly bool // a BEGIN told so
	inTx     bool

	busy      bool
	queue     []*task
	idleSince int64 // when the last request of an open transaction ended
	expired   bool  // the transaction was rolled back; its next request is told
}

// buffers hold packets that are sent.
var buffers = sync.Pool{New: func() any { b := make([]byte, sqlchan.MaxPacket); return &b }}

// enter counts a goroutine in; false if the channel has ended.
func (ch *channel) enter() bool {
	for {
		n := ch.active.Load()
		if n == 0 {
			return false
		}
		if ch.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (ch *channel) leave() {
	if ch.active.Add(-1) == 0 {
		ch.finish()
	}
}

// receive waits for a packet. No buffer is held while there is none.
func (ch *channel) receive() (buf *packetBuffer, n int, err error) {
	var opErr error
	err = ch.sock.Wait(func(uintptr) bool {
		if buf == nil {
			buf = packetBuffers.Get().(*packetBuffer)
		}
		n, opErr = ch.sock.Read(buf.b[:])
		if opErr == unix.EAGAIN {
			packetBuffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case ch.ended.Load():
		err = errGone
	case err != nil:
	case opErr == unix.ECONNRESET:
		err = errGone
	case opErr != nil:
		err = fmt.Errorf("read the SQL channel: %w", opErr)
	case n == 0:
		err = errGone
	}
	if err != nil {
		if buf != nil {
			packetBuffers.Put(buf)
		}
		return nil, 0, err
	}
	buf.users.Store(1)
	return buf, n, nil
}

// notice handles CREDIT and CANCEL, which concern a request that may be answered already. It returns the task that is
// to be run since it need not wait any more.
func (ch *channel) notice(h sqlchan.Header, payload []byte) (*task, error) {
	r := sqlchan.NewReader(payload)
	var credit uint64
	if h.Type == sqlchan.Credit {
		credit = r.Uvarint()
	}
	if err := r.End(); err != nil || h.Flags != 0 {
		return nil, breach("message of type %d: %w", h.Type, sqlchan.ErrMalformed)
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	t := ch.live[h.Request]
	if t == nil || t.session.id != h.Session {
		return nil, nil
	}
	if h.Type == sqlchan.Cancel {
		t.signal(stopCancelled)
		if ch.db.writers.unpark(t, t.session) {
			return t, nil
		}
		return nil, nil
	}
	t.addCredit(credit)
	return nil, nil
}

// What a packet made of its message.
type messageState int

const (
	partial messageState = iota // there is more to come
	whole
	refused // there was no room for it
)

// assemble joins the packets of a message, and takes room for it.
func (ch *channel) assemble(h sqlchan.Header, payload []byte) (all []byte, state messageState, err error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	a := ch.parts[h.Request]
	if a == nil {
		if h.Flags&sqlchan.More == 0 {
			if !ch.hold(len(payload)) {
				return nil, refused, nil
			}
			return payload, whole, nil
		}
		if len(ch.parts) >= sqlchan.MaxSessions*sqlchan.MaxPipeline {
			return nil, partial, breach("more unfinished messages than requests may wait: %w", sqlchan.ErrMalformed)
		}
		a = &assembly{h: h}
		ch.parts[h.Request] = a
	}
	if a.h.Type != h.Type || a.h.Session != h.Session || (a.h.Flags^h.Flags)&^sqlchan.More != 0 {
		return nil, partial, breach("request %d goes on as another: %w", h.Request, sqlchan.ErrMalformed)
	}
	if !a.refused {
		if ch.partial += len(payload); ch.partial > maxAssembly {
			return nil, partial, breach("more than %d bytes of unfinished messages: %w", maxAssembly, sqlchan.ErrMalformed)
		}
		a.payload = append(a.payload, payload...)
		if !ch.hold(len(payload)) {
			ch.partial -= len(a.payload)
			ch.letGo(len(a.payload) - len(payload))
			a.refused, a.payload = true, nil
		}
	}
	if h.Flags&sqlchan.More != 0 {
		return nil, partial, nil
	}
	delete(ch.parts, h.Request)
	ch.partial -= len(a.payload)
	if a.refused {
		return nil, refused, nil
	}
	return a.payload, whole, nil
}

// request takes a whole request in: it is to be run at once if its session is free, else it waits there (nil).
func (ch *channel) request(h sqlchan.Header, payload []byte) (run *task, refusal *sqlchan.Failure, err error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.live[h.Request] != nil {
		return nil, nil, breach("request %d while one of that number is unanswered: %w", h.Request, sqlchan.ErrMalformed)
	}
	s := ch.sessions[h.Session]
	switch {
	case s == nil && len(ch.sessions) >= sqlchan.MaxSessions:
		refusal = failure(sqlchan.CodeTooManySessions, fmt.Sprintf("more than %d sessions are open", sqlchan.MaxSessions))
	case s != nil && len(s.queue) >= sqlchan.MaxPipeline:
		refusal = failure(sqlchan.CodeTooManyRequests, fmt.Sprintf("more than %d requests wait in the session", sqlchan.MaxPipeline))
	}
	if refusal != nil {
		refusal.InTx = s != nil && s.inTx
		ch.letGo(len(payload))
		return nil, refusal, nil
	}
	if s == nil {
		s = &session{ch: ch, id: h.Session}
		ch.sessions[h.Session] = s
	}
	t := newTask(s, h)
	t.payload, t.size = payload, len(payload)
	ch.live[h.Request] = t
	if s.busy {
		t.keep()
		s.queue = append(s.queue, t)
		return nil, nil, nil
	}
	s.busy = true
	return t, nil, nil
}

// over takes leave of a task that has run, and returns the one behind it in its session.
func (ch *channel) over(t *task) (next *task) {
	s := t.session
	ch.mu.Lock()
	if ch.live[t.request] == t {
		delete(ch.live, t.request)
	}
	ch.letGo(t.size)
	if len(s.queue) > 0 {
		next = s.queue[0]
		s.queue = append(s.queue[:0], s.queue[1:]...)
	} else {
		s.busy = false
	}
	ch.mu.Unlock()
	t.free()
	return next
}

// answered forgets a request before its last message is sent: its number is the
// client's again from then on.
func (ch *channel) answered(t *task) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.live[t.request] == t {
		delete(ch.live, t.request)
	}
}

// end begins the channel's end: everything that runs or waits is stopped.
func (ch *channel) end(err error) {
	ch.mu.Lock()
	if ch.err == nil {
		ch.err = err
	}
	first := !ch.ended.Swap(true)
	for _, t := range ch.live {
		t.signal(stopEnded)
		ch.db.writers.unpark(t, t.session) // nobody waits for its answer
	}
	if first {
		ch.sock.Wake()
		if ch.room != nil {
			ch.room.SetDeadline(time.Unix(1, 0))
		}
	}
	ch.mu.Unlock()
}

// finish gives back what the sessions hold. No goroutine is on the channel any more.
func (ch *channel) finish() {
	for _, s := range ch.sessions {
		s.release()
	}
	ch.w.held.Add(-ch.held.Swap(0)) // of what was never whole
	ch.sock.Close()
	ch.w.finished(ch)
	close(ch.closed)
}
