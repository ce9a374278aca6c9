package sdk

import (
	"context"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Facets are the children of this facet. Names are 1 to 256 bytes of anything but NUL.
type Facets struct{ f *Facet }

// Facets returns the children of this facet. Without the right to have any, every call fails and says so.
func (f *Facet) Facets() *Facets { return &Facets{f} }

// may says why this facet can't have children.
func (f *Facet) may() error {
	switch {
	case f.outside == nil:
		return errOutside
	case !f.start.Children:
		return &FacetError{Code: "access_denied", Message: "this facet has no right to have children: its supervisor starts it with Start.Children"}
	}
	return nil
}

// Get returns a stub for the child of that name, which need not exist yet: its first request makes it. start is called only
// when no instance runs; a running one keeps what it was started with until it is aborted or stops.
func (c *Facets) Get(name string, start StartFor) *Stub {
	return &Stub{f: c.f, call: wire.Call{Op: wire.OpChild, Name: wire.NewName(name)}, start: start, err: c.f.may()}
}

// Abort ends a child and its descendants now. Requests in flight fail with facet_aborted and the reason. Data stays.
// Aborting what does not run does nothing.
func (c *Facets) Abort(ctx context.Context, name, reason string) error {
	_, err := c.ask(ctx, &wire.Call{Op: wire.OpAbort, Name: wire.NewName(name), Reason: reason})
	return err
}

// Delete ends a child and deletes its database and its descendants'. Deleting what never was does nothing.
func (c *Facets) Delete(ctx context.Context, name string) error {
	_, err := c.ask(ctx, &wire.Call{Op: wire.OpDelete, Name: wire.NewName(name)})
	return err
}

// Clone replaces dst by a copy of src with all its descendants, as they are at one moment (of each 128 facets, where there are
// more) while src runs. It is done as a whole or, where it fails, not at all. A src that never was leaves dst
// empty; onto itself, a child is ended and keeps its data.
func (c *Facets) Clone(ctx context.Context, src, dst string) error {
	to := wire.NewName(dst)
	_, err := c.ask(ctx, &wire.Call{Op: wire.OpClone, Name: wire.NewName(src), To: &to})
	return err
}

// FacetInfo is a child in a listing. State is running, starting, stopped or backoff.
type FacetInfo struct {
	Name         string `json:"name"`
	State        string `json:"state"`
	StorageBytes int64  `json:"storage_bytes"`
	Requests     int64  `json:"requests"` // since the gateway started
}

// List returns the children, running or not, at most 10,000.
func (c *Facets) List(ctx context.Context) ([]FacetInfo, error) {
	a, err := c.ask(ctx, &wire.Call{Op: wire.OpList})
	if err != nil {
		return nil, err
	}
	list := make([]FacetInfo, 0, len(a.Facets))
	for _, l := range a.Facets {
		name, err := l.Bytes()
		if err != nil {
			return nil, err
		}
		list = append(list, FacetInfo{name, l.State, l.StorageBytes, l.Requests})
	}
	return list, nil
}

// FacetUsage is what a child has used. Counts run from the gateway's start; Requests counts at hand-over, before
// the first byte of an answer.
type FacetUsage struct {
	State           string  `json:"state"`
	CPUSeconds      float64 `json:"cpu_seconds"` // its own and that of its SQL
	MemoryBytes     int64   `json:"memory_bytes"`
	MemoryPeakBytes int64   `json:"memory_peak_bytes"`
	RowsRead        int64   `json:"rows_read"`
	RowsWritten     int64   `json:"rows_written"`
	StorageBytes    int64   `json:"storage_bytes"`
	Requests        int64   `json:"requests"`
	Errors          int64   `json:"errors"`
	Starts          int64   `json:"starts"`
	EgressBytes     int64   `json:"egress_bytes"`
}

// Usage returns what a child has used; facet_not_found for one that never was.
func (c *Facets) Usage(ctx context.Context, name string) (*FacetUsage, error) {
	a, err := c.ask(ctx, &wire.Call{Op: wire.OpUsage, Name: wire.NewName(name)})
	if err != nil {
		return nil, err
	}
	if a.Usage == nil {
		return &FacetUsage{}, nil
	}
	u := FacetUsage(*a.Usage)
	return &u, nil
}

func (c *Facets) ask(ctx context.Context, call *wire.Call) (*wire.Answer, error) {
	if err := c.f.may(); err != nil {
		return nil, err
	}
	return c.f.outside.ask(ctx, call, nil)
}
