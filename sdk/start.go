package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Start says what a child is. Zero values are the closed ones: no egress, no services, no children, the
// parent's own limits. Props, Env and Secrets are at most 1 MiB together.
type Start struct {
	Code     Code
	ID       string            // what Facet.ID gives; empty: an id of the gateway's
	Props    any               // as JSON, for Facet.Props
	Env      map[string]string // for Facet.Env
	Secrets  map[string]string // for Facet.Secret; kept out of logs and listings
	Services map[string]Binding
	Limits   Limits
	Egress   Egress
	Children bool // whether it may have children of its own
}

// Limits are never above the parent's own; 0 is the parent's own.
type Limits struct {
	Memory        int64   // bytes
	CPU           float64 // cores: 0.5 is half of one
	Storage       int64   // bytes
	Processes     int
	StatementTime time.Duration // of one SQL statement
	RequestTime   time.Duration // to the head of the answer
	InFlight      int           // requests
	Rows          int64         // that a statement may read
}

func (l *Limits) wire() wire.Limits {
	const milli = 1000
	return wire.Limits{Memory: l.Memory, CPUMilli: int64(l.CPU * milli), Storage: l.Storage, Processes: int64(l.Processes),
		StatementMS: l.StatementTime.Milliseconds(), RequestMS: l.RequestTime.Milliseconds(), InFlight: int64(l.InFlight), Rows: l.Rows}
}

// Binding is a service with props fixed for the one that it is handed to.
type Binding struct {
	service string
	props   any
}

// Service makes a binding, for Start.Services: the service that this facet exposes under that name, with props
// that the child can neither see nor change. The handler reads them with CallerProps.
func Service(name string, props any) Binding { return Binding{name, props} }

func (b *Binding) wire() (wire.Binding, error) {
	props, err := json.Marshal(b.props)
	if err != nil {
		return wire.Binding{}, fmt.Errorf("encode the props of service %q: %w", b.service, err)
	}
	return wire.Binding{Service: b.service, Props: props}, nil
}

// Egress is what a child may send out. The zero value is nothing.
type Egress struct {
	hosts []string
	via   *Binding
}

// EgressTo allows requests to hosts, by name: "api.example.com", or "*.example.com" for all below. Private
// addresses are refused all the same.
func EgressTo(hosts ...string) Egress { return Egress{hosts: hosts} }

// EgressVia hands each outgoing request to a service of this facet's, which answers, changes or refuses it; the
// request's host is the one that the child asked for.
func EgressVia(service Binding) Egress { return Egress{via: &service} }

func (e *Egress) wire() (*wire.Egress, error) {
	switch {
	case e.via != nil:
		b, err := e.via.wire()
		return &wire.Egress{Via: &b}, err
	case len(e.hosts) > 0:
		return &wire.Egress{Hosts: e.hosts}, nil
	}
	return nil, nil
}

// Code is what a child runs: Source, Executable or App.
type Code struct {
	kind    string
	files   map[string]string
	exe     io.Reader
	app     string
	version int
}

// Source is Go source: file name to text, of package main, at most 16 MiB. One file is enough: without a go.mod it gets
// one, and the standard library, this SDK and the modules that the administrator allowed can be imported.
func Source(files map[string]string) Code { return Code{kind: wire.CodeSource, files: files} }

// Executable is a static executable for this machine, at most 512 MiB. A reader that cannot be read again gives
// its code once.
func Executable(r io.Reader) Code { return Code{kind: wire.CodeExecutable, exe: r} }

// App is a version of an app of this namespace, as fgw deploy makes them; version 0 is the newest.
func App(name string, version int) Code { return Code{kind: wire.CodeApp, app: name, version: version} }

// codeBytes are the bytes that belong to code.
type codeBytes struct {
	io.Reader
	done func()
}

func (b *codeBytes) all() ([]byte, error) { return io.ReadAll(b.Reader) }

// encode returns the code's head, and its bytes, to be read once.
func (c *Code) encode() (*wire.Code, *codeBytes, error) {
	head := &wire.Code{Kind: c.kind, App: c.app, Version: c.version}
	none := &codeBytes{bytes.NewReader(nil), func() {}}
	switch c.kind {
	case wire.CodeApp:
		return head, none, nil
	case wire.CodeSource:
		b, err := json.Marshal(c.files)
		if err != nil {
			return nil, nil, fmt.Errorf("encode the source: %w", err)
		}
		if len(b) > wire.MaxSource {
			return nil, nil, &FacetError{Code: "build_failed", Message: fmt.Sprintf("the source has %d bytes, at most %d are allowed", len(b), wire.MaxSource)}
		}
		head.Size = int64(len(b))
		return head, &codeBytes{bytes.NewReader(b), func() {}}, nil
	case wire.CodeExecutable:
		return c.encodeExecutable(head)
	}
	return nil, nil, errors.New("the start names no code: use sdk.Source, sdk.Executable or sdk.App")
}

// encodeExecutable finds out the size; what can be read again is left where it began.
func (c *Code) encodeExecutable(head *wire.Code) (*wire.Code, *codeBytes, error) {
	if c.exe == nil {
		return nil, nil, errors.New("the executable is nil")
	}
	if s, ok := c.exe.(io.ReadSeeker); ok {
		from, err := s.Seek(0, io.SeekCurrent)
		if err == nil {
			var end int64
			if end, err = s.Seek(0, io.SeekEnd); err == nil {
				_, err = s.Seek(from, io.SeekStart)
			}
			head.Size = end - from
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the executable: %w", err)
		}
		return head, &codeBytes{s, func() { s.Seek(from, io.SeekStart) }}, checkSize(head.Size)
	}
	b, err := io.ReadAll(io.LimitReader(c.exe, wire.MaxExecutable+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the executable: %w", err)
	}
	head.Size = int64(len(b))
	return head, &codeBytes{bytes.NewReader(b), func() {}}, checkSize(head.Size)
}

func checkSize(n int64) error {
	if n > wire.MaxExecutable {
		return fmt.Errorf("the executable has %d bytes, at most %d are allowed", n, wire.MaxExecutable)
	}
	return nil
}

// answer makes the answer of a start function, and the bytes that follow it.
func (s *Start) answer() (*wire.StartAnswer, *codeBytes, error) {
	a := &wire.StartAnswer{ID: s.ID, Env: s.Env, Secrets: s.Secrets, Limits: s.Limits.wire(), Children: s.Children}
	var err error
	if s.Props != nil {
		if a.Props, err = json.Marshal(s.Props); err != nil {
			return nil, nil, fmt.Errorf("encode the props: %w", err)
		}
	}
	for name, b := range s.Services {
		if a.Services == nil {
			a.Services = map[string]wire.Binding{}
		}
		if a.Services[name], err = b.wire(); err != nil {
			return nil, nil, err
		}
	}
	if a.Egress, err = s.Egress.wire(); err != nil {
		return nil, nil, err
	}
	head, bytes, err := s.Code.encode()
	if err != nil {
		return nil, nil, err
	}
	a.Code = *head
	return a, bytes, nil
}
