// Package client speaks the client's side of the SQL channel (../SPEC.md):
// sessions with statements, transactions and streamed rows over one
// SOCK_SEQPACKET socket, whose other end a SQL worker holds.
//
// The package has no goroutine of its own. Whoever waits for an answer may be
// the one that reads the socket (the leader); it hands messages for other
// sessions to their waiters and, once it has its own, the reading to one of them.
// A lone caller so pays for one write, one wait and one read, and no switch
// between goroutines.
package client

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

var (
	// ErrLost means that the SQL worker was replaced. The session and its
	// transaction are gone; nothing of the request took effect, so that it may be
	// tried again on another session.
	ErrLost = errors.New("the SQL worker was replaced: session and open transaction are gone")
	// ErrClosed means that the channel has ended, and with it every session.
	ErrClosed = errors.New("the SQL channel is closed")
	// ErrProtocol means that the peer broke the channel's protocol; the channel was closed.
	ErrProtocol = errors.New("the SQL channel's protocol was broken")
)

// Client is one end of a SQL channel. Its methods may be called by many goroutines.
type Client struct {
	sock *sqlchan.Socket
	max  int // sessions

	mu       sync.Mutex
	sessions [sqlchan.MaxSessions + 1]*Session // by id; 0 is unused
	epoch    uint32
	request  uint32 // the last one's number
	leading  bool   // somebody reads the socket
	parked   bool   // and waits for a packet: what others send they send themselves
	stirred  bool   // others than the leader were given answers, and may ask again before it waits
	out      outbox
	waiters  []*Session // that wait for a message and don't read, oldest first
	blocked  int        // writers that wait for room in the socket
	room     *os.File   // what they wait with
	err      error      // why the channel has ended

	columns map[string][]sqlchan.Column // decoded COLUMNS payloads: an app repeats its statements

	// The leader's: whoever set leading, or holds mu while nobody leads.
	in     []byte
	inLen  int
	inErr  error
	noWait bool
	tryFn  func(fd uintptr) bool

	flusher *writer // the leader's
}

// maxColumnSets bounds the cache of decoded columns, in sets and in bytes of one set.
const (
	maxColumnSets  = 128
	maxColumnBytes = 4 << 10
)

// New takes over the channel's descriptor. It opens at most maxSessions sessions at once,
// sqlchan.MaxSessions where that is 0.
func New(channel *os.File, maxSessions int) (*Client, error) {
	if maxSessions <= 0 || maxSessions > sqlchan.MaxSessions {
		maxSessions = sqlchan.MaxSessions
	}
	sock, err := sqlchan.NewSocket(channel)
	if err != nil {
		return nil, fmt.Errorf("open the SQL channel: %w", err)
	}
	c := &Client{sock: sock, max: maxSessions, columns: map[string][]sqlchan.Column{}}
	c.tryFn, c.flusher, c.out.left = c.try, newWriter(c), sync.NewCond(&c.mu)
	return c, nil
}

// Close ends the channel: every session fails with ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	c.fail(ErrClosed)
	if c.room != nil {
		c.room.Close() // wakes them
	}
	c.mu.Unlock()
	return c.sock.Close()
}

// Err returns why the channel has ended, nil as long as it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Session opens a session. The worker hears of it with its first request.
// Too many of them is a *sqlchan.Failure with CodeTooManySessions.
func (c *Client) Session() (*Session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	for id := 1; id <= c.max; id++ {
		if c.sessions[id] == nil {
			s := &Session{c: c, id: uint16(id), wake: make(chan struct{}, 1), w: newWriter(c)}
			c.sessions[id] = s
			return s, nil
		}
	}
	return nil, &sqlchan.Failure{Code: sqlchan.CodeTooManySessions, Offset: -1, Message: fmt.Sprintf("more than %d sessions are open", c.max)}
}

// fail ends the channel and wakes all who wait. Call it with mu held.
func (c *Client) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	for _, s := range c.sessions {
		if s != nil && s.lost == nil {
			s.lost = c.err
		}
	}
	c.wakeAll()
}

// reset begins a new epoch: the worker was replaced and knows no session. Call it with mu held.
func (c *Client) reset(epoch uint32) {
	c.epoch = epoch
	c.out.drop()
	for id, s := range c.sessions {
		if s != nil {
			s.lost = ErrLost
			c.sessions[id] = nil
		}
	}
	c.wakeAll()
}

func (c *Client) wakeAll() {
	for _, s := range c.waiters {
		s.wakeUp()
	}
	c.waiters = c.waiters[:0]
}

// decodeColumns decodes a COLUMNS payload, from the cache where it came before.
func (c *Client) decodeColumns(payload []byte) ([]sqlchan.Column, error) {
	c.mu.Lock()
	cols, ok := c.columns[string(payload)]
	c.mu.Unlock()
	if ok {
		return cols, nil
	}
	r := sqlchan.NewReader(payload)
	cols = r.Columns()
	if err := r.End(); err != nil {
		return nil, err
	}
	if len(payload) <= maxColumnBytes {
		c.mu.Lock()
		if len(c.columns) >= maxColumnSets {
			clear(c.columns)
		}
		c.columns[string(payload)] = cols
		c.mu.Unlock()
	}
	return cols, nil
}
