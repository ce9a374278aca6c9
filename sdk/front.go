package sdk

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// headerRequestID carries the id that the gateway gave a request.
const headerRequestID = "X-Request-Id"

type requestIDKey struct{}

// requestID returns the id of the request whose context, or a child of it, ctx is.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

type depthKey struct{}

// depthOf returns how deep in calls of facets within one another the request is whose context, or a child of it, ctx is, as
// the gateway said it; nil where it came from a client.
func depthOf(ctx context.Context) []string {
	depth, _ := ctx.Value(depthKey{}).([]string)
	return depth
}

// front stands before the app's handler.
type front struct {
	facet *Facet
	app   atomic.Pointer[http.Handler] // nil until start has returned it: only services are called before
}

func newFront(f *Facet, h http.Handler) *front {
	fr := &front{facet: f}
	fr.app.Store(&h)
	return fr
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d, ok := w.(interface{ EnableFullDuplex() error }); ok {
		d.EnableFullDuplex() // or an answer that is written while the body is read would lose the body's rest
	}
	original, ctx := r, r.Context()
	s, _ := ctx.Value(streamKey{}).(*stream)
	if id := r.Header[headerRequestID]; len(id) == 1 {
		ctx = context.WithValue(ctx, requestIDKey{}, id[0])
	}
	if depth := r.Header[wire.HeaderDepth]; len(depth) == 1 {
		ctx = context.WithValue(ctx, depthKey{}, depth)
	}
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	var body *requestBody
	if s != nil {
		defer s.answerPanic(w, r, s.written.Load())
		if r.Body != nil && r.Body != http.NoBody {
			if r == original {
				r = r.WithContext(ctx)
			}
			b := &requestBody{ReadCloser: original.Body, original: original, seen: r}
			r.Body, body = b, b
			defer b.finish(s)
		}
	}
	if name := r.Header[wire.HeaderService]; len(name) == 1 {
		f.facet.exposedTo(w, r, name[0])
		return
	}
	if s != nil && f.facet.start.Children { // it may hand the request over
		t := &trackedWriter{ResponseWriter: w}
		x := &exchange{s: s, w: t, sent: r.Header.Clone(), body: body}
		seen := r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
		if body != nil {
			body.seen = seen
		}
		w, r = t, seen
	}
	(*f.app.Load()).ServeHTTP(w, r)
}

// requestBody is a request's body that knows how far it was read.
//
// net/http, in full duplex, reads the rest of a body that a handler has left after it has stopped its
// read ahead, and that rest's end starts another one, which panics when the next request is waited for. So
// the rest is read here, while the handler still runs in net/http's eyes.
type requestBody struct {
	io.ReadCloser
	original, seen *http.Request // net/http's, and the copy that the handler has
	read, ended    bool
	given          bool // handed over: another reads it
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.read = true
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended = true
		b.seen.Trailer = b.original.Trailer
	}
	return n, err
}

// maxRest is how much of an unread body is read for the sake of keeping the stream.
const maxRest = 256 << 10

// finish reads what has arrived of the body's rest. Where that is not all of it, though it may come a moment later, the stream cannot
// carry another request. The gateway would send none: it uses a stream again only after a request that it sent in one piece.
func (b *requestBody) finish(s *stream) {
	if b.ended || b.given || !b.read && b.original.Header.Get("Expect") != "" { // an unread body that was never asked for
		return
	}
	s.Stream.SetReadDeadline(time.Unix(1, 0))
	io.CopyN(io.Discard, b, maxRest)
	s.Stream.SetReadDeadline(time.Time{})
	if !b.ended {
		s.deaf.Store(true)
	}
}

// answerPanic answers a handler's panic with status 500 where nothing has been sent yet; otherwise it ends the
// stream, so that the client can tell that the answer is not whole. before is what had been written to the stream
// when the request began.
func (s *stream) answerPanic(w http.ResponseWriter, r *http.Request, before int64) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { // the handler's own wish, which net/http knows
		panic(p)
	}
	log.Printf("panic serving %s %s (request %s): %v\n%s", r.Method, r.URL.Path, requestID(r.Context()), p, debug.Stack())
	h, ok := w.(http.Hijacker)
	if !ok || s.written.Load() != before {
		panic(http.ErrAbortHandler)
	}
	s.mute.Store(true) // what the handler has buffered is flushed into nothing
	conn, _, err := h.Hijack()
	s.mute.Store(false)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	body := "Internal Server Error: the app panicked\n"
	if r.Method == http.MethodHead {
		body = ""
	}
	fmt.Fprintf(conn, "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}
