package sqld

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

const (
	// maxCheckpoints run at once: each waits for the disk on a thread of its own.
	maxCheckpoints = 4
	// idleFor is how long a connection stays open that nobody uses.
	idleFor = 60 * time.Second
	// janitorEvery is how exactly idle times are kept.
	janitorEvery = 250 * time.Millisecond
)

// notify sends a message to the gateway; with wait it waits for room, else it
// tells whether there was any.
type notify func(m *control.Message, wait bool) (sent bool)

// worker is the process: databases, the channels to them, and what they share.
type worker struct {
	turns       *turns
	checkpoints chan struct{}
	idleBytes   int64        // that idle connections may keep open
	held        atomic.Int64 // bytes of requests and rows of all channels
	maxIdle     int          // idle connections; each has two descriptors
	notify      notify
	dropped     atomic.Int64 // audit records that the gateway had no room for

	mu        sync.Mutex // guards what follows
	databases map[string]*database
	objects   map[string]*object // by directory; each as long as one of databases lies in it
	channels  map[uint64]*channel
	idle      []*conn               // connections in use by nobody, the one idle longest first
	inTx      map[*session]struct{} // with a transaction open
	stopped   chan struct{}
}

func newWorker(idleBytes int64, notify notify) *worker {
	w := &worker{
		turns: newTurns(), checkpoints: make(chan struct{}, maxCheckpoints), idleBytes: idleBytes, maxIdle: maxIdle(), notify: notify,
		databases: map[string]*database{}, objects: map[string]*object{}, channels: map[uint64]*channel{}, inTx: map[*session]struct{}{}, stopped: make(chan struct{}),
	}
	go w.janitor()
	return w
}

// database finds or makes the state of a file, and counts a reference to it.
// Limits are those that it gets if it is new.
func (w *worker) database(file string, limits *control.Limits) (*database, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	db := w.databases[file]
	if db == nil {
		account, err := sqlite.NewAccount(limits.Memory)
		if err != nil {
			return nil, err
		}
		db = &database{w: w, file: file, account: account, lastUsed: time.Now()}
		db.slot.Store(new(control.Slot))
		db.lim.Store(limits)
		w.databases[file] = db
		w.join(db)
	}
	db.mu.Lock()
	db.refs++
	db.mu.Unlock()
	return db, nil
}

// limit sets other limits. Connections keep the quota that they were opened
// with, so those that are idle are closed.
func (db *database) limit(limits *control.Limits) {
	if old := db.lim.Swap(limits); *old != *limits {
		db.account.SetLimit(limits.Memory)
		db.closeIdle()
	}
}

// attach begins to serve a channel.
func (w *worker) attach(f *os.File, id uint64, file string, slot *control.Slot, m *control.Message) (*channel, error) {
	db, err := w.database(file, m.Limits)
	if err != nil {
		return nil, err
	}
	db.limit(m.Limits)
	if slot != nil {
		db.slot.Store(slot)
	}
	ch := &channel{
		w: w, db: db, id: id, epoch: m.Epoch, readOnly: m.ReadOnly,
		closed: make(chan struct{}), sessions: map[uint16]*session{}, live: map[uint32]*task{}, parts: map[uint32]*assembly{},
	}
	ch.audited.Store(m.Audited)
	if ch.sock, err = sqlchan.NewSocket(f); err != nil {
		w.unref(db)
		return nil, fmt.Errorf("channel: %w", err)
	}
	if m.Epoch > 0 {
		if err := ch.sendReset(m.Reason); err != nil {
			ch.sock.Close()
			w.unref(db)
			return nil, err
		}
	}
	w.mu.Lock()
	w.channels[id] = ch
	w.mu.Unlock()
	ch.active.Store(1)
	go (&runner{ch: ch, reading: true}).run()
	return ch, nil
}

// finished forgets a channel that has given back everything.
func (w *worker) finished(ch *channel) {
	w.mu.Lock()
	delete(w.channels, ch.id)
	w.mu.Unlock()
	w.unref(ch.db)
	ch.mu.Lock()
	err := ch.err
	ch.mu.Unlock()
	if err != nil && err != errDetached && err != errGone {
		w.notify(&control.Message{Op: control.Ended, Channel: ch.id, Error: err.Error()}, true)
	}
}

// unref counts a channel out; the last one takes the shared slot along, which
// the gateway may give to another database.
func (w *worker) unref(db *database) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.refs--
	db.lastUsed = time.Now()
	if db.refs == 0 {
		db.slot.Store(new(control.Slot))
		db.far = unsynced{}
	}
}

// detach takes a channel back for the gateway.
func (w *worker) detach(id uint64) { w.endAndWait(id, errDetached) }

