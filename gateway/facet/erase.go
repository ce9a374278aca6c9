package facet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/registry"
)

// Delete ends a facet and deletes its data and its descendants'. Deleting what never was does nothing, and so does deleting twice. Once
// it has begun it goes on without its caller, for changeTime; where files could not be removed, asking for it again tries that again.
func (m *Manager) Delete(ctx context.Context, a address.Address) error {
	release, err := m.holdAll(ctx, a, "the facet was deleted")
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := lasting(ctx)
	defer cancel()
	r, err := m.find(ctx, a)
	if errors.Is(err, registry.ErrNotFound) {
		return late(ctx, m.sweepAgain(ctx, a))
	}
	if err != nil {
		return err
	}
	return late(ctx, m.erase(ctx, r))
}

// erase deletes the data of a facet and its descendants, which are held. They are gone at one moment, with the registry's commit;
// if the gateway is killed before their files are, its next start removes those.
func (m *Manager) erase(ctx context.Context, r *record) error {
	if r.n == 0 { // a root has no row that could go; its number is used again, so it goes first and not as a leftover
		if err := m.dropAlarm(ctx, alarmID{r.object.ID, 0}); err != nil {
			return err
		}
		if err := m.Databases.Remove(ctx, r.object.Dir(), []string{placeOf(r.object, 0).file}); err != nil {
			return err
		}
	}
	removed, err := m.Registry.RemoveFacet(ctx, r.object, r.n)
	if err != nil {
		return err
	}
	return m.sweep(ctx, r.object, removed)
}

// dropAlarm removes a facet's alarm. It waits for whoever is changing it: what the facet set last may still be on its way.
func (m *Manager) dropAlarm(ctx context.Context, id alarmID) error {
	release, err := m.alarms.hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	m.alarms.drop(id)
	if !m.alarms.forget(id) {
		return nil
	}
	return m.Registry.RemoveAlarm(ctx, id.object, id.n)
}

// sweep removes what is left of facets that the registry has forgotten: their alarms and their databases. What it can't remove is
// tried again by the next one in the object, or by the next start of the gateway.
func (m *Manager) sweep(ctx context.Context, o *registry.Object, numbers []int) (err error) {
	numbers = append(m.unswept.take(o.ID), numbers...)
	if len(numbers) == 0 {
		return nil
	}
	defer func() {
		if err != nil {
			m.unswept.add(o.ID, numbers)
			err = fmt.Errorf("the data can't be reached any more, but their files are not removed yet: %w", err)
		}
	}()
	files := make([]string, len(numbers))
	for i, n := range numbers {
		if err := m.dropAlarm(ctx, alarmID{o.ID, n}); err != nil {
			return err
		}
		files[i] = placeOf(o, n).file
	}
	if err := m.Databases.Remove(ctx, o.Dir(), files); err != nil {
		return err
	}
	return m.Registry.Swept(ctx, o, numbers)
}

// sweepAgain finishes what an earlier deletion in the object could not.
func (m *Manager) sweepAgain(ctx context.Context, a address.Address) error {
	o, err := m.Registry.Object(ctx, a.Namespace, a.Object)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.sweep(ctx, o, nil)
}

// unswept are the numbers by object of facets whose files could not be removed.
type unswept struct {
	mu      sync.Mutex
	numbers map[string][]int // guarded by mu
}

func (u *unswept) take(object string) []int {
	u.mu.Lock()
	defer u.mu.Unlock()
	numbers := u.numbers[object]
	delete(u.numbers, object)
	return numbers
}

func (u *unswept) add(object string, numbers []int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.numbers == nil {
		u.numbers = map[string][]int{}
	}
	u.numbers[object] = append(u.numbers[object], numbers...)
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

// removeObject removes an object that is held. Its caller may leave: the hold must not end while a worker still removes databases,
// for the next object of this name has the same ones.
func (m *Manager) removeObject(ctx context.Context, o *registry.Object) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := lasting(ctx)
	defer cancel()
	return late(ctx, m.removeHeld(ctx, o))
}

func (m *Manager) removeHeld(ctx context.Context, o *registry.Object) error {
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
	m.unswept.take(o.ID) // they go with the directory, and the next object of this name gives their numbers again
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
