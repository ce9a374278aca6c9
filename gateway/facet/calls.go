package facet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/sdk/wire"
)

// headTime is how long a facet may take to say what a stream that it opened is for.
const headTime = 30 * time.Second

// serveOut serves a stream on which the facet calls out (wire: CALLS §1).
func (in *instance) serveOut(st *yamux.Stream) {
	r := gated{st, in.gate}
	st.SetReadDeadline(time.Now().Add(headTime))
	body, err := wire.ReadMessage(r)
	if err != nil {
		st.Close()
		return
	}
	st.SetReadDeadline(time.Time{})
	var c wire.Call
	if err := json.Unmarshal(body, &c); err != nil {
		in.kill(problem.FacetProtocol, "an unreadable call")
		st.Close()
		return
	}
	if c.Exchange() {
		in.m.exchanges.put(&callConn{Stream: st, in: in, call: &c, r: r, w: in.session.Writer(context.Background(), st)})
	} else {
		in.answer(st, r, &c)
	}
}

// callConn is a stream on which the facet is an HTTP client of the gateway's.
type callConn struct {
	*yamux.Stream
	in   *instance
	call *wire.Call
	r    io.Reader
	w    io.Writer
	once sync.Once
	end  []func() // run when the stream closes
}

func (c *callConn) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *callConn) Write(p []byte) (int, error) { return c.w.Write(p) }

func (c *callConn) Close() error {
	c.once.Do(func() {
		for _, f := range c.end {
			f()
		}
	})
	return c.Stream.Close()
}

// exchanges is the listener of all facets' calls: one HTTP server serves them.
type exchanges struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newExchanges() *exchanges {
	return &exchanges{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (e *exchanges) put(c net.Conn) {
	select {
	case e.conns <- c:
	case <-e.done:
		c.Close()
	}
}

func (e *exchanges) Accept() (net.Conn, error) {
	select {
	case c := <-e.conns:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}

func (e *exchanges) Close() error {
	e.once.Do(func() { close(e.done) })
	return nil
}

func (e *exchanges) Addr() net.Addr { return &net.UnixAddr{Name: "calls", Net: "unix"} }

type callKey struct{}

// serveExchanges serves the calls of facets until the manager is closed.
func (m *Manager) serveExchanges() {
	srv := &http.Server{
		Handler:        http.HandlerFunc(m.exchange),
		MaxHeaderBytes: wire.MaxHeadBytes,
		ErrorLog:       discard,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callKey{}, c)
		},
	}
	srv.Serve(m.exchanges)
	srv.Close()
}

// exchange carries one request that a facet makes.
func (m *Manager) exchange(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(callKey{}).(*callConn)
	err := m.carry(w, r, c)
	switch {
	case err == nil:
	case errors.Is(err, relay.ErrClientGone), errors.Is(err, relay.ErrCut):
		panic(http.ErrAbortHandler) // so that the caller sees that the answer is not whole
	default:
		writeCallProblem(w, problem.As(err))
	}
}

// writeCallProblem tells a facet why its call failed, in a form that its own answers can't be taken for.
func writeCallProblem(w http.ResponseWriter, p *problem.Error) {
	w.Header().Set(wire.HeaderError, p.Code)
	w.Header().Set("Content-Type", "application/json")
	if s := p.RetrySeconds(); s > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(s))
	}
	w.WriteHeader(p.Status())
	json.NewEncoder(w).Encode(map[string]wire.Problem{"error": {Code: p.Code, Message: p.Message, Stack: p.Stack}})
}

func (m *Manager) carry(w http.ResponseWriter, r *http.Request, c *callConn) error {
	depth, err := deeper(r.Header)
	if err != nil {
		return err
	}
	in, q := c.in, &relay.Request{Target: r.URL.RequestURI(), Extra: append(passed(r), depth)}
	switch c.call.Op {
	case wire.OpChild:
		name, err := c.call.Bytes()
		if err != nil {
			return problem.New(problem.BadName, "%v", err)
		}
		n, err := in.ownChild(name)
		if err != nil {
			return err
		}
		return n.serve(w, r, &starter{parent: in, number: c.call.Start}, q, in.options())
	case wire.OpWorker:
		if !in.spec.Start.Children {
			return errNoChildren
		}
		n := in.worker(c)
		return n.serve(w, r, &starter{parent: in, number: c.call.Start}, q, in.options())
	case wire.OpService:
		b, ok := in.spec.Services[c.call.Text]
		if !ok || in.starter == nil {
			return problem.New(problem.AccessDenied, "this facet was handed no service %q", c.call.Text)
		}
		return in.service(w, r, &b, q)
	}
	if in.spec.Egress == nil {
		return problem.New(problem.EgressDenied, "this facet was granted no egress")
	}
	return in.spec.Egress.serve(w, r, in, depth)
}

// deeper counts one call more of those within one another, and refuses what is too deep: a facet that calls its supervisor, which
// calls the facet. The calling facet says how deep the request is that it calls for, since only it knows. One that says less than is
// true, or nothing, has what it would have without the count: its own streams, which bound its calls, and their time.
func deeper(h http.Header) (relay.Header, error) {
	depth := 0
	if said := h[wire.HeaderDepth]; len(said) > 0 {
		n, err := strconv.ParseUint(said[0], 10, 16)
		if err != nil {
			return relay.Header{}, problem.New(problem.BadRequest, "the header %s is a number", wire.HeaderDepth)
		}
		depth = int(n)
	}
	if depth >= wire.MaxCallDepth {
		return relay.Header{}, problem.New(problem.CallDepth, "the request went through %d calls of facets, one within the other, and that is the limit: do they call each other for ever?", depth)
	}
	return relay.Header{Name: wire.HeaderDepth, Value: strconv.Itoa(depth + 1)}, nil
}

