package facet

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire"
)

// The exported methods here, in listing.go, erase.go and session.go serve the administrator: they are the admin.Runtime of the gateway.

var _ admin.Runtime = (*Manager)(nil)

// record is a facet that the registry knows, and where its data lies.
type record struct {
	addr   address.Address
	object *registry.Object
	n      int
}

func keyOf(a address.Address) key {
	return key{a.Namespace, a.Object, strings.Join(a.Facets, "\x00")}
}

// find looks a facet up in the registry.
func (m *Manager) find(ctx context.Context, a address.Address) (*record, error) {
	o, err := m.Registry.Object(ctx, a.Namespace, a.Object)
	if err != nil {
		return nil, err
	}
	numbers, err := m.Registry.FindFacet(ctx, o, a.Facets...)
	if err != nil {
		return nil, err
	}
	r := &record{addr: a, object: o}
	if len(numbers) > 0 {
		r.n = numbers[len(numbers)-1]
	}
	return r, nil
}

// Inspect says all there is to say of a facet, its confinement read back from the kernel.
func (m *Manager) Inspect(ctx context.Context, a address.Address) (*admin.FacetDetail, error) {
	r, err := m.find(ctx, a)
	if err != nil {
		return nil, err
	}
	ns, err := m.Registry.Namespace(a.Namespace)
	if err != nil {
		return nil, err
	}
	d := &admin.FacetDetail{FacetInfo: m.info(ctx, r), Limits: usualLimits(ns, a), Confinement: json.RawMessage("null")}
	u, err := m.Usage(ctx, a)
	if err != nil {
		return nil, err
	}
	d.Usage = *u
	n := m.known(keyOf(a))
	if n == nil {
		return d, nil
	}
	n.mu.Lock()
	in, last := n.in, n.lastExit
	n.mu.Unlock()
	if last != nil {
		d.LastExit = &admin.LastExit{Reason: last.Reason, Detail: last.Detail, At: last.At}
	}
	if in != nil && d.State == admin.StateRunning {
		d.Limits, d.Start = in.spec.Limits, in.spec.summary()
		if c, err := in.proc.Confinement(ctx); err == nil {
			if d.Confinement, err = json.Marshal(c); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// usualLimits are those that a facet gets of which nobody says otherwise: what its supervisor will say is not known while it does not run.
func usualLimits(ns *registry.Namespace, a address.Address) registry.Limits {
	l := ns.Limits
	if ns.Supervisor != "" {
		for range a.Facets {
			if below, err := deriveLimits(&l, &wire.Limits{}); err == nil {
				l = *below
			}
		}
	}
	return l
}

// summary is what an administrator may see of a spec: no value of an environment, no secret, no props.
func (s *Spec) summary() *admin.Start {
	a := &admin.Start{
		Bundle: s.Bundle, Limits: s.Limits, Rows: s.Rows, Egress: "none", Children: s.Start.Children,
		Env: slices.Sorted(maps.Keys(s.Start.Env)), Services: slices.Sorted(maps.Keys(s.Services)),
	}
	switch {
	case s.Egress == nil:
	case s.Egress.Grant.Via != nil:
		a.Egress = "service"
	default:
		a.Egress = "hosts"
	}
	return a
}

// Usage says what a facet has used.
func (m *Manager) Usage(ctx context.Context, a address.Address) (*admin.Usage, error) {
	r, err := m.find(ctx, a)
	if err != nil {
		return nil, err
	}
	u := &admin.Usage{StorageBytes: m.storage(r)}
	if n := m.known(keyOf(a)); n != nil {
		v := n.usage(ctx)
		u.CPUSeconds, u.MemoryPeakBytes, u.RowsRead, u.RowsWritten = v.CPUSeconds, v.MemoryPeakBytes, v.RowsRead, v.RowsWritten
		u.Requests, u.Errors, u.Starts, u.EgressBytes = v.Requests, v.Errors, v.Starts, v.EgressBytes
	}
	return u, nil
}

// Abort ends a facet and its descendants now; its requests are told the reason.
func (m *Manager) Abort(ctx context.Context, a address.Address, reason string) error {
	if a.IsFacet() {
		if _, err := m.find(ctx, a); err != nil {
			return err
		}
	}
	if reason == "" {
		reason = "aborted by the administrator"
	}
	return m.abort(ctx, a, reason)
}

func (m *Manager) abort(ctx context.Context, a address.Address, reason string) error {
	for _, n := range m.subtree(a) {
		if in := n.end(problem.FacetAborted, reason); in != nil {
			select {
			case <-in.gone:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		n.forgive()
	}
	return nil
}
