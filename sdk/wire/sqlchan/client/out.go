package client

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

const (
	// maxTogether is how many requests leave in one packet: with more, the worker would do nothing while the callers
	// make theirs, and then the other way round.
	maxTogether = 8
	// maxSmall is the length up to which a request waits for others.
	maxSmall = 4 << 10
)

// outbox holds requests that wait to leave in one packet: whoever reads sends them before it waits. The client's mu guards it.
type outbox struct {
	buf      []byte // a batch, with room for its header
	one      int    // where its first message begins
	sessions []*Session
	urgent   bool   // one of them is waited for by more than its caller
	fresh    bool   // what has arrived is to be taken in before they leave
	batched  bool   // the worker has had a batch in this epoch, by which it knows that it may send some
	spare    []byte // memory for the next one

	spareList []*Session
	late      int        // who wait until a packet is written
	left      *sync.Cond // tells them
}

func (o *outbox) full() bool { return len(o.sessions) >= maxTogether }

func (o *outbox) add(s *Session, packet []byte) {
	if len(o.sessions) == 0 {
		o.buf = append(o.spare[:0], make([]byte, sqlchan.HeaderSize)...)
		o.spare = nil
	}
	o.buf = sqlchan.AppendPart(o.buf, packet)
	if len(o.sessions) == 0 {
		o.one = len(o.buf) - len(packet)
	}
	o.sessions = append(o.sessions, s)
	s.queued = true
}

// outgoing is a packet that was taken out of the box, until it is written.
type outgoing struct {
	packet   []byte
	memory   []byte
	sessions []*Session
}

// take empties the box; the packet is nil if it was empty. Once it is written, or can't be, the client's sent is called.
func (o *outbox) take(epoch uint32) (out outgoing) {
	n := len(o.sessions)
	if n == 0 {
		return out
	}
	for _, s := range o.sessions {
		s.queued, s.leaving = false, true
	}
	out = outgoing{packet: o.buf, memory: o.buf, sessions: o.sessions}
	if n == 1 && o.batched {
		out.packet = o.buf[o.one:]
	} else {
		sqlchan.Header{Type: sqlchan.BatchRequests, Epoch: epoch}.Append(o.buf[:0])
		o.batched = true
	}
	o.sessions, o.buf, o.urgent, o.fresh = o.spareList, nil, false, false
	o.spareList = nil
	return out
}

// sent notes that a packet is written, and keeps its memory for the next one. Call it with mu held.
func (c *Client) sent(out outgoing) {
	for i, s := range out.sessions {
		s.leaving = false
		out.sessions[i] = nil
	}
	c.out.spareList = out.sessions[:0]
	if cap(out.memory) <= maxKept {
		c.out.spare = out.memory
	}
	if c.out.late > 0 {
		c.out.left.Broadcast()
	}
}

// drop forgets what has not left when the worker is replaced: none of it takes effect, as its sessions find by queued.
func (o *outbox) drop() {
	clear(o.sessions)
	o.sessions, o.buf, o.urgent, o.fresh, o.batched = o.sessions[:0], nil, false, false, false
}

// writer writes packets, one at a time.
type writer struct {
	c     *Client
	tryFn func(fd uintptr)
	out   []byte
	err   error
}

func newWriter(c *Client) *writer {
	w := &writer{c: c}
	w.tryFn = func(fd uintptr) { w.err = sqlchan.WritePacket(fd, w.out) }
	return w
}

// attempt writes a packet if there is room; else the error is syscall.EAGAIN.
func (w *writer) attempt(p []byte) error {
	w.out = p
	err := w.c.sock.Control(w.tryFn)
	w.out = nil
	return w.failure(err)
}

// wait writes a packet once there is room.
func (w *writer) wait(room *os.File, p []byte) error {
	w.out = p
	raw, err := room.SyscallConn()
	if err == nil {
		err = raw.Write(func(fd uintptr) bool { w.tryFn(fd); return w.err != syscall.EAGAIN })
	}
	w.out = nil
	return w.failure(err)
}

func (w *writer) failure(err error) error {
	switch {
	case err == nil && (w.err == nil || w.err == syscall.EAGAIN):
		return w.err
	case err == nil:
		err = os.NewSyscallError("write", w.err)
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

// write writes one packet, and while the socket is full sees to it that somebody reads it. An error ends the channel.
func (w *writer) write(p []byte) error {
	c := w.c
	err := w.attempt(p)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == syscall.EAGAIN {
		err = c.err
		if err == nil && c.room == nil {
			c.room, err = c.sock.Room()
		}
		if err == nil {
			c.blocked++
			if !c.leading {
				c.leading = true
				go c.pump()
			}
			room := c.room
			c.mu.Unlock()
			err = w.wait(room, p)
			c.mu.Lock()
			if c.blocked--; c.blocked == 0 {
				room.Close()
				c.room = nil
			}
		}
	}
	if err != nil {
		c.fail(err)
	}
	return err
}

// flush sends what waits in the outbox; the leader calls it, which itself must not wait for room. It is called and returns with mu held.
func (c *Client) flush() {
	out := c.out.take(c.epoch)
	if out.packet == nil {
		return
	}
	c.mu.Unlock()
	err := c.flusher.attempt(out.packet)
	c.mu.Lock()
	if err == syscall.EAGAIN {
		go c.post(newWriter(c), out)
		return
	}
	if c.sent(out); err != nil {
		c.fail(err)
	}
}

// post writes a packet, waiting for room.
func (c *Client) post(w *writer, out outgoing) error {
	err := w.write(out.packet) // an error ends the channel
	c.mu.Lock()
	c.sent(out)
	c.mu.Unlock()
	return err
}
