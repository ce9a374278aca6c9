package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/logs"
)

type invokeKey struct{}

// InvokeAddress tells the Invoke handler which facet a call is for.
func InvokeAddress(ctx context.Context) (address.Address, bool) {
	a, ok := ctx.Value(invokeKey{}).(address.Address)
	return a, ok
}

// invoked serves a call to a facet, and tells whether r was one.
func (s *server) invoked(w http.ResponseWriter, r *http.Request) bool {
	path, ok := strings.CutPrefix(r.URL.Path, pathInvoke+"/")
	if !ok {
		return false
	}
	a, err := address.Parse(r.Header.Get(addressHeader))
	switch {
	case s.Invoke == nil:
		err = Errorf(http.StatusNotImplemented, "not_found", "this gateway serves no invocations")
	case err == nil && !a.IsFacet() && a.Object == "":
		err = Errorf(http.StatusBadRequest, "bad_name", "%q names no facet", a.String()).WithHint("a facet is NAMESPACE/OBJECT/FACET, a supervisor NAMESPACE/OBJECT/")
	}
	if err != nil {
		s.fail(w, r, err)
		return true
	}
	u := &url.URL{Path: "/" + path, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	if raw, ok := strings.CutPrefix(r.URL.RawPath, pathInvoke); ok {
		u.RawPath = raw
	}
	in := r.WithContext(context.WithValue(r.Context(), invokeKey{}, a))
	in.URL, in.RequestURI = u, u.RequestURI()
	in.Header = r.Header.Clone()
	in.Header.Del(addressHeader)
	s.Invoke.ServeHTTP(w, in)
	return true
}

// logs streams lines, each a JSON object.
func (s *server) logs(w http.ResponseWriter, r *http.Request) {
	q, err := logsQuery(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	if q.Follow {
		q.Idle = func() { rc.Flush() }
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	silent := true
	// An error here is the reader's end or the gateway's: the stream just ends.
	err = s.Logs.Read(r.Context(), q, func(l logs.Line) error { silent = false; return enc.Encode(l) })
	if err == nil && silent && !q.Follow { // is it that nothing was printed, or that there is no such thing?
		if err := s.known(r.Context(), q.Prefix); err != nil {
			s.fail(w, r, err)
		}
	}
}

// known is an error where there is nothing at that address, or prefix of one.
func (s *server) known(ctx context.Context, a address.Address) error {
	if a.IsFacet() {
		_, err := s.Runtime.Inspect(ctx, a)
		return s.noFacet(a, err)
	}
	_, err := s.facetsBelow(ctx, a)
	return err
}

func logsQuery(r *http.Request) (q logs.Query, err error) {
	v := r.URL.Query()
	if q.Prefix, err = address.Parse(v.Get("address")); err != nil {
		return q, err
	}
	if q.Lines, err = number(r, "lines", 0, 1<<31-1); err != nil {
		return q, err
	}
	if t := v.Get("since"); t != "" {
		if q.Since, err = time.Parse(time.RFC3339Nano, t); err != nil {
			return q, Errorf(http.StatusBadRequest, "bad_request", "since=%s is no time", t)
		}
	}
	q.Follow = v.Get("follow") == "true"
	return q, nil
}
