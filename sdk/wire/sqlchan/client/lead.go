package client

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// message is one whole message for a session.
type message struct {
	kind    sqlchan.Type
	payload []byte
}

// next waits for the session's next message. The payload is the caller's until it
// gives it back with recycle.
func (s *Session) next() (message, error) {
	c := s.c
	woken := false // perhaps to read
	c.mu.Lock()
	for {
		if woken && (len(s.inbox) > 0 || s.lost != nil) {
			c.passOn()
		}
		if len(s.inbox) > 0 {
			m := s.inbox[0]
			s.inbox[0] = message{}
			s.inbox = s.inbox[1:]
			if len(s.inbox) == 0 {
				s.inbox = s.inboxRoom[:0]
			}
			c.mu.Unlock()
			return m, nil
		}
		if s.lost != nil {
			err := s.lost
			c.mu.Unlock()
			return message{}, err
		}
		if !c.leading {
			c.lead(func() bool { return len(s.inbox) > 0 || s.lost != nil })
			woken = false
			continue
		}
		c.waiters = append(c.waiters, s)
		c.mu.Unlock()
		<-s.wake
		woken = true
		c.mu.Lock()
	}
}

// lead reads messages and hands them out until enough says so, then passes the
// reading on. It is called, calls enough, and returns with mu held.
func (c *Client) lead(enough func() bool) {
	c.leading = true
	for c.err == nil && !enough() {
		if c.stirred && !c.out.urgent { // they run first, and their next requests leave together
			c.stirred = false
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
			continue
		}
		if len(c.out.sessions) > 0 {
			if c.out.fresh {
				c.out.fresh = false
				c.takeAll()
				continue
			}
			c.flush()
			continue
		}
		c.parked = true
		c.mu.Unlock()
		p, err := c.read()
		c.mu.Lock()
		c.parked = false
		if err == nil {
			err = c.dispatch(p)
		}
		if err != nil {
			c.fail(err)
		}
	}
	c.leading = false
	c.passOn()
}

// passOn makes a waiter the reader where there is none. Whoever stops waiting calls it: that may be one who was woken
// to read and, before it ran, was given its message by another. Call it with mu held.
func (c *Client) passOn() {
	if c.leading || len(c.waiters) == 0 {
		return
	}
	s := c.waiters[0]
	c.waiters = append(c.waiters[:0], c.waiters[1:]...)
	s.wakeUp()
}

// pump leads for writers that wait for room: the worker may itself wait until somebody
// reads before it reads on.
func (c *Client) pump() {
	c.mu.Lock()
	c.lead(func() bool { return c.blocked == 0 })
	c.mu.Unlock()
}

// poll takes what has already arrived, where nobody reads. Call it with mu held.
//
// A RESET that came while nobody waited must be known before the next statement goes out:
// sent in the old epoch, that statement would not be executed, yet nobody could tell.
func (c *Client) poll() {
	if !c.leading {
		c.takeAll()
	}
}

// takeAll takes what has already arrived, for whoever leads or where nobody does. Call it with mu held.
func (c *Client) takeAll() {
	for c.takeOne() {
	}
}

// takeOne takes one packet that has already arrived; it tells whether there was one. It is for whoever leads or where
// nobody does. Call it with mu held.
func (c *Client) takeOne() bool {
	if c.err != nil {
		return false
	}
	c.noWait = true
	p, err := c.read()
	c.noWait = false
	if err == nil && p == nil {
		return false
	}
	if err == nil {
		err = c.dispatch(p)
	}
	if err != nil {
		c.fail(err)
	}
	return err == nil
}

// read returns the next packet, valid until the next read; with noWait nil if there is none.
func (c *Client) read() ([]byte, error) {
	if c.in == nil {
		c.in = make([]byte, sqlchan.MaxPacket+1) // one more, to see a packet that is too large
	}
	if err := c.sock.Wait(c.tryFn); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	switch {
	case c.inErr == syscall.EAGAIN:
		return nil, nil
	case c.inErr != nil:
		return nil, fmt.Errorf("%w: %w", ErrClosed, os.NewSyscallError("read", c.inErr))
	case c.inLen == 0:
		return nil, fmt.Errorf("%w: %w", ErrClosed, io.EOF)
	}
	return c.in[:c.inLen], nil
}

