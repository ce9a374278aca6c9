package front

import (
	"net/http"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/facet"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Invoke serves the administrator's calls to facets: the same as over HTTP, but without
// the policies for clients, and for any address.
func (f *Front) Invoke() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := newRequestID()
		w.Header().Set("X-Request-Id", id)
		if err := f.invoke(w, r, id); err != nil {
			w.Header().Set(wire.HeaderError, problem.As(err).Code) // so that no facet's answer is taken for it
			f.fail(w, r, id, err)
		}
	})
}

func (f *Front) invoke(w http.ResponseWriter, r *http.Request, id string) error {
	a, ok := admin.InvokeAddress(r.Context())
	if !ok {
		return problem.New(problem.BadRequest, "no address")
	}
	ns, err := f.namespace(a.Namespace)
	if err != nil {
		return err
	}
	if len(a.Facets) == 0 && ns.Supervisor == "" {
		return problem.New(problem.FacetNotFound, "namespace %s has no supervisor of its own: name a facet", ns.Name)
	}
	t := &facet.Target{Namespace: ns, Object: a.Object, Path: a.Facets}
	return f.relay(w, r, t, id, "", r.URL.EscapedPath(), "", func(http.Header) {})
}
