package wire

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A backlog is what a peer has not taken yet. yamux has every writer wait until its frame is in the socket, whatever the
// writer's own deadline says, and nothing but the session's end wakes it: behind a peer that reads nothing a request would wait for the
// stall, 30 s, and not for its own time. So what the socket does not take at once waits here, and is written by a
// goroutine that lives as long as something does. Whoever has a deadline looks at Behind before it writes, and waits there.
type backlog struct {
	try  TryWriter   // the socket; nil where it can't say that it would wait
	late atomic.Bool // something waits

	mu      sync.Mutex
	behind  []byte        // guarded by mu
	drained chan struct{} // closed when nothing waits any more; guarded by mu
	lost    error         // why nothing can be written any more; guarded by mu
	less    sync.Cond     // told when less waits, or all is lost
}

// TryWriter writes what can be written without waiting: less than all of p, and no error, where it would have to wait.
type TryWriter interface {
	TryWrite(p []byte) (int, error)
}

const (
	// maxBehind bounds a backlog; past it writers wait for the peer as they would without one. Writers that look at Behind add to
	// it only what they were writing when the peer stopped reading: it is 64 requests with bodies of 64 KiB.
	maxBehind = 64 * 64 << 10
	// maxFlush is what the peer must take within the time of a stall.
	maxFlush = 64 << 10
)

// Behind returns nil where the peer has taken all that was written, else a channel that is closed once it has.
func (c *Conn) Behind() <-chan struct{} {
	if !c.late.Load() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil || !c.late.Load() {
		return nil
	}
	return c.drained
}

// write writes to the socket, or behind what waits for it.
func (c *Conn) write(p []byte) (int, error) {
	if c.Stall == 0 {
		return c.Conn.Write(p)
	}
	n := 0
	if !c.late.Load() && c.try != nil {
		var err error
		if n, err = c.try.TryWrite(p); err != nil || n == len(p) {
			return n, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.lost == nil && len(c.behind)+len(p)-n > maxBehind {
		c.less.Wait()
	}
	if c.lost != nil {
		return n, c.lost
	}
	c.behind = append(c.behind, p[n:]...)
	if !c.late.Load() {
		c.late.Store(true)
		c.drained = make(chan struct{})
		go c.flush(c.drained)
	}
	return len(p), nil
}

// flush writes what waits until nothing does.
func (c *Conn) flush(drained chan struct{}) {
	defer close(drained)
	for {
		c.mu.Lock()
		p := c.behind[:min(len(c.behind), maxFlush)]
		if len(p) == 0 {
			c.behind = nil
			c.Conn.SetWriteDeadline(time.Time{})
			c.late.Store(false)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.Conn.SetWriteDeadline(time.Now().Add(c.Stall))
		_, err := c.Conn.Write(p)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("%w: it reads nothing while bytes wait for it", ErrBreach)
			c.breach.CompareAndSwap(nil, &err)
		}
		c.mu.Lock()
		c.behind = c.behind[len(p):]
		if c.lost = err; err != nil {
			c.behind = nil
		}
		c.less.Broadcast()
		c.mu.Unlock()
		if err != nil {
			c.Conn.Close() // yamux learns it from its read
			return
		}
	}
}

// Close closes the socket, and returns when nothing writes to it any more.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	drained := c.drained
	c.mu.Unlock()
	if drained != nil {
		<-drained
	}
	return err
}
