package sdk

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Start says how a child facet starts. Zero values are the closed ones: no egress, no services, no children, and the
// usual limits.
type Start struct {
	Code Code
	// ID is what the child's ID returns; empty: the object's.
	ID string
	// Props is given to the child as JSON, for its Props. With Env and Secrets it takes at most 1 MiB.
	Props any
	// Env and Secrets are what the child's Env and Secret return. Secrets are in no listing; where the child prints one or dies
	// with it, its logs and errors show the secret's name in its place (of at least four bytes, as they are: what the child has encoded or cut is not found).
	Env, Secrets map[string]string
	// Services are what the child's Service returns, by the child's own names for them.
	Services map[string]Binding
	// Limits are never above the supervisor's own.
	Limits Limits
	// Egress is where the child's outgoing requests go.
	Egress Egress
	// Children lets the child have children of its own; a tree is at most four deep, its root included.
	// A dynamic worker can't have any.
	Children bool
}

// Limits bound one facet. No field may pass the supervisor's own value, which a field that is 0 has; of Memory, CPU and
// Processes a child gets no more than usual, unless it is asked for: 256 MiB, one core, 64.
//
// A facet's Memory, CPU and Processes also bound the sum of it and all facets below it. An eighth of the memory, a tenth
// of the CPU and 16 processes of a supervisor's (half of them where it has fewer than 32) can't be had by its children. The root's Storage bounds
// the sum of its object's databases, an eighth of it its own alone.
type Limits struct {
	Memory        int64         // bytes; a Go program needs 16 MiB to start
	Storage       int64         // bytes of its database
	CPU           float64       // cores
	Processes     int           // threads count; a Go program needs 8, and usually has 5 to 7
	StatementTime time.Duration // of one SQL statement
	RequestTime   time.Duration // to the head of an answer
	InFlight      int           // requests at once
	Rows          int64         // that one SQL statement may return
}

func (l *Limits) wire() wire.Limits {
	return wire.Limits{
		Memory: l.Memory, Storage: l.Storage, CPUMilli: thousandths(l.CPU), Processes: int64(l.Processes),
		StatementMS: thousandths(l.StatementTime.Seconds()), RequestMS: thousandths(l.RequestTime.Seconds()), InFlight: int64(l.InFlight), Rows: l.Rows,
	}
}

// thousandths of v, at least one where v is not 0: a limit that is very small must not become none, which 0 means.
func thousandths(v float64) int64 {
	switch {
	case v > 0:
		return int64(max(1, math.Round(v*1000)))
	case v < 0:
		return int64(min(-1, math.Round(v*1000)))
	}
	return 0
}

// Limits returns what this instance may use, and so the most that a child of it may be given. Rows is 0 where only the size of a
// result is limited. Outside a gateway, where nobody enforces any, all are 0.
func (f *Facet) Limits() Limits {
	l := &f.start.Limits
	return Limits{
		Memory: l.Memory, Storage: l.Storage, CPU: float64(l.CPUMilli) / 1000, Processes: int(l.Processes),
		StatementTime: time.Duration(l.StatementMS) * time.Millisecond, RequestTime: time.Duration(l.RequestMS) * time.Millisecond,
		InFlight: int(l.InFlight), Rows: l.Rows,
	}
}

// Binding is a service with the props that it has for one child: see Service.
type Binding struct {
	service string
	props   any
}

// Service names one of the services that this facet offers with Expose, for Start.Services and EgressVia. The handler reads props with
// CallerProps; the child can neither see nor change them.
func Service(name string, props any) Binding { return Binding{name, props} }

func (b Binding) wire() (*wire.Binding, error) {
	props, err := json.Marshal(b.props)
	if err != nil {
		return nil, fmt.Errorf("props of the service %q: %w", b.service, err)
	}
	return &wire.Binding{Service: b.service, Props: props}, nil
}

// Egress is where a child's outgoing requests go: nowhere, unless made by EgressTo or EgressVia.
type Egress struct {
	hosts []string
	via   *Binding
	given bool
}

// EgressTo lets a child call these hosts: "api.example.com", "*.example.com" for what is below it, "*" for every public host, each with
// ":port" where it is not 80 or 443. Private, loopback and link-local addresses stay closed unless the
// administrator has opened them (fgw serve --egress-allow).
func EgressTo(hosts ...string) Egress { return Egress{hosts: hosts, given: true} }

// EgressVia hands each outgoing request of a child to a service of this facet's, which answers, changes or refuses it: a place to
// add a credential that the child never sees. The handler finds the request's whole URL in r.URL. To send it on, this facet
// needs egress of its own, for Client: a supervisor has what the administrator gives it, fgw namespaces set NAMESPACE egress=HOSTS.
func EgressVia(service Binding) Egress { return Egress{via: &service, given: true} }

// wire gives the start as it travels.
func (s *Start) wire() (*wire.StartAnswer, error) {
	a := &wire.StartAnswer{ID: s.ID, Env: s.Env, Secrets: s.Secrets, Limits: s.Limits.wire(), Children: s.Children}
	if s.Props != nil {
		var err error
		if a.Props, err = json.Marshal(s.Props); err != nil {
			return nil, fmt.Errorf("props: %w", err)
		}
	}
	for name, b := range s.Services {
		w, err := b.wire()
		if err != nil {
			return nil, err
		}
		if a.Services == nil {
			a.Services = map[string]wire.Binding{}
		}
		a.Services[name] = *w
	}
	if s.Egress.given {
		a.Egress = &wire.Egress{Hosts: s.Egress.hosts}
		if s.Egress.via != nil {
			var err error
			if a.Egress.Via, err = s.Egress.via.wire(); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}
