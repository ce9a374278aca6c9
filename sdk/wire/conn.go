package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// yamux frame types and flags, as its specification has them.
const (
	yamuxHeader = 12
	typeData    = 0
	typeWindow  = 1
	typePing    = 2
	typeGoAway  = 3
	flagSYN     = 1
	flagFIN     = 4
	flagRST     = 8
)

// ErrBreach is wrapped by every error that says how a peer broke the wire's bounds (SPEC §9).
var ErrBreach = errors.New("protocol breach")

// maxPings is how many pings a peer may send in one second: each costs yamux a goroutine.
const maxPings = 64

// Conn carries yamux over the wire's socket. It looks at each frame's header as
// it arrives, which yamux itself does not let its user do, for two ends:
//
//   - the gateway bounds what a hostile peer may send (SPEC §9) before yamux
//     spends memory or goroutines on it;
//   - the facet learns that its peer closed a stream while data of that stream
//     still waits unread, so that a request's context can be cancelled.
//
// It also joins the header and body of a data frame, which yamux writes
// separately, into one write.
//
// Read and Write are each called by one goroutine of yamux's.
type Conn struct {
	net.Conn
	// Bounds are enforced on what arrives; nil for a trusted peer.
	bounds *Bounds
	// closed, unless nil, is called for each stream that the peer closed or reset.
	closed func(id uint32)

	// Stall, unless 0, is how long bytes may wait for a peer that reads nothing, before it is given up (SPEC §9).
	// With it what the peer has not taken yet waits here, and Write does not: see backlog. Set it before the first write.
	Stall time.Duration
	backlog

	head    [yamuxHeader]byte // the beginning of a header that is not whole yet
	got     int               // bytes of it
	small   [yamuxHeader]byte // what was read for who had less room than a header takes
	rest    []byte            // of small
	skip    uint32            // bytes of the current data frame still to come
	pings   int
	pingEnd time.Time
	breach  atomic.Pointer[error]

	out     []byte // a data frame's header, then its body
	waiting bool   // for the body
}

// maxJoined is the longest body that is copied behind its header. Past it, a second write costs less.
const maxJoined = 16 << 10

// NewConn wraps the wire's socket. With bounds it polices the peer; closed, unless
// nil, is told of each stream that the peer closes.
func NewConn(c net.Conn, bounds *Bounds, closed func(id uint32)) *Conn {
	w := &Conn{Conn: c, bounds: bounds, closed: closed}
	w.try, _ = c.(TryWriter)
	w.less.L = &w.mu
	return w
}

// Breach returns how the peer broke the bounds, or nil.
func (c *Conn) Breach() error {
	if e := c.breach.Load(); e != nil {
		return *e
	}
	return nil
}

// Forget has all thrown away that still comes on a stream, where there are bounds: nobody will read it, but a peer that does not
// close its side could go on filling it.
func (c *Conn) Forget(id uint32) {
	if c.bounds != nil {
		c.bounds.forget(id)
	}
}

// Read reads from the socket and looks at each frame header that passes. A header is passed on when it is whole, since it may
// have to be changed.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 && len(p) >= yamuxHeader {
		return c.read(p)
	}
	if len(c.rest) == 0 { // yamux never asks for so little
		n, err := c.read(c.small[:])
		if c.rest = c.small[:n]; n == 0 {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// read is Read with room for a header at least.
func (c *Conn) read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p[copy(p, c.head[:c.got]):])
		n += c.got
		c.got = 0
		for b := p[:n]; len(b) > 0; {
			if c.skip > 0 {
				m := min(uint32(len(b)), c.skip)
				c.skip -= m
				b = b[m:]
				continue
			}
			if len(b) < yamuxHeader {
				if err != nil {
					break // it never will be
				}
				c.got = copy(c.head[:], b)
				n -= c.got
				break
			}
			if e := c.frame(b[:yamuxHeader]); e != nil {
				e = fmt.Errorf("%w: %w", ErrBreach, e)
				c.breach.CompareAndSwap(nil, &e)
				return 0, e
			}
			b = b[yamuxHeader:]
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// frame looks at one header.
func (c *Conn) frame(head []byte) error {
	version, kind := head[0], head[1]
	flags := binary.BigEndian.Uint16(head[2:])
	id, length := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	if version != 0 || kind > typeGoAway {
		return fmt.Errorf("frame of version %d, type %d", version, kind)
	}
	switch kind {
	case typeData:
		if length > Window {
			return fmt.Errorf("data frame of %d bytes, the window is %d", length, Window)
		}
		c.skip = length
	case typePing:
		return c.ping()
	case typeGoAway:
		return nil
	}
	if c.bounds != nil {
		if err := c.bounds.received(id, flags); err != nil {
			return err
		}
		if kind == typeData && c.bounds.unwanted(id, length) {
			// There is no stream 0: yamux throws away what comes on a stream that it does not know.
			clear(head[2:8])
		}
	}
	if c.closed != nil && flags&(flagFIN|flagRST) != 0 {
		c.closed(id)
	}
	return nil
}

func (c *Conn) ping() error {
	now := time.Now()
	if now.After(c.pingEnd) {
		c.pingEnd, c.pings = now.Add(time.Second), 0
	}
	if c.pings++; c.pings > maxPings && c.bounds != nil {
		return fmt.Errorf("more than %d pings in a second", maxPings)
	}
	return nil
}

// Write joins yamux's two writes for a data frame into one.
func (c *Conn) Write(p []byte) (int, error) {
	if !c.waiting {
		if c.bounds != nil && len(p) == yamuxHeader && p[1] == typeWindow {
			c.bounds.sent(binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint16(p[2:]))
		}
		if len(p) != yamuxHeader || p[1] != typeData || binary.BigEndian.Uint32(p[8:]) == 0 {
			return c.write(p)
		}
		c.out, c.waiting = append(c.out[:0], p...), true
		return len(p), nil
	}
	c.waiting = false
	if len(p) > maxJoined {
		if _, err := c.write(c.out); err != nil {
			return 0, err
		}
		return c.write(p)
	}
	c.out = append(c.out, p...)
	n, err := c.write(c.out)
	return max(0, n-yamuxHeader), err
}

// Config is yamux's configuration at both ends. backlog is how many streams of the
// peer's may wait to be accepted; stall is how long one write may take before the peer is
// given up (SPEC §9).
func Config(backlog int, stall time.Duration) *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = backlog
	c.EnableKeepAlive = false // both ends live on one machine: end of file says it all
	c.ConnectionWriteTimeout = stall
	c.StreamOpenTimeout = 0 // a timer and a goroutine a stream; the gateway bounds its waits itself
	c.StreamCloseTimeout = time.Minute
	c.LogOutput = nil
	c.Logger = log.New(io.Discard, "", 0)
	return c
}
