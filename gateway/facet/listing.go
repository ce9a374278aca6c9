package facet

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
)

// maxListed is how many objects one listing looks at.
const maxListed = 100_000

// Facets lists the facets at or below prefix, running or not.
func (m *Manager) Facets(ctx context.Context, prefix address.Address) ([]admin.FacetInfo, error) {
	found := []admin.FacetInfo{}
	var spaces []string
	switch {
	case prefix.Namespace == "":
		for _, ns := range m.Registry.Namespaces() {
			spaces = append(spaces, ns.Name)
		}
	default:
		if _, err := m.Registry.Namespace(prefix.Namespace); err != nil {
			return nil, problem.New(problem.NamespaceNotFound, "there is no namespace %s", prefix.Namespace)
		}
		spaces = []string{prefix.Namespace}
	}
	for _, space := range spaces {
		objects, err := m.objects(ctx, space, prefix.Object)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			if found, err = m.listObject(ctx, found, o, prefix); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func (m *Manager) objects(ctx context.Context, namespace, object string) ([]*registry.Object, error) {
	if object != "" {
		o, err := m.Registry.Object(ctx, namespace, object)
		if err != nil {
			return nil, err
		}
		return []*registry.Object{o}, nil
	}
	infos, err := m.Registry.Objects(ctx, namespace, "", maxListed, "")
	if err != nil {
		return nil, err
	}
	objects := make([]*registry.Object, len(infos))
	for i := range infos {
		objects[i] = &infos[i].Object
	}
	return objects, nil
}

// listObject appends the facets of one object that lie at or below prefix.
func (m *Manager) listObject(ctx context.Context, found []admin.FacetInfo, o *registry.Object, prefix address.Address) ([]admin.FacetInfo, error) {
	root := address.Address{Namespace: o.Namespace, Object: o.Name, Root: true}
	ns, err := m.Registry.Namespace(o.Namespace)
	if err != nil {
		return nil, err
	}
	if (ns.Supervisor != "" || m.known(keyOf(root)) != nil) && prefix.Contains(root) {
		found = append(found, m.info(ctx, &record{root, o, 0}))
	}
	facets, err := m.Registry.Facets(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, f := range facets {
		a := address.Address{Namespace: o.Namespace, Object: o.Name, Facets: f.Path}
		if prefix.Contains(a) {
			found = append(found, m.info(ctx, &record{a, o, f.N}))
		}
	}
	return found, nil
}

// info says what there is to say of a facet in a listing.
func (m *Manager) info(ctx context.Context, r *record) admin.FacetInfo {
	f := admin.FacetInfo{Address: r.addr.String(), Namespace: r.addr.Namespace, Object: r.addr.Object, Facet: r.addr.Facet(), State: admin.StateStopped}
	f.StorageBytes = m.storage(r)
	if ns, err := m.Registry.Namespace(r.addr.Namespace); err == nil {
		if v, err := m.liveVersion(ns, r.addr.Object, r.addr.Facets); err == nil {
			f.App, f.Version = v.App, v.Version
		}
	}
	n := m.known(keyOf(r.addr))
	if n == nil {
		return f
	}
	n.mu.Lock()
	in := n.in
	f.Requests = n.totals.requests
	switch {
	case in == nil && time.Now().Before(n.retryAt):
		f.State = admin.StateBackoff
	case in == nil:
	case !in.began():
		f.State = admin.StateStarting
	default:
		f.State = admin.StateRunning
	}
	if in != nil {
		since := in.since.UTC()
		f.Since = &since
		f.Requests += int64(in.inflight)
	} else if n.lastExit != nil {
		f.Since = &n.lastExit.At
	}
	n.mu.Unlock()
	if f.State == admin.StateRunning {
		f.App, f.Version = in.spec.App, in.spec.Version
		pid := in.proc.PID()
		f.PID = &pid
		if s, err := in.proc.Stats(ctx); err == nil {
			f.MemoryBytes = s.MemoryBytes
		}
	}
	return f
}

// storage is how many bytes a facet's database takes on disk, its log included.
func (m *Manager) storage(r *record) (total int64) {
	base := filepath.Join(m.Objects, placeOf(r.object, r.n).file)
	for _, suffix := range []string{"", "-wal"} {
		if fi, err := os.Stat(base + suffix); err == nil {
			total += fi.Size()
		}
	}
	return total
}
