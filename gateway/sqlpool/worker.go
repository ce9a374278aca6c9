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
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// errReplaced ends what waits for a worker that has died.
var errReplaced = errors.New("the SQL worker was replaced")

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
	past     Usage // of databases that are detached
	next     int
	seen     map[runningKey]sighting
	leaving  map[uint64]time.Time   // channels that the process is to let go of: since when it could have
	culprit  map[uint64]error       // channels that end with the process
	suspects map[string][]time.Time // by file: when the process died while a statement on it ran
	closed   bool
}

func newWorker(p *Pool, index int) (*worker, error) {
	memory, shared, err := control.CreateShared()
	if err != nil {
		return nil, err
	}
	return &worker{
		pool: p, index: index, memory: memory, shared: shared, ready: make(chan struct{}),
		calls: map[uint64]func(error){}, channels: map[uint64]*Channel{}, places: map[string]*place{},
		seen: map[runningKey]sighting{}, leaving: map[uint64]time.Time{}, culprit: map[uint64]error{}, suspects: map[string][]time.Time{},
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
	c.replaced = true
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
		if err = w.callOn(ctx, conn, m, end); errors.Is(err, errReplaced) {
			return nil
		}
		return err
	}
}

// detach takes a channel back. done is called once: when the process has let go of it, or is reaped, as one is that takes too long (watch).
func (w *worker) detach(c *Channel, done func(error)) {
	w.mu.Lock()
	_, attached := w.channels[c.id]
	delete(w.channels, c.id) // no other process gets it
	conn, closed := w.conn, w.closed
	m := &control.Message{Op: control.Detach, Channel: c.id, ID: w.nextCall.Add(1)}
	if attached && conn != nil {
		w.leaving[c.id] = time.Now()
		w.calls[m.ID] = func(err error) {
			w.mu.Lock()
			delete(w.leaving, c.id)
			w.mu.Unlock()
			done(err)
		}
		w.pool.wg.Add(1) // supervise, which the pool still waits for, has not buried the process yet
	}
	w.mu.Unlock()
	switch {
	case !attached:
		done(nil)
	case conn == nil && closed:
		done(ErrClosed)
	case conn == nil:
		done(errReplaced)
	default:
		// One that can't be told is about to die, and buried calls done. It may have no room for
		// orders, which must not hold up who closes the channel.
		go func() {
			defer w.pool.wg.Done()
			conn.Send(m, nil)
		}()
	}
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
				done(replied(m))
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

// replied is the error that a reply tells, a *sqlchan.Failure where it has a code.
func replied(m *control.Message) error {
	switch {
	case m.Error == "":
		return nil
	case m.Code != "":
		return &sqlchan.Failure{Code: m.Code, Offset: -1, Message: m.Error}
	}
	return errors.New(m.Error)
}

func (w *worker) channel(id uint64) *Channel {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.channels[id]
}
