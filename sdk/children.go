package sdk

import (
	"context"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// MaxNameBytes is the length of the longest name of a facet.
const MaxNameBytes = 256

// Facets are a facet's children, each with code, database and process of its own. Without the right to have
// any (a supervisor has it, a child where Start.Children says so), every call fails with a *FacetError of code access_denied. Names
// are 1 to MaxNameBytes bytes of any kind. Its methods may be called by many goroutines.
type Facets struct {
	calls  *caller
	starts *starts
	err    error // why every call fails
}

// FacetInfo is a child in a list.
type FacetInfo struct {
	Name         string `json:"name"`
	State        string `json:"state"` // running, starting, stopped or backoff
	StorageBytes int64  `json:"storage_bytes"`
	Requests     int64  `json:"requests"`
}

// FacetUsage is what a child has used since it was created.
type FacetUsage struct {
	State           string  `json:"state"`
	CPUSeconds      float64 `json:"cpu_seconds"`
	MemoryBytes     int64   `json:"memory_bytes"` // now
	MemoryPeakBytes int64   `json:"memory_peak_bytes"`
	RowsRead        int64   `json:"rows_read"`
	RowsWritten     int64   `json:"rows_written"`
	StorageBytes    int64   `json:"storage_bytes"`
	Requests        int64   `json:"requests"` // counted at hand-over, before the first byte of an answer
	Errors          int64   `json:"errors"`
	Starts          int64   `json:"starts"`
	EgressBytes     int64   `json:"egress_bytes"`
}

// Get returns the child of that name, which need not exist yet. start says what it is; it is called when a request needs
// the child and no instance of it runs, once however many requests wait, and has 60 seconds. An instance that
// runs keeps what it was started with.
func (fs *Facets) Get(name string, start func(context.Context) (*Start, error)) *Stub {
	return &Stub{calls: fs.calls, starts: fs.starts, head: wire.Call{Op: wire.OpChild, Name: wire.NewName(name)}, start: start, err: fs.check(name)}
}

// Abort ends the child's process and its descendants' now. Calls under way fail with the reason. Data stays. A child that does not
// run is no error.
func (fs *Facets) Abort(ctx context.Context, name, reason string) error {
	return fs.do(ctx, &wire.Call{Op: wire.OpAbort, Reason: reason}, name)
}

// Delete aborts the child and removes its data and its descendants'. A child that never was is no error.
func (fs *Facets) Delete(ctx context.Context, name string) error {
	return fs.do(ctx, &wire.Call{Op: wire.OpDelete}, name)
}

// Clone makes dst a copy of src and its descendants, as they are at one moment; src may go on running. What
// dst was before is gone.
func (fs *Facets) Clone(ctx context.Context, src, dst string) error {
	if err := fs.check(dst); err != nil {
		return err
	}
	to := wire.NewName(dst)
	return fs.do(ctx, &wire.Call{Op: wire.OpClone, To: &to}, src)
}

// List returns the children that exist, running or not, at most 10,000.
func (fs *Facets) List(ctx context.Context) ([]FacetInfo, error) {
	if fs.err != nil {
		return nil, fs.err
	}
	a, err := fs.calls.ask(ctx, &wire.Call{Op: wire.OpList}, nil)
	if err != nil {
		return nil, err
	}
	list := make([]FacetInfo, 0, len(a.Facets))
	for _, f := range a.Facets {
		name, err := f.Bytes()
		if err != nil {
			return nil, err
		}
		list = append(list, FacetInfo{name, f.State, f.StorageBytes, f.Requests})
	}
	return list, nil
}

// Usage returns what the child has used.
func (fs *Facets) Usage(ctx context.Context, name string) (*FacetUsage, error) {
	if err := fs.check(name); err != nil {
		return nil, err
	}
	a, err := fs.calls.ask(ctx, &wire.Call{Op: wire.OpUsage, Name: wire.NewName(name)}, nil)
	if err != nil {
		return nil, err
	}
	u := FacetUsage{}
	if a.Usage != nil {
		u = FacetUsage{a.Usage.State, a.Usage.CPUSeconds, a.Usage.MemoryBytes, a.Usage.MemoryPeakBytes, a.Usage.RowsRead, a.Usage.RowsWritten,
			a.Usage.StorageBytes, a.Usage.Requests, a.Usage.Errors, a.Usage.Starts, a.Usage.EgressBytes}
	}
	return &u, nil
}

func (fs *Facets) do(ctx context.Context, head *wire.Call, name string) error {
	if err := fs.check(name); err != nil {
		return err
	}
	head.Name = wire.NewName(name)
	_, err := fs.calls.ask(ctx, head, nil)
	return err
}

// check tells why a call for that name fails.
func (fs *Facets) check(name string) error {
	if fs.err != nil {
		return fs.err
	}
	if len(name) == 0 || len(name) > MaxNameBytes {
		return &FacetError{Code: "bad_name", Message: "a facet's name is 1 to 256 bytes"}
	}
	return nil
}

// Loader builds code, and runs code that has no name and no database. It needs the same right as Facets.
type Loader struct {
	calls  *caller
	starts *starts
	err    error
}

// Diagnostic is one thing that is wrong with a source.
type Diagnostic struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1; 0 where it is not known
	Column  int    `json:"column"` // in bytes, from 1; 0 where it is not known
	Message string `json:"message"`
}

