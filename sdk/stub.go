package sdk

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Stub stands for a child, a dynamic worker or a service.
//
// As an http.Handler it steps aside: a request whose body is untouched and that has not been answered is handed over
// inside the gateway, and not a byte of body or answer passes through this process; ServeHTTP returns when the
// answer has ended. What was changed in the request's method, path, query and header counts, and so do headers set on the
// writer. Where it cannot step aside (a service, a body that was read) the bytes pass through.
//
// As an http.RoundTripper it sends a request and gives the answer to this process, which may read and change it. The
// URL's scheme and host are ignored. Errors of the gateway are *FacetError.
//
// Which child it is was said when the Stub was made; it is started when a request needs it, and not before.
type Stub struct {
	calls  *caller
	starts *starts
	head   wire.Call
	start  startFunc // nil for a service
	err    error     // why no call can succeed
}

var (
	_ http.Handler      = (*Stub)(nil)
	_ http.RoundTripper = (*Stub)(nil)
)

// RoundTrip sends the request and returns the answer, whose body must be closed.
func (s *Stub) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.err != nil {
		closeBody(r)
		return nil, s.err
	}
	head, release := s.register(r.Context())
	return s.calls.exchange(r, head, false, release)
}

// register makes the stub's start function known for as long as a call lasts.
func (s *Stub) register(ctx context.Context) (*wire.Call, func()) {
	head := s.head
	if s.start == nil {
		return &head, func() {}
	}
	var release func()
	head.Start, release = s.starts.add(ctx, s.start)
	return &head, release
}

// ServeHTTP answers the request with the child's answer.
func (s *Stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.err != nil {
		s.fail(w, r, s.err)
		return
	}
	if !s.handOver(w, r) {
		s.pass(w, r)
	}
}

// maxHandover bounds the request's head in a handover, which base64 makes a third longer.
const maxHandover = wire.MaxHeadBytes * 5 / 8

// handOver has the gateway join the client to the child, where that can be. It returns when the child's answer has ended.
func (s *Stub) handOver(w http.ResponseWriter, r *http.Request) bool {
	st, _ := r.Context().Value(streamKey{}).(*stream)
	if st == nil || s.start == nil || !st.untouched() {
		return false
	}
	head, release := s.register(r.Context())
	defer release()
	h := wire.Handover{Name: head.Name, Start: head.Start, Method: r.Method, Target: r.URL.RequestURI(), Header: handedOn(r.Header)}
	if head.Op == wire.OpWorker {
		h.Worker = &wire.Worker{ID: head.ID, IdleMS: head.IdleMS}
	}
	raw, err := json.Marshal(h)
	if err != nil || len(raw) > maxHandover {
		return false
	}
	before := st.written.Load()
	w.Header().Set(wire.HeaderHandover, base64.StdEncoding.EncodeToString(raw))
	w.WriteHeader(wire.StatusHandover)
	clear(w.Header()) // they are on their way to the client
	if st.written.Load() == before {
		return false // an answer has begun already
	}
	st.Stream.Read(make([]byte, 1)) // the child's answer has ended; or the stream has, and this request with it
	return true
}

// handedOn is the part of a request's header that goes to the child: what the gateway sets, it sets anew.
func handedOn(h http.Header) map[string][]string {
	on := make(map[string][]string, len(h))
	for name, values := range h {
		switch {
		case name == "Expect", name == headerRequestID, name == "Traceparent", name == "Tracestate":
		case strings.HasPrefix(name, "X-Forwarded-"), strings.HasPrefix(name, "Fgw-"):
		default:
			on[name] = values
		}
	}
	return on
}

// pass passes the bytes through.
func (s *Stub) pass(w http.ResponseWriter, r *http.Request) {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", placeholderHost
			p.Out.Host = p.In.Host
		},
		Transport:     s,
		FlushInterval: -1, // streams must not wait
		ErrorHandler:  s.fail,
	}
	proxy.ServeHTTP(w, r)
}

// fail answers with an error in the gateway's own form.
func (s *Stub) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is there to hear of it
	}
	p := wire.Problem{Code: codeStart, Message: err.Error()}
	var f *FacetError
	if errors.As(err, &f) {
		p = wire.Problem{Code: f.Code, Message: f.Message}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(p.Code))
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": p.Code, "message": p.Message, "request_id": requestID(r.Context())}})
}

// statusOf returns the HTTP status that goes with an error's code.
func statusOf(code string) int {
	switch code {
	case "bad_name", "bad_request":
		return http.StatusBadRequest
	case codeDenied, codeNoEgress, "cross_site":
		return http.StatusForbidden
	case "facet_not_found", "app_not_found", "object_not_found", "namespace_not_found":
		return http.StatusNotFound
	case "body_too_large":
		return http.StatusRequestEntityTooLarge
	case "too_many_requests", "object_limit":
		return http.StatusTooManyRequests
	case "overloaded", "facet_backoff":
		return http.StatusServiceUnavailable
	case "facet_timeout":
		return http.StatusGatewayTimeout
	case "storage_quota":
		return http.StatusInsufficientStorage
	}
	return http.StatusBadGateway
}

// decodeCallerProps decodes the header that carries a caller's props.
func decodeCallerProps(header string, v any) error {
	if header == "" {
		return errors.New("this request did not come to a service: it has no caller's props")
	}
	raw, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		return errors.New("the caller's props can't be read")
	}
	return json.Unmarshal(raw, v)
}

var _ io.Closer = (*exchangeBody)(nil)
