package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// SmallBody is the size up to which a body is read before the request is sent on: it
// travels in one write, and a slow client costs the facet nothing.
const SmallBody = 64 << 10

// Options bound and shape one exchange.
type Options struct {
	// HeadTimeout is how long the head of the answer may take: from the request's end, or from
	// when the facet last took some of the request's body.
	HeadTimeout time.Duration
	// BodyLimit is the largest request body in bytes.
	BodyLimit int64
	// Answer, unless nil, may change the head of an answer before the client gets it. prefix is
	// what was cut off the path for the facet that answers.
	Answer func(prefix string, h http.Header)
	// Handover, unless nil, is called where the facet hands the request over to another, and serves it
	// from there. head is what the facet said (wire: CALLS §4), extra what it adds to the answer.
	Handover func(w http.ResponseWriter, r *http.Request, head string, extra http.Header) error
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

// Serve carries one request to the facet and its answer to w. An error that does
// not wrap ErrCut means that w is untouched, so that the caller can say what happened.
func (s *Session) Serve(w http.ResponseWriter, r *http.Request, q *Request, o *Options) error {
	if r.ContentLength > o.BodyLimit {
		return ErrBodyTooLarge
	}
	small := r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0
	if !small && r.ContentLength > 0 && r.ContentLength <= SmallBody && !q.Hold && r.Header.Get("Expect") == "" {
		small = true
	}
	x := &exchange{session: s, w: w, r: r, q: q, o: o}
	if small {
		return x.small()
	}
	return x.streaming()
}

// exchange is one request and its answer.
type exchange struct {
	session *Session
	w       http.ResponseWriter
	r       *http.Request
	q       *Request
	o       *Options
	st      *stream
	asked   func() // told once that the facet asks for a held body; nil without one
	up      *upload
	// headCame lifts the limit of the time to the answer's head.
	headCame func()
}

// small sends head and body in one write and then reads, all on this goroutine.
func (x *exchange) small() error {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	length := max(0, x.r.ContentLength)
	b := appendHead((*bp)[:0], x.r, x.q, length)
	if length > 0 {
		head := len(b)
		b = append(b, make([]byte, length)...)
		if _, err := io.ReadFull(x.r.Body, b[head:]); err != nil {
			return fmt.Errorf("%w: read its request: %w", ErrClientGone, err)
		}
	}
	*bp = b[:0]
	until := x.until()
	st, err := x.session.open(x.r.Context(), until)
	if err != nil {
		return x.openError(err)
	}
	x.st = st
	w := &watch{}
	w.start(st, x.r.Context(), until)
	defer w.end()
	x.headCame = w.lift
	if _, err := x.session.send(x.r.Context(), until, st.raw, b); err != nil {
		return x.finish(false, x.sendError(err))
	}
	again, err := x.answer()
	return x.finish(w.end() && again, err)
}

// streaming sends the body from a goroutine of its own while the answer is read.
func (x *exchange) streaming() error {
	until := x.until()
	st, err := x.session.open(x.r.Context(), until)
	if err != nil {
		return x.openError(err)
	}
	x.st = st
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	stop := context.AfterFunc(ctx, st.close)
	defer stop()
	rc := http.NewResponseController(x.w)
	rc.EnableFullDuplex() // a handler may answer while it reads; HTTP/2 needs no leave

	up := &upload{x: x, ctx: ctx, done: make(chan struct{}), ask: make(chan struct{}), leave: make(chan struct{}), quiet: make(chan struct{}), cancel: cancel}
	if up.held = x.q.Hold || x.r.Header.Get("Expect") != ""; up.held {
		x.q.Hold = true
		x.asked = sync.OnceFunc(func() { close(up.ask) })
	}
	x.up = up
	x.limit()
	x.headCame = st.unlimitTime
	if _, err := x.session.send(ctx, until, st.raw, appendHead(nil, x.r, x.q, x.r.ContentLength)); err != nil {
		x.w.Header().Set("Connection", "close")
		return x.finish(false, x.sendError(err))
	}
	st.raw.SetWriteDeadline(time.Time{}) // from here on the answer's deadline ends both
	go up.run()
	again, err := x.answer()
	failed := up.cut(rc, st)
	if failed != nil || up.began {
		// A handler that did not wait for the body's end makes the facet close the stream behind its answer.
		// That can't be seen in time here, and the next request on it would be lost.
		again = false
		if err != nil && !errors.Is(err, ErrCut) && (errors.Is(failed, ErrBodyTooLarge) || errors.Is(failed, ErrBadBody) || errors.Is(failed, ErrClientGone)) {
			err = failed // why the stream was closed under the answer
		}
	}
	if err != nil && !errors.Is(err, ErrCut) {
		x.w.Header().Set("Connection", "close") // see answer
	}
	return x.finish(again && stop(), err)
}

// until is when the answer must have begun; zero: at any time.
func (x *exchange) until() (t time.Time) {
	if x.o.HeadTimeout > 0 {
		t = time.Now().Add(x.o.HeadTimeout)
	}
	return t
}

// openError words that no stream could be had.
func (x *exchange) openError(err error) error {
	if errors.Is(err, ErrHeadTimeout) {
		return fmt.Errorf("%w of %s", ErrHeadTimeout, x.o.HeadTimeout)
	}
	return err
}

// limit bounds the time to the answer's head: a facet may leave what is sent to it unread, too.
func (x *exchange) limit() {
	if t := x.until(); !t.IsZero() {
		x.st.before(t)
	}
}

// sendError sorts an error of writing to the facet.
func (x *exchange) sendError(err error) error {
	if errors.Is(err, yamux.ErrTimeout) {
		return fmt.Errorf("%w of %s", ErrHeadTimeout, x.o.HeadTimeout)
	}
	return facetError(err)
}

// finish keeps the stream for another request where both sides are through with this one.
func (x *exchange) finish(again bool, err error) error {
	if again && err == nil {
		x.session.keep(x.st)
		return nil
	}
	x.st.close()
	if err != nil && x.r.Context().Err() != nil && !errors.Is(err, ErrCut) && !errors.Is(err, ErrProtocol) {
		return fmt.Errorf("%w: %w", ErrClientGone, context.Cause(x.r.Context()))
	}
	return err
}

// answer reads the answer's head and body and passes them on. It reports whether
// the stream is at the end of an exchange and may carry another.
func (x *exchange) answer() (again bool, err error) {
	resp, err := x.head()
	if err != nil {
		var timeout interface{ Timeout() bool }
		if errors.As(err, &timeout) && timeout.Timeout() {
			return false, fmt.Errorf("%w of %s", ErrHeadTimeout, x.o.HeadTimeout)
		}
		return false, facetError(err)
	}
	x.headCame()
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
		return false, x.tunnel(resp)
	case wire.StatusHandover:
		return x.handover(resp)
	}
	h := x.w.Header()
	copyHeader(h, resp.Header)
	if len(resp.Trailer) > 0 {
		names := make([]string, 0, len(resp.Trailer))
		for name := range resp.Trailer {
			names = append(names, name)
		}
		h.Set("Trailer", strings.Join(names, ", "))
	}
	if x.o.Answer != nil {
		x.o.Answer(x.q.Prefix, h)
	}
	if x.up != nil && !x.up.whole.Load() {
		// An answer before its request's end. In full duplex net/http reads the rest of the body after
		// the handler has returned, and takes its end for the beginning of the next request, which it
		// then reads from two goroutines at once, and panics. So this connection carries no other request.
		h.Set("Connection", "close")
	}
	x.w.WriteHeader(resp.StatusCode)
	whole, err := x.body(resp)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrCut, err)
	}
	for name, values := range resp.Trailer {
		h[http.TrailerPrefix+name] = values
	}
	return whole && !resp.Close, nil
}