// setAudit says whether a channel's statements are told to the gateway from now on.
func (w *worker) setAudit(id uint64, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch := w.channels[id]; ch != nil {
		ch.audited.Store(on)
	}
}

// endAndWait ends a channel and waits until it has given back everything.
func (w *worker) endAndWait(id uint64, why error) {
	w.mu.Lock()
	ch := w.channels[id]
	w.mu.Unlock()
	if ch != nil {
		ch.end(why)
		<-ch.closed
	}
}

// broke tells the gateway that the process can't be trusted any more.
func (w *worker) broke(ch *channel, reason string, stack []byte) {
	if len(stack) > 8<<10 {
		stack = stack[:8<<10]
	}
	w.notify(&control.Message{Op: control.Broken, Channel: ch.id, Error: reason, Reason: string(stack)}, true)
}

// returned puts a connection into the list of idle ones. Its database must not offer it before.
func (w *worker) returned(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.returned = time.Now()
	w.idle = append(w.idle, c)
	c.pos = len(w.idle) - 1
}

// trim closes idle connections where they hold too much.
func (w *worker) trim() {
	w.mu.Lock()
	over := len(w.idle) > w.maxIdle
	w.mu.Unlock()
	if over || sqlite.Total() > w.idleBytes {
		w.evict(func(*conn) bool { return len(w.idle) > w.maxIdle || sqlite.Total() > w.idleBytes })
	}
}

// maxIdle leaves most of the process's descriptors to channels and to what is in use.
func maxIdle() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 256
	}
	return int(min(r.Cur, 16384) / 4)
}

// leased takes a connection out of the list.
func (w *worker) leased(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.pos < len(w.idle) && w.idle[c.pos] == c {
		w.idle[c.pos] = nil // evict skips it; the janitor closes the gaps
	}
}

// evict closes idle connections, the one idle longest first, as long as more says so.
func (w *worker) evict(more func(*conn) bool) {
	w.mu.Lock()
	w.compact()
	w.mu.Unlock()
	for at := 0; ; {
		w.mu.Lock()
		for at < len(w.idle) && w.idle[at] == nil {
			at++
		}
		if at >= len(w.idle) || !more(w.idle[at]) {
			w.mu.Unlock()
			return
		}
		c := w.idle[at]
		w.mu.Unlock()
		if !c.db.takeIdle(c) {
			at++ // it was leased meanwhile
			continue
		}
		w.leased(c)
		c.db.drop(c)
		w.mu.Lock()
		w.compact()
		w.mu.Unlock()
	}
}

// takeIdle takes one connection out of its database's idle ones.
func (db *database) takeIdle(c *conn) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	for i, x := range db.idle {
		if x == c {
			db.idle = append(db.idle[:i], db.idle[i+1:]...)
			return true
		}
	}
	return false
}

func (w *worker) watch(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inTx[s] = struct{}{}
}

func (w *worker) unwatch(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.inTx, s)
}

// janitor ends transactions that idle, closes connections that nobody uses, and
// forgets databases without any.
func (w *worker) janitor() {
	tick := time.NewTicker(janitorEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stopped:
			return
		case <-tick.C:
		}
		w.mu.Lock()
		sessions := make([]*session, 0, len(w.inTx))
		for s := range w.inTx {
			sessions = append(sessions, s)
		}
		w.compact()
		w.mu.Unlock()
		for _, s := range sessions {
			s.expire(now() - int64(s.ch.db.limits().TxIdle))
		}
		old := time.Now().Add(-idleFor)
		w.evict(func(c *conn) bool { return c.returned.Before(old) })
		w.forget()
	}
}

// compact closes the gaps in the list of idle connections.
func (w *worker) compact() {
	kept := w.idle[:0]
	for _, c := range w.idle {
		if c != nil {
			c.pos = len(kept)
			kept = append(kept, c)
		}
	}
	clear(w.idle[len(kept):])
	w.idle = kept
}

// forget drops databases without channels and connections.
func (w *worker) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for file, db := range w.databases {
		db.mu.Lock()
		if db.refs == 0 && db.open == 0 {
			delete(w.databases, file)
			w.part(db)
			db.account.Close()
		}
		db.mu.Unlock()
	}
}

// stop closes every channel and connection.
func (w *worker) stop() {
	close(w.stopped)
	w.mu.Lock()
	ids := make([]uint64, 0, len(w.channels))
	for id := range w.channels {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	for _, id := range ids {
		w.detach(id)
	}
	w.mu.Lock()
	dbs := make([]*database, 0, len(w.databases))
	for _, db := range w.databases {
		dbs = append(dbs, db)
	}
	w.mu.Unlock()
	for _, db := range dbs {
		db.closeIdle()
	}
}