// Check builds a source and runs nothing. What is wrong with it comes as diagnostics, none if it builds; the error is
// for when it could not be tried.
func (l *Loader) Check(ctx context.Context, code Code) ([]Diagnostic, error) {
	if l.err != nil {
		return nil, l.err
	}
	head, bytes, err := code.encode()
	if err != nil {
		return nil, err
	}
	defer bytes.done()
	text, err := bytes.all()
	if err != nil {
		return nil, err
	}
	a, err := l.calls.ask(ctx, &wire.Call{Op: wire.OpCheck, Code: head}, text)
	if err != nil {
		return nil, err
	}
	found := make([]Diagnostic, 0, len(a.Diagnostics))
	for _, d := range a.Diagnostics {
		found = append(found, Diagnostic(d))
	}
	return found, nil
}

// LoadOptions say what a dynamic worker is given; the zero value is the closed one, as in Start.
type LoadOptions struct {
	Props    any
	Env      map[string]string
	Secrets  map[string]string
	Services map[string]Binding
	Limits   Limits
	Egress   Egress
}

// Load returns a dynamic worker that runs the code: confined like a facet, without a name and without a database. Each
// call has a process of its own, which ends with it. opts may be nil.
func (l *Loader) Load(code Code, opts *LoadOptions) *Stub {
	if opts == nil {
		opts = &LoadOptions{}
	}
	s := &Start{Code: code, Props: opts.Props, Env: opts.Env, Secrets: opts.Secrets, Services: opts.Services, Limits: opts.Limits, Egress: opts.Egress}
	return l.stub("", 0, func(context.Context) (*Start, error) { return s, nil })
}

// workerIdle is how long a worker that is kept by its id lives without a call.
const workerIdle = 10 * time.Second

// Get returns the dynamic worker of that id, which is kept while it is busy and for ten seconds more. load says what
// it is, when no instance runs.
func (l *Loader) Get(id string, load func(context.Context) (*Start, error)) *Stub {
	s := l.stub(id, workerIdle, load)
	if s.err == nil && (id == "" || len(id) > MaxNameBytes) {
		s.err = &FacetError{Code: "bad_name", Message: "a worker's id is 1 to 256 bytes"}
	}
	return s
}

func (l *Loader) stub(id string, idle time.Duration, start startFunc) *Stub {
	return &Stub{calls: l.calls, starts: l.starts, head: wire.Call{Op: wire.OpWorker, ID: id, IdleMS: idle.Milliseconds()}, start: start, err: l.err}
}
