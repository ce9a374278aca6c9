package facet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// Clone replaces dst by a copy of src, which may go on running. Once it has begun it goes on without its caller, as lastingFor says; it
// is done as a whole or not at all.
func (m *Manager) Clone(ctx context.Context, src, dst address.Address) error {
	if _, err := m.find(ctx, src); err != nil {
		return err
	}
	if src.Namespace != dst.Namespace || src.Object != dst.Object {
		return problem.New(problem.BadRequest, "a facet is cloned within its object: %s and %s are of different ones", src, dst)
	}
	return m.replace(ctx, src, dst)
}

// clone is a supervisor's: a source that never was empties the copy.
func (m *Manager) clone(ctx context.Context, src, dst address.Address) error {
	_, err := m.find(ctx, src)
	if errors.Is(err, registry.ErrNotFound) {
		return m.Delete(ctx, dst)
	}
	if err != nil {
		return err
	}
	return m.replace(ctx, src, dst)
}

const clonedOver = "the facet was cloned over"

func (m *Manager) replace(ctx context.Context, src, dst address.Address) error {
	if src.Equal(dst) { // it loses its memory alone
		release, err := m.holdAll(ctx, dst, clonedOver)
		if err == nil {
			release()
		}
		return err
	}
	if len(dst.Facets) == 0 || len(src.Facets) == 0 {
		return problem.New(problem.BadRequest, "a supervisor can't be cloned, nor cloned over")
	}
	if dst.Contains(src) || src.Contains(dst) {
		return problem.New(problem.BadRequest, "%s and %s lie within one another", src, dst)
	}
	release, err := m.holdAll(ctx, dst, clonedOver, src)
	if err != nil {
		return err
	}
	defer release()
	from, err := m.find(ctx, src)
	if err != nil {
		return err
	}
	facets, err := m.Registry.Facets(ctx, from.object)
	if err != nil {
		return err
	}
	bytes, err := m.roomFor(from, dst, facets)
	if err != nil {
		return err
	}
	ctx, cancel := lastingFor(ctx, bytes)
	defer cancel()
	return late(ctx, m.copyTree(ctx, from, below(facets, from.n), dst))
}

// copyTree copies a facet and its descendants over dst, which is held. The copies are made beside what is there, and take its place
// at one moment, once they are whole: until then, and where that fails, dst is as it was.
func (m *Manager) copyTree(ctx context.Context, from *record, sources []registry.Facet, dst address.Address) error {
	parent := 0
	if up := dst.Facets[:len(dst.Facets)-1]; len(up) > 0 {
		numbers, err := m.Registry.FindFacet(ctx, from.object, up...)
		if err != nil {
			return err
		}
		parent = numbers[len(numbers)-1]
	}
	first, err := m.Registry.ReserveFacets(ctx, from.object, len(sources))
	if err != nil {
		return err
	}
	tree := make([]registry.Facet, len(sources))
	to := map[int]int{}
	for i, f := range sources {
		tree[i] = registry.Facet{N: first + i, Parent: to[f.Parent], Name: f.Name}
		to[f.N] = first + i
	}
	tree[0].Parent, tree[0].Name = parent, dst.Facet()
	removed, err := m.putCopies(ctx, from.object, sources, tree)
	if err != nil {
		m.discard(ctx, from.object, first, len(tree))
		return cloneProblem(err, from.addr, dst)
	}
	return m.sweep(ctx, from.object, removed)
}

// cloneProblem tells why there is no copy.
func cloneProblem(err error, src, dst address.Address) error {
	if errors.Is(err, registry.ErrFacetLimit) {
		return objectProblem(err)
	}
	var f *sqlchan.Failure
	switch {
	case problem.As(err).Code == problem.DiskFull, errors.As(err, &f) && f.Code == sqlchan.CodeDiskFull:
		return &problem.Error{Code: problem.DiskFull, Message: fmt.Sprintf("the disk has no room for a copy of %s; %s is as it was", src, dst), Hint: "free some space on the disk of the gateway's data directory"}
	case f != nil:
		return problem.New(f.Code, "%s can't be copied, and %s is as it was: %s", src, dst, f.Message)
	}
	return err
}

// putCopies copies each source's database and puts the copies in place. They are of one moment, where they are not more than the pool
// copies at once.
func (m *Manager) putCopies(ctx context.Context, o *registry.Object, sources, tree []registry.Facet) (removed []int, err error) {
	for at := 0; at < len(tree); at += sqlpool.MaxClone {
		var from, to []string
		for i := at; i < min(at+sqlpool.MaxClone, len(tree)); i++ {
			from = append(from, placeOf(o, sources[i].N).file)
			to = append(to, placeOf(o, tree[i].N).file)
		}
		if err := m.Databases.Clone(ctx, o.Dir(), from, to); err != nil {
			return nil, err
		}
	}
	return m.Registry.ReplaceFacet(ctx, o, tree)
}

// discard removes copies that did not take their place. Where ctx is over, a worker may still write one: then, as where this fails,
// the next start of the gateway does it.
func (m *Manager) discard(ctx context.Context, o *registry.Object, first, count int) {
	numbers, err := m.Registry.Leftovers(ctx, o, first, count)
	if err == nil {
		err = m.sweep(ctx, o, numbers)
	}
	if err != nil {
		m.Log.Warn("the copies of a clone that failed stay until the next start", slog.String("object", o.Name), slog.Any("error", err))
	}
}

// below gives a facet and its descendants, parents before children, out of all in that order.
func below(facets []registry.Facet, n int) (tree []registry.Facet) {
	in := map[int]bool{n: true}
	for _, f := range facets {
		if f.N == n || in[f.Parent] {
			in[f.N] = true
			tree = append(tree, f)
		}
	}
	return tree
}

// roomFor gives the bytes of a copy over dst, or refuses it where it does not fit into what the object's databases may take together.
func (m *Manager) roomFor(from *record, dst address.Address, facets []registry.Facet) (copied int64, err error) {
	ns, err := m.Registry.Namespace(dst.Namespace)
	if err != nil {
		return 0, err
	}
	var kept int64
	for _, f := range append(slices.Clip(facets), registry.Facet{}) { // the supervisor, too
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
	if most := m.specOf(dst, ns).Object; most > 0 && kept+copied > most {
		return 0, problem.New(problem.StorageQuota, "a copy of %s takes %s, and the databases of its object may take %s together; %s are in use",
			from.addr, sizeText(copied), sizeText(most), sizeText(kept))
	}
	return copied, nil
}
