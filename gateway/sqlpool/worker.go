package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"golang.org/x/sys/unix"
)

// errReplaced ends what waits for a worker that has died.
var errReplaced = errors.New("the SQL worker was replaced")

// grace is how long past its deadline a statement may stay before its worker is killed.
const grace = time.Second

// maxRespawnDelay bounds the wait before a worker that dies at once is started again.
const maxRespawnDelay = time.Second

// worker is one of the pool's places for a process, and what is attached to it.
type worker struct {
	pool   *Pool
	index  int
	memory *os.File
	shared *control.Shared

	nextChannel atomic.Uint64
	nextCall    atomic.Uint64

	mu       sync.Mutex    // guards what follows
	ready    chan struct{} // closed while a process runs
	process  Worker
	conn     *control.Conn
	calls    map[uint64]func(error)
	channels map[uint64]*Channel
	places   map[string]*place
	free     []int
	next     int
	seen     map[runningKey]sighting
	culprit  map[uint64]error // channels that end with the process
	closed   bool
}

// place is a database's slot in the shared memory.
type place struct {
	file  string
	index int
	refs  int
}

// runningKey names a statement that runs, sighting when it was first seen.
type runningKey struct{ slot, index int }
type sighting struct {
	seq uint64
	at  time.Time
}

func newWorker(p *Pool, index int) (*worker, error) {
	memory, shared, err := control.CreateShared()
	if err != nil {
		return nil, err
	}
	return &worker{
		pool: p, index: index, memory: memory, shared: shared, ready: make(chan struct{}),
		calls: map[uint64]func(error){}, channels: map[uint64]*Channel{}, places: map[string]*place{},
		seen: map[runningKey]sighting{}, culprit: map[uint64]error{},
	}, nil
}

// start starts a process and attaches the channels that are there to it.
func (w *worker) start(ctx context.Context) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer theirs.Close()
	conn, err := control.NewConn(ours)
	if err != nil {
		ours.Close()
		return err
	}
	process, err := w.pool.cfg.Spawn(ctx, w.index, theirs, w.memory)
	if err != nil {
		conn.Close()
		return err
	}
	if err := conn.Send(&control.Message{Op: control.Configure, Memory: w.pool.cfg.Memory, Idle: w.pool.cfg.IdleMemory}, nil); err != nil {
		process.Kill()
		conn.Close()
		return err
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		conn.Close()
		process.Kill()
		<-process.Done()
		return ErrClosed
	}
	w.process, w.conn = process, conn
	again := make([]*Channel, 0, len(w.channels))
	for _, c := range w.channels {
		again = append(again, c)
	}
	close(w.ready)
	w.mu.Unlock()
	w.pool.wg.Add(1)
	go w.receive(conn)
	for _, c := range again {
		w.reattach(conn, c)
	}
	return nil
}

// reattach hands a channel to a process that replaces another.
func (w *worker) reattach(conn *control.Conn, c *Channel) {
	c.mu.Lock()
	c.epoch++
	end := c.workerEnd
	m := w.attachMessage(c)
	m.Reason = "the SQL worker was replaced"
	c.mu.Unlock()
	if end == nil {
		return
	}
	err := w.send(conn, m, end, func(err error) {
		if err != nil && !errors.Is(err, errReplaced) {
			w.drop(c, fmt.Errorf("attach to a new SQL worker: %w", err))
		}
	})
	if err != nil {
		w.pool.cfg.Log.Warn("SQL channel not handed to the new worker", "worker", w.index, "error", err)
	}
}

// attachMessage describes a channel. Its mutex is held.
func (w *worker) attachMessage(c *Channel) *control.Message {
	return &control.Message{
		Op: control.Attach, Channel: c.id, Slot: c.place.index, File: c.options.File, Epoch: c.epoch,
		Limits: c.options.Limits.control(), Audited: c.options.Audit, ReadOnly: c.options.ReadOnly,
	}
}

