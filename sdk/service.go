package sdk

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Expose offers a service to the facets that this one hands it to (Start.Services, EgressVia). Call it in start. The
// handler serves requests of children only, with the props that were fixed for each: CallerProps.
func (f *Facet) Expose(name string, handler http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.exposed == nil {
		f.exposed = map[string]http.Handler{}
	}
	f.exposed[name] = handler
}

// CallerProps decodes the props that were fixed for the caller of a service's request into v, a pointer.
func CallerProps(r *http.Request, v any) error {
	raw, err := base64.StdEncoding.DecodeString(r.Header.Get(wire.HeaderCallerProps))
	if err != nil {
		return fmt.Errorf("decode the caller's props: %w", err)
	}
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decode the caller's props: %w", err)
	}
	return nil
}

// Service returns a stub for a service that this facet was handed; nil where it was handed none of that name.
func (f *Facet) Service(name string) *Stub {
	for _, s := range f.start.Services {
		if s == name {
			call := wire.Call{Op: wire.OpService, Name: wire.NewName(name)}
			return &Stub{f: f, call: call, keep: f.serviceTransport(call)}
		}
	}
	return nil
}

// serviceTransport keeps streams to a service open between calls.
func (f *Facet) serviceTransport(call wire.Call) *http.Transport {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.services[call.Text]
	if t == nil {
		if f.services == nil {
			f.services = map[string]*http.Transport{}
		}
		t = f.outside.transport(true, fixed(call))
		f.services[call.Text] = t
	}
	return t
}

// exposedTo serves a request for a service, which the gateway marks with headers that nobody else can set.
func (f *Facet) exposedTo(w http.ResponseWriter, r *http.Request, name string) {
	f.mu.Lock()
	h := f.exposed[name]
	f.mu.Unlock()
	if h == nil {
		http.Error(w, fmt.Sprintf("this facet offers no service %q: Expose it in start", name), http.StatusNotFound)
		return
	}
	if r.Header.Get(wire.HeaderEgress) != "" {
		r = r.WithContext(r.Context())
		u := *r.URL
		u.Scheme, u.Host = r.Header.Get("X-Forwarded-Proto"), r.Host
		if u.Scheme == "" {
			u.Scheme = "http"
		}
		r.URL = (*url.URL)(&u)
	}
	h.ServeHTTP(w, r)
}
