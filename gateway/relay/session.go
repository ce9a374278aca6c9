// Package relay carries HTTP requests to a facet and its answers back, over the
// yamux streams of its wire.
//
// The facet is hostile: it may answer anything, at any pace, or not at all. Heads
// are bounded, the number of informational answers is, and what a facet can make
// the gateway hold in memory is its streams times their window, within a budget
// that all facets share. Every byte that leaves a facet passes its output gate.
//
// There are two paths. A request without a body, or with a small one, is carried
// both ways by the goroutine that serves it: one write, then reads. Any other has a
// second goroutine for its body, since a handler may answer before it has read.
package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Errors of a relayed request. Until one of these is returned nothing of an answer
// has reached the client, unless the error wraps ErrCut.
var (
	// ErrOverloaded means that the gateway's budget of stream memory is spent.
	ErrOverloaded = errors.New("the gateway holds too many open streams")
	// ErrFacetGone means that the facet's wire broke: its process ended or was ended.
	ErrFacetGone = errors.New("the facet is gone")
	// ErrProtocol means that the facet's answer is no HTTP or breaks a bound.
	ErrProtocol = errors.New("the facet broke the protocol")
	// ErrHeadTimeout means that no answer began within the request timeout.
	ErrHeadTimeout = errors.New("no answer within the request timeout")
	// ErrClientGone means that the client went away or its request could not be read.
	ErrClientGone = errors.New("the client is gone")
	// ErrBodyTooLarge means that the request's body passed its limit.
	ErrBodyTooLarge = errors.New("the request's body is too large")
	// ErrBadBody means that the request's body is not framed as HTTP frames it.
	ErrBadBody = errors.New("the request's body is malformed")
	// ErrCut means that an answer broke off after its head was sent: the
	// connection must be closed so that the client can tell.
	ErrCut = errors.New("the answer broke off")
	// ErrOutput means that what the facet wrote could not be made durable, so
	// that nothing it says may leave.
	ErrOutput = errors.New("the facet's data could not be made durable")
)

// maxIdle is how many streams a session keeps open for its next requests: as many
// as a busy facet has in flight by default, beyond which opening one is cheap beside the load.
const maxIdle = 64

// Budget bounds the memory that all facets together can make the gateway hold:
// open streams times their window (DESIGN: streams × window).
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of that many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{limit: bytes / wire.Window} }

// Take reserves one stream, or says that there is none to be had.
func (b *Budget) Take() bool {
	if b.used.Add(1) > b.limit {
		b.used.Add(-1)
		return false
	}
	return true
}

// Give returns what Take reserved.
func (b *Budget) Give() { b.used.Add(-1) }

// Open is how many streams are reserved now.
func (b *Budget) Open() int64 { return b.used.Load() }

// Session is the HTTP side of one facet's wire.
type Session struct {
	mux    *yamux.Session
	conn   *wire.Conn // what mux runs over
	gate   func() error
	budget *Budget

	opening chan struct{} // holds one value while a stream is being opened

	mu     sync.Mutex
	closed bool      // nothing is kept any more; guarded by mu
	idle   []*stream // most recently used last; guarded by mu
	// owing are streams on which the facet has yet to answer a request that it handed over, oldest first; guarded by mu.
	owing []*stream
}

// NewSession relays over mux, which runs over conn. gate is called after each read from the facet and returns
// once what the facet committed before is durable.
func NewSession(mux *yamux.Session, conn *wire.Conn, gate func() error, budget *Budget) *Session {
	return &Session{mux: mux, conn: conn, gate: gate, budget: budget, opening: make(chan struct{}, 1)}
}

// stream is one yamux stream that carries requests, one after another.
type stream struct {
	raw *yamux.Stream
	of  *Session
	br  *bufio.Reader
	// left is how many bytes may still be read while a head is being parsed;
	// negative means no limit. It is used by the reading goroutine only.
	left int
	// owes is since when the facet owes the answer to a request that it handed over, asked; zero: it doesn't.
	owes  time.Time
	asked *http.Request

	mu      sync.Mutex
	closed  bool // guarded by mu
	bounded bool // the answer's head is awaited, for a time; guarded by mu
}

