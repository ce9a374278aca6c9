package sdk

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// streams is the listener whose connections are the gateway's HTTP streams. It knows
// which of them the gateway has closed, as soon as that is on the wire.
type streams struct {
	ready chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu sync.Mutex
	// open are the streams that were accepted, by id; early are those that the gateway
	// closed before they were; ids grow, so last, the last accepted, tells one from the other.
	open  map[uint32]*stream
	early map[uint32]bool
	last  uint32
}

func newStreams() *streams {
	return &streams{ready: make(chan net.Conn), done: make(chan struct{}), open: map[uint32]*stream{}, early: map[uint32]bool{}}
}

// accept sorts the gateway's streams by kind until the wire ends: events go to event.
func (l *streams) accept(session *yamux.Session, event func(net.Conn)) {
	defer l.Close()
	for {
		s, err := session.AcceptStream()
		if err != nil {
			return
		}
		c := l.add(s)
		go func() {
			kind, err := wire.ReadKind(s)
			if err == nil && kind == wire.StreamEvent {
				event(c)
				return
			}
			if err != nil || kind != wire.StreamHTTP { // unknown
				c.Close()
				return
			}
			l.give(c)
		}()
	}
}

// give has a connection accepted.
func (l *streams) give(c *stream) {
	select {
	case l.ready <- c:
	case <-l.done:
		c.Close()
	}
}

// add registers an accepted stream.
func (l *streams) add(s *yamux.Stream) *stream {
	c := &stream{Stream: s, owner: l, cancel: func() {}}
	c.wake.L = &c.mu
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = s.StreamID()
	if l.early[l.last] {
		delete(l.early, l.last)
		c.gone = true
	} else {
		l.open[l.last] = c
	}
	return c
}

// skip notes an accepted stream that is no connection.
func (l *streams) skip(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = id
	delete(l.early, id)
}

// closed is told of each stream that the gateway closes, before yamux sees it.
func (l *streams) closed(id uint32) {
	l.mu.Lock()
	c := l.open[id]
	delete(l.open, id)
	if c == nil && id > l.last && id%2 == 1 {
		l.early[id] = true
	}
	l.mu.Unlock()
	if c != nil {
		c.peerClosed()
	}
}

// Accept is net.Listener's.
func (l *streams) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (l *streams) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is net.Listener's.
func (l *streams) Addr() net.Addr { return streamAddr{} }

type streamAddr struct{}

func (streamAddr) Network() string { return "fgw" }
func (streamAddr) String() string  { return "fgw" }

// stream is one HTTP stream. Its context ends when the gateway closes it, and with it the context of
// the request on it, whether or not the handler has read the body.
//
// While a handler runs, net/http reads one byte ahead, to learn of a client that goes away.
// The gateway sends nothing there, and its closing is known without reading: so that read waits on a
// condition here, which costs less than a read of yamux's with its timer.
type stream struct {
	*yamux.Stream
	owner   *streams
	written atomic.Int64 // bytes
	mute    atomic.Bool  // writes go nowhere
	silent  atomic.Bool  // so do they until the next request: this one was handed over
	deaf    atomic.Bool  // nothing more is to be read

	mu       sync.Mutex
	wake     sync.Cond
	cancel   context.CancelFunc // ends the requests' context
	gone     bool               // the gateway has closed the stream
	ahead    bool               // a read ahead waits
	aborted  bool               // and is to return at once
	hijacked bool               // net/http has let go of the stream: nobody reads ahead any more

	handed bool        // the next request may come, and nobody reads it yet; see expectNext
	late   *time.Timer // that ends it
	moved  bool        // the stream is another connection's

	readLimit  bool        // yamux has a read deadline; guarded by mu
	writeLimit atomic.Bool // and a write deadline
}

// aheadLen is the length of net/http's read ahead; every other read of its is longer.
const aheadLen = 1

// errDeaf ends a stream of which nothing more is to be read. It is not io.EOF: net/http takes that for the end of a body that it
// closes, short as that is, begins to read ahead, and panics when it waits for the next request.
var errDeaf = errors.New("the rest of the request is left unread")

func (s *stream) Read(p []byte) (int, error) {
	if s.deaf.Load() {
		return 0, errDeaf
	}
	if len(p) != aheadLen {
		if s.silent.Load() && !s.next() {
			return 0, errDeaf
		}
		n, err := s.Stream.Read(p)
		if n > 0 {
			s.silent.Store(false)
		}
		return n, err
	}
	s.mu.Lock()
	if s.hijacked {
		moved := s.moved
		s.mu.Unlock()
		if moved {
			return 0, errDeaf
		}
		return s.Stream.Read(p)
	}
	defer s.mu.Unlock()
	s.ahead = true
	for !s.gone && !s.aborted {
		s.wake.Wait()
	}
	s.ahead = false
	if s.aborted {
		return 0, os.ErrDeadlineExceeded
	}
	return 0, io.EOF
}

func (s *stream) Write(p []byte) (int, error) {
	if s.mute.Load() || s.silent.Load() {
		return len(p), nil
	}
	n, err := s.Stream.Write(p)
	s.written.Add(int64(n))
	return n, err
}

// SetReadDeadline is how net/http calls its read ahead back: with a time that has passed. Where that
// is all that is waited for, yamux need not know; nor of times taken back that it was not told.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = !t.IsZero() && !t.After(time.Now())
	skip := s.aborted && s.ahead || t.IsZero() && !s.readLimit
	s.readLimit = !t.IsZero() && (s.readLimit || !skip)
	s.wake.Broadcast()
	if skip || s.moved {
		return nil
	}
	return s.Stream.SetReadDeadline(t)
}

// SetWriteDeadline is called by net/http after every request, to take back what was never set.
func (s *stream) SetWriteDeadline(t time.Time) error {
	if t.IsZero() && !s.writeLimit.Load() {
		return nil
	}
	s.writeLimit.Store(!t.IsZero())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moved {
		return nil
	}
	return s.Stream.SetWriteDeadline(t)
}

// SetDeadline is what net/http calls, once, with no time at all, before it gives a hijacked
// connection to the handler.
func (s *stream) SetDeadline(t time.Time) error {
	if t.IsZero() {
		s.mu.Lock()
		s.hijacked = true
		s.mu.Unlock()
	}
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

func (s *stream) peerClosed() {
	s.mu.Lock()
	s.gone = true
	cancel := s.cancel
	s.wake.Broadcast()
	s.mu.Unlock()
	cancel()
}

// Close ends the stream, unless it has moved on.
func (s *stream) Close() error {
	if s.moveOn() {
		s.peerClosed()
		return nil
	}
	l := s.owner
	l.mu.Lock()
	delete(l.open, s.StreamID())
	l.mu.Unlock()
	s.peerClosed()
	return s.Stream.Close()
}

func (s *stream) LocalAddr() net.Addr  { return streamAddr{} }
func (s *stream) RemoteAddr() net.Addr { return streamAddr{} }

type streamKey struct{}

// streamContext makes the context that requests on a stream have.
func streamContext(ctx context.Context, c net.Conn) context.Context {
	s, ok := c.(*stream)
	if !ok {
		return ctx
	}
	ctx, cancel := context.WithCancel(context.WithValue(ctx, streamKey{}, s))
	s.mu.Lock()
	s.cancel = cancel
	gone := s.gone
	s.mu.Unlock()
	if gone {
		cancel()
	}
	return ctx
}
