package facet

import (
	"context"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// SQL opens a session with a facet's database, under the facet's own limits, without starting it.
func (m *Manager) SQL(ctx context.Context, a address.Address) (admin.Session, error) {
	r, err := m.find(ctx, a)
	if err != nil {
		return nil, err
	}
	ns, err := m.Registry.Namespace(a.Namespace)
	if err != nil {
		return nil, err
	}
	p := placeOf(r.object, r.n)
	ch, err := m.Databases.Attach(ctx, sqlpool.AttachOptions{Object: p.object, File: p.file, Limits: sqlLimits(m.specOf(a, ns)),
		Owner: &auditor{log: m.Logs.Writer(a, 0), by: "administrator"}, Audit: m.Registry.Audited(r.object, a.Facets...)})
	if err != nil {
		return nil, err
	}
	detach := func() {
		ctx, cancel := context.WithTimeout(context.Background(), killTime)
		defer cancel()
		if err := ch.Close(ctx); err != nil {
			m.Log.Error("detach an administrator's session", "facet", a.String(), "error", err)
		}
		ch.Owner().(*auditor).log.Close()
	}
	c, err := client.New(ch.FacetEnd(), 1)
	if err != nil {
		detach()
		return nil, err
	}
	s, err := c.Session()
	if err != nil {
		c.Close()
		detach()
		return nil, err
	}
	return admin.NewSession(s, func() { c.Close(); detach() }), nil
}

// specOf is what a facet was started with; of one that does not run, its namespace's limits. All
// channels of a database share their limits: a session beside the facet must not lift them.
func (m *Manager) specOf(a address.Address, ns *registry.Namespace) *Spec {
	if n := m.known(keyOf(a)); n != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.in != nil && n.in.began() {
			return n.in.spec
		}
	}
	s := &Spec{Limits: ns.Limits}
	if ns.Supervisor != "" {
		s.Object, s.Start.Root = ns.Limits.Storage, true
		if len(a.Facets) > 0 {
			s.Object = s.objectBelow()
		}
	}
	return s
}