// head reads the final answer's head; informational ones go to the client as they come.
func (x *exchange) head() (*http.Response, error) {
	for range wire.MaxInformal + 1 {
		x.st.limitHead()
		resp, err := http.ReadResponse(x.st.br, x.r)
		spent := x.st.left == 0
		x.st.unlimit()
		if err != nil && spent { // however the parser took the end
			return nil, errLongHead
		}
		if err != nil {
			return nil, err
		}
		switch code := resp.StatusCode; {
		case code == http.StatusContinue:
			if x.asked != nil {
				x.asked()
			}
		case code == http.StatusSwitchingProtocols || code >= 200 && code <= 999:
			return resp, nil
		case code == wire.StatusHandover && x.o.Handover != nil && resp.Header.Get(wire.HeaderHandover) != "":
			return resp, nil
		case code >= 100 && code < 200:
			x.informal(resp)
		default:
			return nil, fmt.Errorf("%w: status %d", ErrProtocol, code)
		}
	}
	return nil, fmt.Errorf("%w: more than %d informational answers", ErrProtocol, wire.MaxInformal)
}

// informal passes a 1xx answer on. net/http sends the header map of that moment, so it is taken back afterwards.
func (x *exchange) informal(resp *http.Response) {
	h := x.w.Header()
	saved := h.Clone()
	copyHeader(h, resp.Header)
	x.w.WriteHeader(resp.StatusCode)
	clear(h)
	for name, values := range saved {
		h[name] = values
	}
}

// body copies the answer's body. One of unknown length is flushed whenever
// nothing more waits, so that events reach the client as they are sent. It reports whether the stream is at the answer's end.
func (x *exchange) body(resp *http.Response) (again bool, err error) {
	if resp.ContentLength == 0 || x.r.Method == http.MethodHead {
		return true, nil
	}
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	buf := (*bp)[:cap(*bp)]
	flush := resp.ContentLength < 0
	rc := http.NewResponseController(x.w)
	if x.st.br.Buffered() == 0 { // a head that was sent ahead of its body says something by itself
		if err := rc.Flush(); err != nil {
			return false, fmt.Errorf("%w: %w", ErrClientGone, err)
		}
	}
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, werr := x.w.Write(buf[:n]); werr != nil {
				return false, fmt.Errorf("%w: %w", ErrClientGone, werr)
			}
			if flush && x.st.br.Buffered() == 0 {
				if werr := rc.Flush(); werr != nil {
					return false, fmt.Errorf("%w: %w", ErrClientGone, werr)
				}
			}
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			if err = x.longTrailers(resp, err); err == nil {
				return false, nil
			}
		}
		if err != nil && x.r.Context().Err() != nil { // its end closed the stream
			return false, fmt.Errorf("%w: %w", ErrClientGone, context.Cause(x.r.Context()))
		}
		if err != nil {
			return false, facetError(err)
		}
	}
}
