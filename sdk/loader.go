package sdk

import (
	"context"
	"errors"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Loader runs code that has no name.
type Loader struct{ f *Facet }

// Loader returns the loader. Without the right to have children every call fails and says so.
func (f *Facet) Loader() *Loader { return &Loader{f} }

// Diagnostic is one thing that is wrong with a source. File is as the source names it; Line and Column count from 1 and are 0 where
// the trouble has no place.
type Diagnostic struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// Check builds a source and runs nothing. It returns what is wrong with it, what is refused (cgo, an unknown module)
// included; none for code that builds. The error is for when it could not be tried.
func (l *Loader) Check(ctx context.Context, code Code) ([]Diagnostic, error) {
	if err := l.f.may(); err != nil {
		return nil, err
	}
	head, body, err := code.open()
	if f := (*FacetError)(nil); errors.As(err, &f) && f.Code == codeBuildFailed { // too large: refused before it travels
		return []Diagnostic{{Message: f.Message}}, nil
	}
	if err != nil {
		return nil, err
	}
	a, err := l.f.outside.ask(ctx, &wire.Call{Op: wire.OpCheck, Code: &head}, body)
	if err != nil {
		return nil, err
	}
	found := make([]Diagnostic, len(a.Diagnostics))
	for i, d := range a.Diagnostics {
		found[i] = Diagnostic(d)
	}
	return found, nil
}

// LoadOptions are what a dynamic worker is given. The zero value gives nothing.
type LoadOptions struct {
	Props        any
	Env, Secrets map[string]string
	Services     map[string]Binding
	Limits       Limits
	Egress       Egress
}

// Load returns a stub for a dynamic worker: the code runs without a name and without a database, confined like a
// facet, in a process of its own for each call. opts may be nil.
func (l *Loader) Load(code Code, opts *LoadOptions) *Stub {
	if opts == nil {
		opts = &LoadOptions{}
	}
	return l.stub("", func(context.Context) (*Start, error) {
		return &Start{Code: code, Props: opts.Props, Env: opts.Env, Secrets: opts.Secrets, Services: opts.Services, Limits: opts.Limits, Egress: opts.Egress}, nil
	})
}

// Get returns a stub for the dynamic worker of that id, which is kept while it is busy and for its idle time, that of
// the namespace. load is called only when none runs.
func (l *Loader) Get(id string, load StartFor) *Stub { return l.stub(id, load) }

func (l *Loader) stub(id string, start StartFor) *Stub {
	return &Stub{f: l.f, call: wire.Call{Op: wire.OpWorker, ID: id}, start: start, err: l.f.may()}
}