// Read reads from the facet, through its output gate.
func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errLongHead
	}
	if s.left > 0 && len(p) > s.left {
		p = p[:s.left]
	}
	n, err := s.raw.Read(p)
	if s.left > 0 {
		s.left -= n
	}
	if gateErr := s.of.gate(); gateErr != nil {
		return 0, fmt.Errorf("%w: %w", ErrOutput, gateErr)
	}
	return n, err
}

var errLongHead = fmt.Errorf("%w: a head of more than %d bytes", ErrProtocol, wire.MaxHeadBytes)

// limitHead bounds what is read until unlimit: a head, or trailers.
func (s *stream) limitHead() { s.left = wire.MaxHeadBytes }
func (s *stream) unlimit()   { s.left = -1 }

// close ends the stream, which tells the facet that the client is gone, and ends a
// read under way: yamux alone would let it wait for the facet's own end.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.raw.SetReadDeadline(time.Now())
	behind := s.of.conn.Behind()
	if behind == nil {
		s.of.budget.Give()
	}
	go func() { // that waits where the facet reads nothing, until its wire is given up
		s.of.conn.Forget(s.raw.StreamID())
		s.raw.Close()
		s.empty()
		if behind != nil { // what was sent on it is held until then
			<-behind
			s.of.budget.Give()
		}
	}()
}

// empty lets go of what the facet has sent on a stream that is closed and forgotten: yamux holds it until the facet closes the
// stream, too, a minute at the most, and nobody counts it any more.
func (s *stream) empty() {
	for b := make([]byte, 4<<10); ; {
		if _, err := s.raw.Read(b); err != nil { // the deadline, or the end: nothing is left
			break
		}
	}
	s.raw.Shrink()
}

// before bounds the reads to come, and writes; extend moves the bound of the reads while it stands,
// and unlimitTime lifts it.
func (s *stream) before(t time.Time) {
	s.readBefore(t)
	s.raw.SetWriteDeadline(t)
	s.mu.Lock()
	s.bounded = true
	s.mu.Unlock()
}

func (s *stream) extend(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bounded && !s.closed {
		s.raw.SetReadDeadline(t)
	}
}

func (s *stream) unlimitTime() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bounded && !s.closed {
		s.raw.SetReadDeadline(time.Time{})
		s.raw.SetWriteDeadline(time.Time{})
	}
	s.bounded = false
}

// readBefore bounds the reads to come; a stream that was closed stays so.
func (s *stream) readBefore(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.raw.SetReadDeadline(t)
	}
}

// Prepare opens a stream for the first request, so that this need not. Where it can't, that request is told why.
func (s *Session) Prepare(ctx context.Context) {
	if st, err := s.dial(ctx); err == nil {
		s.keep(st)
	}
}

// take takes a stream that is kept, nil where there is none.
func (s *Session) take() *stream {
	for {
		s.mu.Lock()
		if n := len(s.idle); n > 0 {
			st := s.idle[n-1]
			s.idle = s.idle[:n-1]
			s.mu.Unlock()
			return st
		}
		if len(s.owing) == 0 {
			s.mu.Unlock()
			return nil
		}
		st := s.owing[0]
		s.owing = slices.Delete(s.owing, 0, 1)
		s.mu.Unlock()
		paid, err := st.paid()
		switch {
		case paid:
			return st
		case errors.Is(err, errOwes): // and those that came after it most likely, too
			s.mu.Lock()
			if !s.closed {
				s.owing = slices.Insert(s.owing, 0, st)
				st = nil
			}
			s.mu.Unlock()
			if st != nil {
				st.close()
			}
			return nil
		}
		st.close()
	}
}

// headSize is how much of an answer's head is read at once; what is longer of trailers is read by longTrailers.
const headSize = 8 << 10