// passed are the headers of the gateway's that go on from a facet's request to the next: those that
// tell which request it belongs to.
func passed(r *http.Request) []relay.Header {
	var extra []relay.Header
	for _, name := range []string{"X-Request-Id", "Traceparent", "Tracestate"} {
		if v := r.Header.Get(name); v != "" && len(v) <= 256 {
			extra = append(extra, relay.Header{Name: name, Value: v})
		}
	}
	return extra
}

var errNoChildren = problem.New(problem.AccessDenied, "this facet has no right to have children (Start.Children)")

// ownChild returns the node of a child, where in may have any.
func (in *instance) ownChild(name string) (*node, error) {
	if !in.spec.Start.Children {
		return nil, errNoChildren
	}
	return in.child(name)
}

// options bound an exchange that one facet has with another.
func (in *instance) options() *relay.Options {
	return &relay.Options{HeadTimeout: in.spec.Limits.RequestTimeout, BodyLimit: in.spec.Limits.Body}
}

// service carries a request to a service of the facet's parent, with the props that the parent fixed.
func (in *instance) service(w http.ResponseWriter, r *http.Request, b *wire.Binding, q *relay.Request) error {
	q.Extra = append(q.Extra, relay.Header{Name: wire.HeaderService, Value: b.Service}, relay.Header{Name: wire.HeaderCallerProps, Value: encodeProps(b.Props)})
	up := in.starter.parent
	o := up.options()
	err := up.session.Serve(w, r, q, o)
	if err != nil {
		return up.explain(err, o)
	}
	return nil
}

// serve carries a request to the facet, which it starts if need be.
func (n *node) serve(w http.ResponseWriter, r *http.Request, s *starter, q *relay.Request, o *relay.Options) error {
	in, err := n.acquire(r.Context(), s)
	if err != nil {
		if r.Context().Err() != nil {
			return errors.Join(relay.ErrClientGone, err)
		}
		return err
	}
	o.HeadTimeout = in.spec.Limits.RequestTimeout
	if in.spec.Start.Children {
		q.Hold = true
		o.Handover = in.handover(q, o)
	}
	err = in.session.Serve(w, r, q, o)
	if err != nil {
		err = in.explain(err, o)
	}
	in.node.release(in, err)
	return err
}

// answer answers a question (wire: CALLS §1).
func (in *instance) answer(st *yamux.Stream, r gated, c *wire.Call) {
	defer st.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // a facet that ends waits for nothing
		select {
		case <-in.dead:
			cancel()
		case <-in.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	a, err := in.question(ctx, r, c)
	if err != nil {
		p := problem.As(err)
		if p.Code == problem.Internal {
			in.m.Log.Error("a facet's call failed", "facet", in.address(), "op", c.Op, "error", err)
		}
		a = &wire.Answer{Error: &wire.Problem{Code: p.Code, Message: p.Message, Stack: p.Stack}}
	}
	st.SetWriteDeadline(time.Now().Add(stallTime))
	if err := writeAnswer(in.session.Writer(context.Background(), st), a); err != nil {
		in.m.Log.Debug("answer a facet", "facet", in.address(), "error", err)
	}
}

// writeAnswer writes an answer, which may be larger than a head: a long listing.
func writeAnswer(w io.Writer, a *wire.Answer) error {
	var b bytes.Buffer
	b.Write(make([]byte, 4))
	if err := json.NewEncoder(&b).Encode(a); err != nil {
		return err
	}
	body := b.Bytes()
	n := len(body) - 4
	body[0], body[1], body[2], body[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	_, err := w.Write(body)
	return err
}

func (in *instance) question(ctx context.Context, r gated, c *wire.Call) (*wire.Answer, error) {
	if !in.spec.Start.Children {
		return nil, errNoChildren
	}
	name, err := c.Bytes()
	if err != nil {
		return nil, problem.New(problem.BadName, "%v", err)
	}
	switch c.Op {
	case wire.OpAbort:
		return in.abortChild(ctx, name, in.hide.hide(c.Reason)) // it stands in the log of what is ended
	case wire.OpDelete:
		return in.deleteChild(ctx, name)
	case wire.OpClone:
		return in.cloneChild(ctx, name, c.To)
	case wire.OpList:
		return in.listChildren(ctx)
	case wire.OpUsage:
		return in.childUsage(ctx, name)
	case wire.OpCheck:
		return in.check(ctx, r, c)
	}
	return nil, problem.New(problem.BadRequest, "this gateway knows no call %q", c.Op)
}

// check builds a source and says what is wrong with it.
func (in *instance) check(ctx context.Context, r gated, c *wire.Call) (*wire.Answer, error) {
	if c.Code == nil || c.Code.Kind != wire.CodeSource {
		return nil, problem.New(problem.BadRequest, "only a source can be checked")
	}
	found, err := in.m.checkSource(ctx, in.key, c.Code, r)
	if errors.Is(err, errStarterGone) {
		return nil, problem.New(problem.BadRequest, "the source ended before it was whole")
	}
	if err != nil {
		return nil, err
	}
	return &wire.Answer{Diagnostics: found}, nil
}
