package facet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// The methods in this file serve the administrator: they are the admin.Runtime of the gateway.

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
	case in.state == starting:
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
	d := &admin.FacetDetail{FacetInfo: m.info(ctx, r), Limits: ns.Limits, Confinement: json.RawMessage("null")}
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

// subtree returns the nodes at or below a facet, an object or a namespace.
func (m *Manager) subtree(a address.Address) []*node {
	k := keyOf(a)
	return m.all(func(other key) bool {
		return other.namespace == k.namespace && (k.object == "" || other.object == k.object) &&
			(k.path == "" || other.path == k.path || strings.HasPrefix(other.path, k.path+"\x00"))
	})
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
	}
	return nil
}

// holdAll ends every facet at or below a and keeps them from starting.
func (m *Manager) holdAll(ctx context.Context, a address.Address, reason string) (release func(), err error) {
	var held []func()
	release = func() {
		for _, r := range held {
			r()
		}
	}
	for _, n := range m.subtree(a) {
		r, err := n.hold(ctx, problem.FacetAborted, reason)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, r)
	}
	return release, nil
}

// Delete ends a facet and deletes its data and its descendants'. Deleting what never was does nothing.
func (m *Manager) Delete(ctx context.Context, a address.Address) error {
	r, err := m.find(ctx, a)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	release, err := m.holdAll(ctx, a, "the facet was deleted")
	if err != nil {
		return err
	}
	defer release()
	return m.erase(ctx, r)
}

// erase deletes the data of a facet and its descendants, which are held.
func (m *Manager) erase(ctx context.Context, r *record) error {
	gone, err := m.Registry.RemoveFacetNames(ctx, r.object, r.n)
	if err != nil {
		return err
	}
	if r.n == 0 {
		gone = append(gone, 0)
	}
	files := make([]string, len(gone))
	for i, n := range gone {
		files[i] = placeOf(r.object, n).file
		if id := (alarmID{r.object.ID, n}); m.alarms.has(id) {
			m.alarms.drop(id)
			if err := m.Registry.ClearAlarm(ctx, id.object, id.n); err != nil {
				return err
			}
		}
	}
	return m.Databases.Remove(ctx, r.object.Dir(), files)
}

// Clone replaces dst by a copy of src, which may go on running.
func (m *Manager) Clone(ctx context.Context, src, dst address.Address) error {
	from, err := m.find(ctx, src)
	if err != nil {
		return err
	}
	if src.Namespace != dst.Namespace || src.Object != dst.Object {
		return problem.New(problem.BadRequest, "a facet is cloned within its object: %s and %s are of different ones", src, dst)
	}
	return m.cloneFrom(ctx, from, dst)
}

// clone is a supervisor's: a source that never was empties the copy.
func (m *Manager) clone(ctx context.Context, src, dst address.Address) error {
	from, err := m.find(ctx, src)
	if errors.Is(err, registry.ErrNotFound) {
		return m.Delete(ctx, dst)
	}
	if err != nil {
		return err
	}
	return m.cloneFrom(ctx, from, dst)
}

func (m *Manager) cloneFrom(ctx context.Context, from *record, dst address.Address) error {
	release, err := m.holdAll(ctx, dst, "the facet was cloned over")
	if err != nil {
		return err
	}
	defer release()
	if from.addr.Equal(dst) {
		return nil
	}
	return m.copyTree(ctx, from, dst)
}

// copyTree copies a facet and its descendants over dst, which is held.
func (m *Manager) copyTree(ctx context.Context, from *record, dst address.Address) error {
	if len(dst.Facets) == 0 || len(from.addr.Facets) == 0 {
		return problem.New(problem.BadRequest, "a supervisor can't be cloned, nor cloned over")
	}
	if dst.Contains(from.addr) || from.addr.Contains(dst) {
		return problem.New(problem.BadRequest, "%s and %s lie within one another", from.addr, dst)
	}
	parent := 0
	if up := dst.Facets[:len(dst.Facets)-1]; len(up) > 0 {
		numbers, err := m.Registry.FindFacet(ctx, from.object, up...)
		if err != nil {
			return err
		}
		parent = numbers[len(numbers)-1]
	}
	old, err := m.find(ctx, dst)
	if err == nil {
		err = m.erase(ctx, old)
	}
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	facets, err := m.Registry.Facets(ctx, from.object)
	if err != nil {
		return err
	}
	to := map[int]int{}
	for _, f := range facets {
		name := f.Name
		switch up, below := to[f.Parent]; {
		case f.N == from.n:
			name = dst.Facet()
		case below:
			parent = up
		default:
			continue
		}
		n, err := m.Registry.EnsureFacet(ctx, from.object, parent, name)
		if err != nil {
			return objectProblem(err)
		}
		to[f.N] = n
		if err := m.Databases.Clone(ctx, from.object.Dir(), placeOf(from.object, f.N).file, placeOf(from.object, n).file); err != nil {
			return err
		}
	}
	return nil
}

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
		Owner: &auditor{m.Logs.Writer(a, 0), "administrator"}, Audit: m.Registry.Audited(r.object, a.Facets...)})
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
		if n.in != nil && n.in.state != starting {
			return n.in.spec
		}
	}
	return &Spec{Limits: ns.Limits}
}

// RemoveObject ends what runs in an object and removes it with all its data.
func (m *Manager) RemoveObject(ctx context.Context, namespace, object string) error {
	o, err := m.Registry.Object(ctx, namespace, object)
	if err != nil {
		return err
	}
	release, err := m.holdAll(ctx, address.Address{Namespace: namespace, Object: object}, "the object was removed")
	if err != nil {
		return err
	}
	defer release()
	facets, err := m.Registry.Facets(ctx, o)
	if err != nil {
		return err
	}
	files := []string{placeOf(o, 0).file}
	for _, f := range facets {
		files = append(files, placeOf(o, f.N).file)
	}
	if err := m.Databases.Remove(ctx, o.Dir(), files); err != nil {
		return err
	}
	m.forget(func(k key) bool { return k.namespace == namespace && k.object == object })
	return m.Registry.RemoveObject(ctx, namespace, object)
}

// RemoveNamespace removes a namespace, with its objects where force is given.
func (m *Manager) RemoveNamespace(ctx context.Context, namespace string, force bool) error {
	if force {
		objects, err := m.objects(ctx, namespace, "")
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := m.RemoveObject(ctx, namespace, o.Name); err != nil && !errors.Is(err, registry.ErrNotFound) {
				return err
			}
		}
	}
	m.forget(func(k key) bool { return k.namespace == namespace })
	return m.Registry.RemoveNamespace(ctx, namespace, force)
}

// forget drops the nodes of facets that are removed and do not run.
func (m *Manager) forget(which func(key) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.nodes {
		if which(k) {
			n.mu.Lock()
			if n.in == nil && n.held == nil {
				n.forgotten = true
				delete(m.nodes, k)
			}
			n.mu.Unlock()
		}
	}
}
