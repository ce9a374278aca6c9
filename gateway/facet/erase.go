package facet

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
)

// Delete ends a facet and deletes its data and its descendants'. Deleting what never was does nothing, and so does deleting twice. Once
// it has begun it goes on without its caller, for changeTime; one that failed or broke off is finished by asking for it again.
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
	ctx, cancel := lasting(ctx)
	defer cancel()
	return late(ctx, m.erase(ctx, r))
}

// erase deletes the data of a facet and its descendants, which are held. Their names go last: of a facet without a name nobody
// would find what was left.
func (m *Manager) erase(ctx context.Context, r *record) error {
	facets, err := m.Registry.Facets(ctx, r.object)
	if err != nil {
		return err
	}
	below := map[int]bool{r.n: true}
	files := []string{placeOf(r.object, r.n).file}
	for _, f := range facets { // parents come before their children
		if below[f.Parent] && f.N != r.n {
			below[f.N] = true
			files = append(files, placeOf(r.object, f.N).file)
		}
	}
	for n := range below {
		id := alarmID{r.object.ID, n}
		m.alarms.drop(id)
		if m.alarms.forget(id) {
			if err := m.Registry.RemoveAlarm(ctx, id.object, id.n); err != nil {
				return err
			}
		}
	}
	if err := m.Databases.Remove(ctx, r.object.Dir(), files); err != nil {
		return err
	}
	_, err = m.Registry.RemoveFacetNames(ctx, r.object, r.n)
	return err
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
	facets, err := m.Registry.Facets(ctx, from.object)
	if err != nil {
		return err
	}
	if err := m.roomFor(from, dst, facets); err != nil {
		return err
	}
	old, err := m.find(ctx, dst)
	if err == nil {
		err = m.erase(ctx, old)
	}
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
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

// roomFor says whether a copy over dst fits into what the object's databases may take together.
func (m *Manager) roomFor(from *record, dst address.Address, facets []registry.Facet) error {
	ns, err := m.Registry.Namespace(dst.Namespace)
	if err != nil {
		return err
	}
	most := m.specOf(dst, ns).Object
	if most == 0 {
		return nil
	}
	var kept, copied int64
	for _, f := range append(facets, registry.Facet{}) { // the supervisor, too
		a := address.Address{Namespace: dst.Namespace, Object: dst.Object, Facets: f.Path}
		var bytes int64 // without what a log may still hold
		if fi, err := os.Stat(filepath.Join(m.Objects, placeOf(from.object, f.N).file)); err == nil {
			bytes = fi.Size()
		}
		if len(f.Path) == 0 || !dst.Contains(a) {
			kept += bytes
		}
		if len(f.Path) > 0 && from.addr.Contains(a) {
			copied += bytes
		}
	}
	if kept+copied > most {
		return problem.New(problem.StorageQuota, "a copy of %s takes %s, and the databases of its object may take %s together; %s are in use",
			from.addr, sizeText(copied), sizeText(most), sizeText(kept))
	}
	return nil
}

// RemoveObject ends what runs in an object and removes it with all its data. Whoever asks for it meanwhile waits, and finds a new one.
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
	return m.removeObject(ctx, o)
}

// removeObject removes an object that is held.
func (m *Manager) removeObject(ctx context.Context, o *registry.Object) error {
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
	m.forget(key{o.Namespace, o.Name, ""})
	return m.Registry.RemoveObject(ctx, o.Namespace, o.Name)
}

// RemoveNamespace removes a namespace, with its objects where force is given.
func (m *Manager) RemoveNamespace(ctx context.Context, namespace string, force bool) error {
	if force {
		release, err := m.holdAll(ctx, address.Address{Namespace: namespace}, "the namespace was removed")
		if err != nil {
			return err
		}
		defer release()
		objects, err := m.objects(ctx, namespace, "")
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := m.removeObject(ctx, o); err != nil && !errors.Is(err, registry.ErrNotFound) {
				return err
			}
		}
	}
	m.forget(key{namespace, "", ""})
	return m.Registry.RemoveNamespace(ctx, namespace, force)
}

// forget drops the nodes at or below a key that do not run: they are removed.
func (m *Manager) forget(removed key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.nodes {
		if removed.covers(k) {
			n.mu.Lock()
			if n.in == nil {
				n.forgotten = true
				delete(m.nodes, k)
			}
			n.mu.Unlock()
		}
	}
}