// open takes a stream that is kept or opens one, until the time given, if any, at the latest.
func (s *Session) open(ctx context.Context, until time.Time) (*stream, error) {
	if st := s.take(); st != nil {
		return st, nil
	}
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, until, ErrHeadTimeout)
		defer cancel()
	}
	return s.dial(ctx)
}

// dial opens a stream.
func (s *Session) dial(ctx context.Context) (*stream, error) {
	// A stream counts until the facet has closed it too, so that one which never
	// does can't make us hold more and more of them.
	if s.mux.NumStreams() >= wire.MaxStreams || !s.budget.Take() {
		return nil, ErrOverloaded
	}
	raw, err := s.Open(ctx, wire.StreamHTTP)
	if err != nil {
		s.budget.Give()
		return nil, err
	}
	st := &stream{raw: raw, of: s, left: -1}
	st.br = bufio.NewReaderSize(st, headSize)
	return st, nil
}

// Open opens a stream of a kind. yamux has it wait while many are open that the facet has not taken, which a facet may never
// do: so it is done by a goroutine, one at a time, and the wait for it ends with ctx. Where ctx has ended for a cause of ours, that
// is the error.
func (s *Session) Open(ctx context.Context, kind wire.StreamKind) (*yamux.Stream, error) {
	gaveUp := func() error {
		if err := context.Cause(ctx); errors.Is(err, ErrHeadTimeout) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrClientGone, context.Cause(ctx))
	}
	select {
	case s.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, gaveUp()
	case <-s.mux.CloseChan():
		return nil, facetError(yamux.ErrSessionShutdown)
	}
	type opened struct {
		st  *yamux.Stream
		err error
	}
	done := make(chan opened)
	go func() {
		st, err := s.mux.OpenStream()
		if err == nil {
			err = wire.WriteKind(st, kind)
		}
		<-s.opening
		select {
		case done <- opened{st, err}:
		case <-ctx.Done():
			if st != nil {
				st.Close()
			}
		}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, facetError(o.err)
		}
		return o.st, nil
	case <-ctx.Done():
		return nil, gaveUp()
	}
}

// keep returns a stream whose exchange is over on both sides for another request.
func (s *Session) keep(st *stream) {
	if st.br.Buffered() > 0 { // it spoke without being asked
		st.close()
		return
	}
	s.mu.Lock()
	if !s.closed && len(s.idle)+len(s.owing) < maxIdle {
		if st.owes.IsZero() {
			s.idle = append(s.idle, st)
		} else {
			s.owing = append(s.owing, st)
		}
		st = nil
	}
	s.mu.Unlock()
	if st != nil {
		st.close()
	}
}

// Close gives the session's streams back; requests in flight end by the mux's closing.
func (s *Session) Close() {
	s.mu.Lock()
	kept := append(s.idle, s.owing...)
	s.idle, s.owing, s.closed = nil, nil, true
	s.mu.Unlock()
	for _, st := range kept {
		st.close()
	}
}

// facetError sorts an error of a stream's.
func facetError(err error) error {
	switch {
	case errors.Is(err, yamux.ErrConnectionWriteTimeout):
		return fmt.Errorf("%w: it reads nothing while bytes wait for it", ErrProtocol)
	case errors.Is(err, yamux.ErrRemoteGoAway):
		return fmt.Errorf("%w: it takes no more streams", ErrProtocol)
	case errors.Is(err, ErrProtocol), errors.Is(err, ErrOutput), errors.Is(err, ErrFacetGone), errors.Is(err, ErrClientGone):
		return err
	case errors.Is(err, yamux.ErrTimeout):
		// A deadline is ours alone. That of a head is told apart before; any other is a stream which
		// was closed while it was read: the client's side of the exchange has failed.
		return fmt.Errorf("%w: its stream was closed", ErrClientGone)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, yamux.ErrConnectionReset),
		errors.Is(err, yamux.ErrSessionShutdown), errors.Is(err, yamux.ErrStreamClosed), errors.Is(err, io.ErrClosedPipe):
		return fmt.Errorf("%w: %w", ErrFacetGone, err)
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}
