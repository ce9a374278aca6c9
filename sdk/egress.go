package sdk

import (
	"context"
	"net/http"
	"net/url"
	"sync"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Client returns an HTTP client for outgoing requests, where this facet was granted egress; otherwise every call fails with
// ErrNoEgress. A child has what its supervisor grants; a supervisor, and an app without one, what the administrator does
// (fgw namespaces set NAMESPACE egress=HOSTS). The gateway makes the requests, https included; http.DefaultClient goes the same way. Outside a
// gateway it is http.DefaultClient.
func (f *Facet) Client() *http.Client {
	if f.egress == nil {
		return http.DefaultClient
	}
	return &http.Client{Transport: f.egress}
}

// egress is a facet's way out.
type egress struct {
	f    *Facet
	once sync.Once
	keep *http.Transport
}

func fixed(call wire.Call) func(context.Context) (*wire.Call, error) {
	return func(context.Context) (*wire.Call, error) { return &call, nil }
}

// RoundTrip sends the request to the gateway, its target in absolute form.
func (e *egress) RoundTrip(r *http.Request) (*http.Response, error) {
	if !e.f.start.Egress {
		closeBody(r)
		return nil, ErrNoEgress
	}
	e.once.Do(func() { e.keep = e.f.outside.transport(true, fixed(wire.Call{Op: wire.OpEgress})) })
	out := r.WithContext(r.Context())
	target := *r.URL
	target.User, target.Fragment, target.RawFragment = nil, "", ""
	if target.Path == "" {
		target.Path = "/"
	}
	if out.Host == "" {
		out.Host = r.URL.Host
	}
	out.URL = &url.URL{Scheme: "http", Host: "egress", Opaque: target.String()}
	if out.Header = r.Header.Clone(); out.Header == nil {
		out.Header = http.Header{}
	}
	if user := r.URL.User; user != nil && r.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		out.SetBasicAuth(user.Username(), password)
	}
	if depth := depthOf(r.Context()); depth != nil { // the way out may be a service
		out.Header[wire.HeaderDepth] = depth
	}
	resp, err := e.keep.RoundTrip(out)
	if err == nil {
		err = problem(resp)
	}
	if err != nil {
		return nil, asFacetError(err)
	}
	resp.Request = r
	return resp, nil
}
