package facet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire"
)

// What a supervisor may do to its children. The administrator does the same through
// the methods of Manager, which these use.

var discard = log.New(io.Discard, "", 0)

func encodeProps(props json.RawMessage) string {
	if len(props) == 0 {
		props = json.RawMessage("null")
	}
	return base64.StdEncoding.EncodeToString(props)
}

// childAddr is the address of a child, whose name is checked.
func (in *instance) childAddr(name string) (address.Address, error) {
	if err := checkChild(in.key.depth(), name); err != nil {
		return address.Address{}, err
	}
	return in.addr().Child(name), nil
}

func (in *instance) abortChild(ctx context.Context, name, reason string) (*wire.Answer, error) {
	a, err := in.childAddr(name)
	if err != nil {
		return nil, err
	}
	if reason == "" {
		reason = "aborted by its supervisor"
	}
	return &wire.Answer{}, in.m.abort(ctx, a, clip(reason))
}

func (in *instance) deleteChild(ctx context.Context, name string) (*wire.Answer, error) {
	a, err := in.childAddr(name)
	if err != nil {
		return nil, err
	}
	return &wire.Answer{}, in.m.Delete(ctx, a)
}

func (in *instance) cloneChild(ctx context.Context, name string, to *wire.Name) (*wire.Answer, error) {
	src, err := in.childAddr(name)
	if err != nil {
		return nil, err
	}
	if to == nil {
		return nil, problem.New(problem.BadRequest, "a clone needs a name for the copy")
	}
	target, err := to.Bytes()
	if err != nil {
		return nil, problem.New(problem.BadName, "%v", err)
	}
	dst, err := in.childAddr(target)
	if err != nil {
		return nil, err
	}
	return &wire.Answer{}, in.m.clone(ctx, src, dst)
}

// listChildren lists the children, running or not.
func (in *instance) listChildren(ctx context.Context) (*wire.Answer, error) {
	self, err := in.m.find(ctx, in.addr())
	if err != nil {
		return nil, err
	}
	facets, err := in.m.Registry.Facets(ctx, self.object)
	if err != nil {
		return nil, err
	}
	a := &wire.Answer{Facets: []wire.Listed{}}
	for _, f := range facets {
		if f.Parent != self.n || len(a.Facets) == wire.MaxListed {
			continue
		}
		i := in.m.info(ctx, &record{in.addr().Child(f.Name), self.object, f.N})
		a.Facets = append(a.Facets, wire.Listed{Name: wire.NewName(f.Name), State: i.State, StorageBytes: i.StorageBytes, Requests: i.Requests})
	}
	return a, nil
}

// childUsage says what a child has used; one that never was has used nothing.
func (in *instance) childUsage(ctx context.Context, name string) (*wire.Answer, error) {
	a, err := in.childAddr(name)
	if err != nil {
		return nil, err
	}
	r, err := in.m.find(ctx, a)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, problem.New(problem.FacetNotFound, "there is no facet %q", name)
	}
	if err != nil {
		return nil, err
	}
	i := in.m.info(ctx, r)
	u, err := in.m.Usage(ctx, a)
	if err != nil {
		return nil, err
	}
	return &wire.Answer{Usage: &wire.Used{
		State: i.State, CPUSeconds: u.CPUSeconds, MemoryBytes: i.MemoryBytes, MemoryPeakBytes: u.MemoryPeakBytes,
		RowsRead: u.RowsRead, RowsWritten: u.RowsWritten, StorageBytes: i.StorageBytes,
		Requests: u.Requests, Errors: u.Errors, Starts: u.Starts, EgressBytes: u.EgressBytes,
	}}, nil
}
