package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one admitted request and its answer. It owns three goroutines at most: the
// handler's, the transport's (which reads the body), and the watch's timer.
type exchange struct {
	e       *Egress
	w       http.ResponseWriter
	r       *http.Request
	target  target
	count   func(int64)
	control *http.ResponseController

	watch     *time.Timer // cancels when nothing moves
	up        *upload     // nil where there is no body
	answering atomic.Bool // the server's head is being passed on, or has been
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (x *exchange) run(transport *http.Transport) {
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	cfg := &x.e.cfg
	// Until the body begins or the answer does, the transport's own limits hold; the watch stands
	// behind them for a server that doesn't read.
	out := x.outgoing(ctx)
	x.watch = time.AfterFunc(2*cfg.ConnectTimeout+cfg.HeadTimeout+cfg.StallTimeout, func() {
		cancel(errStalled)
		x.interrupt()
	})
	defer x.watch.Stop()
	defer x.up.cut(x.control)
	res, err := transport.RoundTrip(out)
	if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close()
		err = failed(nil, "%s: the server switched protocols, which nobody asked for", x.target)
	}
	if err != nil {
		x.fail(ctx, err)
		return
	}
	defer res.Body.Close()
	x.watch.Reset(cfg.StallTimeout)
	x.head(res)
	if err := x.body(res); err != nil {
		x.e.cfg.Log.DebugContext(ctx, "egress answer broke off", "host", x.target.hostPort(), "error", err)
		cancel(err)
		if x.r.Context().Value(http.ServerContextKey) != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// interrupt ends what waits for the facet: the transport returns only once its read of the body
// has, and a write of the answer only once the facet reads.
func (x *exchange) interrupt() {
	if !x.up.complete() { // else the server watches the connection, and would take this for its end
		x.control.SetReadDeadline(past)
	}
	if x.answering.Load() {
		x.control.SetWriteDeadline(past)
	}
}

// outgoing makes the request as the server will see it, from nothing: only what is named here
// can go out.
func (x *exchange) outgoing(ctx context.Context) *http.Request {
	in := x.r.URL
	out := (&http.Request{
		Method: x.r.Method,
		URL: &url.URL{
			Scheme: x.target.scheme, Host: x.target.authority(), Path: in.Path, RawPath: in.RawPath,
			RawQuery: in.RawQuery, ForceQuery: in.ForceQuery,
		},
		Header: outgoingHeader(x.r.Header),
	}).WithContext(ctx)
	x.count(int64(len(out.Method)+len(in.RequestURI())+len(" HTTP/1.1\r\n")) + size(out.Header))
	if x.r.Body == nil || x.r.Body == http.NoBody || x.r.ContentLength == 0 {
		return out
	}
	// A server may answer before it has the whole body: the facet gets the answer as it comes.
	// A writer that can't do it has no connection to hold up.
	_ = x.control.EnableFullDuplex()
	trailer := http.Header{}
	for name := range x.r.Trailer {
		if !isInbound(name) && !hopByHop[name] {
			trailer[name] = nil
		}
	}
	x.up = &upload{src: x.r.Body, moved: x.sent, trailer: func() {
		for name := range trailer {
			trailer[name] = x.r.Trailer[name]
		}
	}}
	out.Body, out.ContentLength = x.up, x.r.ContentLength
	if len(trailer) > 0 {
		out.Trailer = trailer
	}
	return out
}

// sent notes n bytes of the body that are on their way.
func (x *exchange) sent(n int64, end bool) {
	x.count(n)
	if end {
		x.watch.Reset(x.e.cfg.HeadTimeout + x.e.cfg.StallTimeout)
		return
	}
	x.watch.Reset(x.e.cfg.StallTimeout)
}

func (x *exchange) fail(ctx context.Context, err error) {
	if x.r.Context().Err() != nil && !errors.Is(context.Cause(ctx), errStalled) {
		return // nobody is there to be told
	}
	f := x.e.explain(ctx, x.target, err)
	if broken := x.up.failure(); broken != nil && f.code == CodeFailed {
		f = failed(broken, "%s: the request's body broke off", x.target)
	}
	x.up.drain(x.control)
	x.closeUnlessSent()
	x.e.refuse(x.w, x.r, f)
}

// closeUnlessSent ends the facet's connection with this answer where the request's body has not been
// read to its end: what is left of it must not be read as a next request.
func (x *exchange) closeUnlessSent() {
	if !x.up.complete() {
		x.w.Header().Set("Connection", "close")
	}
}

func (x *exchange) head(res *http.Response) {
	h := x.w.Header()
	copyAnswer(h, res.Header)
	var trailers []string
	for name := range res.Trailer {
		if !strings.HasPrefix(name, "Fgw-") && !hopByHop[name] {
			trailers = append(trailers, name)
		}
	}
	if len(trailers) > 0 {
		h.Set("Trailer", strings.Join(trailers, ", "))
	}
	x.closeUnlessSent()
	x.count(int64(len("HTTP/1.1 \r\n")+len(res.Status)) + size(res.Header))
	x.answering.Store(true)
	x.w.WriteHeader(res.StatusCode)
}

// body streams the answer: what has come is passed on before more is waited for, except for
// the end of a body of known length, which goes with the handler's return.
func (x *exchange) body(res *http.Response) error {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	buf := *bp
	left := res.ContentLength
	if left < 0 && x.r.Method != http.MethodHead {
		x.control.Flush() // an event stream may say nothing for a while, but it has begun
	}
	for {
		n, err := res.Body.Read(buf)
		if n > 0 {
			x.watch.Reset(x.e.cfg.StallTimeout)
			x.count(int64(n))
			if _, werr := x.w.Write(buf[:n]); werr != nil {
				return errors.Join(werr, context.Cause(res.Request.Context()))
			}
			if left -= int64(n); left != 0 && err == nil {
				if werr := x.control.Flush(); werr != nil && !errors.Is(werr, http.ErrNotSupported) {
					return werr
				}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(err, context.Cause(res.Request.Context()))
		}
	}
	h := x.w.Header()
	announced := h.Get("Trailer") != ""
	for name, values := range res.Trailer {
		if strings.HasPrefix(name, "Fgw-") || hopByHop[name] {
			continue
		}
		if !announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
	return nil
}
