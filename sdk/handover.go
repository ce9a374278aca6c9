package sdk

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// exchange is a request that came from the gateway, as long as its handler runs: what a Stub must know of
// it to hand it over.
type exchange struct {
	s    *stream
	w    *trackedWriter
	sent http.Header  // as the gateway sent it; the handler may change the request's own
	body *requestBody // nil: there is none
}

type exchangeKey struct{}

// exchangeOf returns the exchange that w and r belong to, if it can still be handed over: w writes to it and has
// written nothing, and r has its body, of which nothing was read.
func exchangeOf(w http.ResponseWriter, r *http.Request) *exchange {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	if x == nil || x.w.begun || x.body != nil && (x.body.read || r.Body != x.body) || x.body == nil && r.Body != nil && r.Body != http.NoBody {
		return nil
	}
	for {
		if w == http.ResponseWriter(x.w) {
			return x
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = u.Unwrap()
	}
}

// trackedWriter knows whether an answer has begun.
type trackedWriter struct {
	http.ResponseWriter
	begun bool
}

func (t *trackedWriter) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *trackedWriter) Write(p []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(p)
}

func (t *trackedWriter) Flush() {
	t.begun = true
	http.NewResponseController(t.ResponseWriter).Flush()
}

func (t *trackedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	t.begun = true
	return http.NewResponseController(t.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach the rest.
func (t *trackedWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// handOver gives the request to the gateway to serve from another facet (wire: CALLS §4), and waits until it has.
func (s *Stub) handOver(x *exchange, r *http.Request) {
	call, done := s.begin()
	defer done()
	h := wire.Handover{Name: call.Name, Start: call.Start, Method: r.Method, Target: r.URL.RequestURI()}
	if h.Same = maps.EqualFunc(r.Header, x.sent, slices.Equal); !h.Same {
		h.Header = r.Header
	}
	if call.Op == wire.OpWorker {
		h.Worker = &wire.Worker{ID: call.ID, IdleMS: call.IdleMS}
	}
	head, err := json.Marshal(&h)
	if err != nil {
		writeProblem(x.w, r, err)
		return
	}
	if base64.StdEncoding.EncodedLen(len(head)) > wire.MaxHeadBytes/2 { // a head that the gateway would refuse
		s.pass(x.w, r)
		return
	}
	header := x.w.Header()
	header.Set(wire.HeaderHandover, base64.StdEncoding.EncodeToString(head))
	x.w.begun = true
	if x.body != nil {
		x.body.given = true
	} else {
		header.Set(wire.HeaderQuiet, "1")
	}
	x.w.ResponseWriter.WriteHeader(wire.StatusHandover)
	clear(header)
	x.s.silent.Store(x.body == nil)
	if x.s.awaitOther() && x.body == nil {
		x.s.expectNext()
	}
}

// awaitOther returns when the gateway says that the other facet's answer has ended, and reports whether it did. Nobody else
// reads here meanwhile: net/http's read ahead waits elsewhere.
func (s *stream) awaitOther() bool {
	var b [1]byte
	if _, err := s.Stream.Read(b[:]); err != nil {
		s.deaf.Store(true)
		return false
	}
	return true
}

// A stream whose request was handed over without an answer of its own may carry the next one at once, though the handler still
// runs, or has it closed by a panic. Mostly the handler returns in a moment, and net/http reads on. Else the stream moves on, to a
// connection of its own, and what the handler has is nothing's end any more.

// lastWords is how long the handler may take.
const lastWords = 2 * time.Millisecond

// expectNext has the stream move on unless it is read soon.
func (s *stream) expectNext() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handed = true
	if s.late == nil {
		s.late = time.AfterFunc(lastWords, func() { s.moveOn() })
	} else {
		s.late.Reset(lastWords)
	}
}

// next begins to read the next request, and reports whether that is this connection's to read.
func (s *stream) next() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handed {
		s.handed = false
		s.late.Stop()
	}
	return !s.moved
}

// moveOn gives the stream to a new connection if it waits for the next request and the handler keeps it, and reports whether it is
// another's now.
func (s *stream) moveOn() bool {
	s.mu.Lock()
	if !s.handed || s.hijacked {
		defer s.mu.Unlock()
		return s.moved
	}
	s.handed, s.moved = false, true
	s.late.Stop()
	s.Stream.SetDeadline(time.Time{}) // of the handler's
	s.mu.Unlock()
	l, id := s.owner, s.StreamID()
	c := &stream{Stream: s.Stream, owner: l, cancel: func() {}}
	c.wake.L = &c.mu
	l.mu.Lock()
	if l.open[id] == s {
		l.open[id] = c
	} else {
		c.gone = true
	}
	l.mu.Unlock()
	go l.give(c)
	return true
}