// try reads once. As Socket.Wait asks, false means that it is to wait and try again.
func (c *Client) try(uintptr) bool {
	c.inLen, c.inErr = c.sock.Read(c.in)
	return c.inErr != syscall.EAGAIN || c.noWait
}

// dispatch gives a packet to its session. Call it with mu held.
func (c *Client) dispatch(p []byte) error {
	h, payload, err := sqlchan.ParseHeader(p)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if h.Type == sqlchan.BatchAnswers {
		return c.dispatchAll(h, payload)
	}
	if h.Type == sqlchan.Reset {
		r := sqlchan.NewReader(payload)
		epoch := r.Uvarint()
		r.Bytes() // the reason, which concerns people, not programs
		if err := r.End(); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		c.reset(uint32(epoch))
		return nil
	}
	return c.deliver(h, payload)
}

// dispatchAll gives the messages of a batch to their sessions. Call it with mu held.
func (c *Client) dispatchAll(h sqlchan.Header, payload []byte) error {
	if h.Session != 0 || h.Request != 0 || h.Flags != 0 || len(payload) == 0 {
		return fmt.Errorf("%w: a batch of session %d, request %d, flags %#x and %d bytes", ErrProtocol, h.Session, h.Request, h.Flags, len(payload))
	}
	for len(payload) > 0 {
		part, message, rest, err := sqlchan.CutPart(payload)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if err := c.deliver(part, message); err != nil {
			return err
		}
		payload = rest
	}
	return nil
}

// deliver gives a packet or a message of a batch to its session. Call it with mu held.
func (c *Client) deliver(h sqlchan.Header, payload []byte) error {
	if h.Epoch != c.epoch {
		return fmt.Errorf("%w: an answer of epoch %d in epoch %d", ErrProtocol, h.Epoch, c.epoch)
	}
	if h.Session == 0 || int(h.Session) >= len(c.sessions) || c.sessions[h.Session] == nil {
		return fmt.Errorf("%w: an answer for session %d, which is not open", ErrProtocol, h.Session)
	}
	return c.sessions[h.Session].receive(h, payload)
}

// receive adds a packet to the session's inbox. Called with the client's mu held.
func (s *Session) receive(h sqlchan.Header, payload []byte) error {
	if s.pending == 0 || h.Request != s.pending {
		return fmt.Errorf("%w: an answer to request %d while %d is open", ErrProtocol, h.Request, s.pending)
	}
	if s.part == nil {
		s.part = s.takeBuffer()
	}
	if len(s.part)+len(payload) > sqlchan.MaxMessage {
		return fmt.Errorf("%w: an answer of more than %d bytes", ErrProtocol, sqlchan.MaxMessage)
	}
	s.part = append(s.part, payload...)
	if h.Flags&sqlchan.More != 0 {
		return nil
	}
	m := message{h.Type, s.part}
	s.part = nil
	switch h.Type {
	case sqlchan.Done, sqlchan.Error, sqlchan.Prepared:
		s.pending = 0
	case sqlchan.WholeResult:
		if s.pending = 0; s.credit == 0 {
			return fmt.Errorf("%w: a result that there was no credit for", ErrProtocol)
		}
	case sqlchan.Columns:
	case sqlchan.Rows:
		if s.credit--; s.credit < 0 {
			return fmt.Errorf("%w: more rows than there was credit for", ErrProtocol)
		}
	default:
		return fmt.Errorf("%w: an answer of type %d", ErrProtocol, h.Type)
	}
	s.inbox = append(s.inbox, m)
	for i, w := range s.c.waiters {
		if w == s {
			s.c.waiters = append(s.c.waiters[:i], s.c.waiters[i+1:]...)
			s.wakeUp()
			s.c.stirred = true
			break
		}
	}
	return nil
}

// wakeUp wakes the one who waits in next. The channel has room for one: nobody waits twice.
func (s *Session) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
