package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Stub calls another facet, a dynamic worker, or a service. It is an http.RoundTripper, through which the bytes pass,
// and an http.Handler, which steps aside where it can: it hands the request over to the gateway. A Stub is cheap to make; keeping one is
// not needed. Its methods may be called by many goroutines.
//
// A call that fails before an answer begins gives a *FacetError, with the codes of the HTTP side.
type Stub struct {
	f     *Facet
	call  wire.Call
	start StartFor // nil for a service
	err   error    // every call fails with it
	keep  *http.Transport
}

// StartFor says how a child starts. It is called only when no instance runs, once however many requests wait.
type StartFor = func(ctx context.Context) (*Start, error)

// RoundTrip sends a request and returns the answer. The URL's scheme and host do not matter; its path and query do.
func (s *Stub) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.err != nil {
		closeBody(r)
		return nil, s.err
	}
	out := r.WithContext(r.Context())
	out.URL = &url.URL{Scheme: "http", Host: "facet", Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	if out.URL.Path == "" {
		out.URL.Path = "/"
	}
	if out.Host == "" {
		out.Host = r.URL.Host
	}
	out.RequestURI = ""
	id, depth := requestID(r.Context()), depthOf(r.Context())
	if r.Header.Get(headerRequestID) != "" {
		id = ""
	}
	if id != "" || depth != nil {
		if out.Header = r.Header.Clone(); out.Header == nil {
			out.Header = http.Header{}
		}
		if id != "" {
			out.Header.Set(headerRequestID, id)
		}
		if depth != nil {
			out.Header[wire.HeaderDepth] = depth
		}
	}
	t := s.keep
	end := func() {}
	if t == nil {
		call, done := s.begin()
		end = done
		t = s.f.outside.transport(false, func(context.Context) (*wire.Call, error) { return call, nil })
	}
	resp, err := t.RoundTrip(out)
	if err == nil {
		err = problem(resp)
	}
	if err != nil {
		end()
		return nil, asFacetError(err)
	}
	resp.Request = r
	resp.Body = &endBody{ReadCloser: resp.Body, end: end}
	return resp, nil
}

// begin makes the call's head, its start function known until the returned function is called.
func (s *Stub) begin() (*wire.Call, func()) {
	call := s.call
	if s.start == nil {
		return &call, func() {}
	}
	var done func()
	call.Start, done = s.f.starts.add(s.start)
	return &call, done
}

// ServeHTTP answers a request by the facet's answer to it. Given the request and the writer as they came to this facet's handler, with
// nothing of the body read and nothing written, whatever was changed of path and headers (http.StripPrefix), it hands the request
// over: the gateway joins the client to the other facet, and this process sees not a byte of the body. Headers set before on w are
// added to the answer. Otherwise the bytes pass through here. It returns when the answer has ended.
func (s *Stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.err != nil {
		writeProblem(w, r, s.err)
		return
	}
	if x := exchangeOf(w, r); x != nil && s.call.Op != wire.OpService {
		s.handOver(x, r)
		return
	}
	s.pass(w, r)
}

// writeProblem answers r with an error in the form that the gateway's own have.
func writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	f := &FacetError{Code: "internal", Message: err.Error()}
	errors.As(err, &f)
	h, status := w.Header(), statusOf(f.Code)
	h.Del("Content-Length")
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if s := f.RetryAfter / time.Second; s > 0 || status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(max(1, int(s))))
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": f.Code, "message": f.Message, "request_id": requestID(r.Context())}})
}

// statusOf gives the HTTP status of an error code, 502 where it is none of the caller's doing.
func statusOf(code string) int {
	switch code {
	case "bad_name", "bad_request", "depth_limit":
		return http.StatusBadRequest
	case "access_denied", "egress_denied", "limit_above_own":
		return http.StatusForbidden
	case "facet_not_found", "app_not_found", "object_not_found":
		return http.StatusNotFound
	case "body_too_large":
		return http.StatusRequestEntityTooLarge
	case "too_many_requests", "object_limit":
		return http.StatusTooManyRequests
	case "overloaded", "facet_backoff":
		return http.StatusServiceUnavailable
	case "call_depth":
		return http.StatusLoopDetected
	case "facet_timeout":
		return http.StatusGatewayTimeout
	case "storage_quota", "disk_full":
		return http.StatusInsufficientStorage
	}
	return http.StatusBadGateway
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}