// current waits for a process that runs.
func (w *worker) current(ctx context.Context) (*control.Conn, error) {
	for {
		w.mu.Lock()
		ready, conn, closed := w.ready, w.conn, w.closed
		w.mu.Unlock()
		if closed {
			return nil, ErrClosed
		}
		select {
		case <-ready:
			if conn != nil {
				return conn, nil
			}
			// Between two processes: ready was closed for one that has died since.
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.pool.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// send sends a message; done is called with its reply, or an error if there will be none.
func (w *worker) send(conn *control.Conn, m *control.Message, f *os.File, done func(error)) error {
	m.ID = w.nextCall.Add(1)
	w.mu.Lock()
	if w.conn != conn {
		w.mu.Unlock()
		return errReplaced
	}
	w.calls[m.ID] = done
	w.mu.Unlock()
	if err := conn.Send(m, f); err != nil {
		w.mu.Lock()
		delete(w.calls, m.ID)
		w.mu.Unlock()
		return err
	}
	return nil
}

// callOnce sends a message to the process of now and waits for its reply. The
// error is errReplaced if that dies meanwhile.
func (w *worker) callOnce(ctx context.Context, m *control.Message, f *os.File) error {
	conn, err := w.current(ctx)
	if err != nil {
		return err
	}
	return w.callOn(ctx, conn, m, f)
}

func (w *worker) callOn(ctx context.Context, conn *control.Conn, m *control.Message, f *os.File) error {
	reply := make(chan error, 1)
	if err := w.send(conn, m, f, func(err error) { reply <- err }); err != nil {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrClosed) {
			return errReplaced
		}
		return err
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call repeats what a process did not live to do; the orders it is used for may be repeated.
func (w *worker) call(ctx context.Context, m *control.Message) error {
	for {
		err := w.callOnce(ctx, m, nil)
		if !errors.Is(err, errReplaced) {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attach hands a new channel to the process. Once it is registered a
// replacement gets it too, so that the first one's death does not matter.
func (w *worker) attach(ctx context.Context, c *Channel) error {
	for {
		conn, err := w.current(ctx)
		if err != nil {
			return err
		}
		w.mu.Lock()
		if w.conn != conn {
			w.mu.Unlock()
			continue
		}
		w.channels[c.id] = c
		w.mu.Unlock()
		c.mu.Lock()
		m, end := w.attachMessage(c), c.workerEnd
		c.mu.Unlock()
		err = w.callOn(ctx, conn, m, end)
		if err == nil || errors.Is(err, errReplaced) {
			return nil
		}
		w.mu.Lock()
		delete(w.channels, c.id)
		w.mu.Unlock()
		return err
	}
}

// detach takes a channel back.
func (w *worker) detach(ctx context.Context, c *Channel) error {
	w.mu.Lock()
	_, attached := w.channels[c.id]
	delete(w.channels, c.id)
	w.mu.Unlock()
	if !attached {
		return nil
	}
	return w.callOnce(ctx, &control.Message{Op: control.Detach, Channel: c.id}, nil)
}

// drop ends a channel that the worker has let go of.
func (w *worker) drop(c *Channel, err error) {
	w.mu.Lock()
	delete(w.channels, c.id)
	w.mu.Unlock()
	c.end(err)
}

// receive handles what a process says, until it has nothing more to say.
func (w *worker) receive(conn *control.Conn) {
	defer w.pool.wg.Done()
	for {
		m, f, err := conn.Receive()
		if err != nil {
			return
		}
		if f != nil {
			f.Close()
		}
		switch m.Op {
		case control.Reply:
			w.mu.Lock()
			done := w.calls[m.ID]
			delete(w.calls, m.ID)
			w.mu.Unlock()
			if done != nil {
				var err error
				if m.Error != "" {
					err = errors.New(m.Error)
				}
				done(err)
			}
		case control.Ended:
			if c := w.channel(m.Channel); c != nil {
				w.drop(c, fmt.Errorf("%w: %s", ErrBreach, strings.TrimPrefix(m.Error, ErrBreach.Error()+": ")))
			}
		case control.Broken:
			w.pool.cfg.Log.Error("SQL worker broke", "worker", w.index, "reason", m.Error, "stack", m.Reason)
			w.condemn(m.Channel, fmt.Errorf("%w: %s", ErrStuck, m.Error))
		case control.Audit:
			if c := w.channel(m.Channel); c != nil && m.Record != nil && w.pool.cfg.OnAudit != nil {
				w.pool.cfg.OnAudit(c, *m.Record)
			}
		}
	}
}

func (w *worker) channel(id uint64) *Channel {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.channels[id]
}

// condemn kills the process because of a channel, which ends with it.
func (w *worker) condemn(channel uint64, err error) {
	w.mu.Lock()
	if w.culprit[channel] == nil {
		w.culprit[channel] = err
	}
	process := w.process
	w.mu.Unlock()
	if process != nil {
		if err := process.Kill(); err != nil {
			w.pool.cfg.Log.Error("SQL worker not killed", "worker", w.index, "error", err)
		}
	}
}

// watch kills the process if a statement of it has outstayed its deadline.
func (w *worker) watch(at time.Time) {
	w.mu.Lock()
	var stuck []uint64
	for _, pl := range w.places {
		slot := w.shared.Slot(pl.index)
		for i := range slot.Running {
			r := &slot.Running[i]
			key := runningKey{pl.index, i}
			seq := r.Seq.Load()
			if seq == 0 {
				delete(w.seen, key)
				continue
			}
			if w.seen[key].seq != seq {
				w.seen[key] = sighting{seq, at}
				continue
			}
			if at.Sub(w.seen[key].at) > time.Duration(r.Budget.Load())+grace && r.Seq.Load() == seq {
				stuck = append(stuck, r.Channel.Load())
			}
		}
	}
	running := w.process != nil
	w.mu.Unlock()
	if !running {
		return
	}
	for _, id := range stuck {
		w.condemn(id, fmt.Errorf("%w: it did not come back within %v of its deadline", ErrStuck, grace))
	}
}

// supervise replaces the process whenever it has died.
func (w *worker) supervise() {
	defer w.pool.wg.Done()
	delay := time.Duration(0)
	for {
		w.mu.Lock()
		process := w.process
		w.mu.Unlock()
		began := time.Now()
		<-process.Done()
		w.buried()
		for {
			if time.Since(began) > 10*time.Second {
				delay = 0
			}
			select {
			case <-w.pool.ctx.Done():
				return
			case <-time.After(delay):
			}
			delay = min(max(2*delay, 10*time.Millisecond), maxRespawnDelay)
			err := w.start(w.pool.ctx)
			if err == nil {
				break
			}
			if w.pool.ctx.Err() != nil {
				return
			}
			w.pool.cfg.Log.Error("SQL worker not started", "worker", w.index, "error", err)
		}
	}
}

// buried clears up after a process that has been reaped.
func (w *worker) buried() {
	at := time.Now()
	w.mu.Lock()
	conn, calls := w.conn, w.calls
	w.conn, w.process, w.calls = nil, nil, map[uint64]func(error){}
	w.ready = make(chan struct{})
	clear(w.seen)
	ended := map[*Channel]error{}
	for id, err := range w.culprit {
		if c := w.channels[id]; c != nil {
			ended[c] = err
		}
	}
	clear(w.culprit)
	byHand := len(ended) > 0
	for _, pl := range w.places {
		slot := w.shared.Slot(pl.index)
		for i := range slot.Running {
			if slot.Running[i].Seq.Load() == 0 || byHand {
				continue
			}
			if c := w.channels[slot.Running[i].Channel.Load()]; c != nil && c.suspect(at) {
				ended[c] = fmt.Errorf("%w: it died %d times within %v while a statement of this channel ran", ErrStuck, suspectTimes, suspectWindow)
			}
		}
		slot.Stopped()
	}
	for c := range ended {
		delete(w.channels, c.id)
	}
	left := len(w.channels)
	w.mu.Unlock()
	conn.Close()
	for _, done := range calls {
		done(errReplaced)
	}
	for c, err := range ended {
		c.end(err)
	}
	if w.pool.ctx.Err() == nil {
		w.pool.cfg.Log.Warn("SQL worker died and is replaced", "worker", w.index, "channels", left, "ended", len(ended))
	}
}

// shutdown lets the process close its databases and end.
func (w *worker) shutdown() {
	w.mu.Lock()
	w.closed = true
	process, conn := w.process, w.conn
	w.mu.Unlock()
	if process == nil {
		return
	}
	conn.Close()
	select {
	case <-process.Done():
	case <-time.After(closeTimeout):
		process.Kill()
		<-process.Done()
	}
}

// takePlace finds a database's slot, or gives it one.
func (w *worker) takePlace(file string) (*place, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pl := w.places[file]
	if pl == nil {
		index := w.next
		if n := len(w.free); n > 0 {
			index = w.free[n-1]
			w.free = w.free[:n-1]
		} else if w.next >= control.MaxSlots {
			return nil, ErrFull
		} else {
			w.next++
		}
		pl = &place{file: file, index: index}
		w.places[file] = pl
		w.shared.Slot(index).Clear()
	}
	pl.refs++
	return pl, nil
}

func (w *worker) leavePlace(pl *place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if pl.refs--; pl.refs == 0 {
		delete(w.places, pl.file)
		w.free = append(w.free, pl.index)
	}
}
