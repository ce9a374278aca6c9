package facet

import (
	"net/http"

	"github.com/facetgateway/fgw/gateway/egress"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Outlet is where a facet's outgoing requests go: to hosts on a list, or to a service of its supervisor's.
type Outlet struct {
	Grant wire.Egress // as it was granted
	hosts *egress.Policy
}

// newOutlet makes the outlet that a start function granted.
func newOutlet(e *wire.Egress) (*Outlet, error) {
	if e == nil {
		return nil, nil
	}
	o := &Outlet{Grant: *e}
	if e.Via != nil {
		return o, nil
	}
	var err error
	if o.hosts, err = egress.ParsePolicy(e.Hosts); err != nil {
		return nil, problem.New(problem.BadRequest, "egress: %v", err)
	}
	return o, nil
}

// serve carries an outgoing request of in's.
func (o *Outlet) serve(w http.ResponseWriter, r *http.Request, in *instance, depth relay.Header) error {
	if r.URL.Host == "" {
		return problem.New(problem.BadRequest, "an outgoing request names its host: its target is in absolute form")
	}
	if o.Grant.Via == nil {
		in.m.Egress.Serve(w, r, o.hosts, in.countEgress)
		return nil
	}
	r.Host = r.URL.Host
	q := &relay.Request{Target: r.URL.RequestURI(), Extra: append(passed(r), depth,
		relay.Header{Name: wire.HeaderEgress, Value: "1"}, relay.Header{Name: "X-Forwarded-Proto", Value: r.URL.Scheme})}
	return in.service(w, r, o.Grant.Via, q)
}

func (in *instance) countEgress(bytes int64) {
	in.mu.Lock()
	in.totals.usage.EgressBytes += bytes
	in.mu.Unlock()
}
