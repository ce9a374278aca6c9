package facet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/facetgateway/fgw/gateway/origin"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire"
)

// place is where a facet's data lies, below the directory of all objects.
type place struct {
	id     string // the object's
	n      int    // the facet's number
	object string // the object's directory
	file   string // the facet's database in it
}

func placeOf(o *registry.Object, n int) place {
	return place{id: o.ID, n: n, object: o.Dir(), file: filepath.Join(o.Dir(), strconv.Itoa(n)+".db")}
}

// settle finds the facet. It creates the object and gives the facet its number where this is their first
// request.
func (in *instance) settle(ctx context.Context, ns *registry.Namespace) (*registry.Settled, error) {
	s, err := in.m.Registry.Settle(ctx, ns, in.key.object, in.path...)
	if err != nil {
		return nil, objectProblem(err)
	}
	return s, nil
}

// whatToRun makes the spec: a child's comes from its supervisor, a root's and an app's from the registry.
func (in *instance) whatToRun(ctx context.Context, ns *registry.Namespace) (*Spec, error) {
	if in.starter != nil {
		return in.starter.ask(ctx, in.node)
	}
	root := len(in.path) == 0
	v, err := in.m.liveVersion(ns, in.key.object, in.path)
	if err != nil {
		return nil, err
	}
	env, secrets := in.m.Registry.AppEnv(ns.Name, v.App)
	spec := &Spec{
		Bundle: v.Bundle, App: v.App, Version: v.Version, Limits: ns.Limits,
		Start: wire.Start{
			Namespace: ns.Name, Object: in.key.object,
			App: v.App, Version: v.Version, Bundle: v.Bundle,
			Env: env, Secrets: secrets, Database: true, Root: root, Children: root,
			MaxStreams: wire.MaxOwnStreams, MaxSessions: wire.MaxSessions,
		},
	}
	if root {
		spec.Start.MaxStreams = wire.MaxOwnStreamsUp
		spec.Object = spec.Limits.Storage
	}
	if ns.Egress != "" {
		if spec.Egress, err = newOutlet(&wire.Egress{Hosts: registry.Hosts(ns.Egress)}); err != nil {
			return nil, err
		}
		spec.Start.Egress = true
	}
	return spec, nil
}

// liveVersion says which version of which app a facet runs that no supervisor starts: the root of a
// namespace with a supervisor, or under the built-in supervisor the app of the facet's name. The
// object decides between the live version and a canary.
func (m *Manager) liveVersion(ns *registry.Namespace, object string, path []string) (*registry.Version, error) {
	app := ns.Supervisor
	switch {
	case app == "" && len(path) == 1:
		app = path[0]
	case app == "" && len(path) == 0:
		return nil, problem.New(problem.FacetNotFound, "namespace %s has no supervisor of its own: name a facet", ns.Name)
	case app == "":
		return nil, problem.New(problem.FacetNotFound, "there is no facet below an app in namespace %s", ns.Name)
	case len(path) > 0:
		return nil, problem.New(problem.FacetNotFound, "this facet does not run, and only its supervisor can start it")
	}
	v, err := m.Registry.VersionFor(ns.Name, app, object)
	if err != nil {
		return nil, &problem.Error{Code: problem.AppNotFound, Message: "namespace " + ns.Name + " has no app " + strconv.Quote(app),
			Hint: "deploy one: fgw deploy DIR --namespace " + ns.Name}
	}
	return v, nil
}

// rememberOrigin keeps which facet an origin stands for where its names don't fit in a host's label.
func (n *node) rememberOrigin(ctx context.Context, o *registry.Object) error {
	name := ""
	if len(n.path) > 0 {
		name = n.path[0]
	}
	label := origin.Label(n.key.namespace, n.key.object, name)
	if len(label) < len(origin.HashPrefix) || label[:len(origin.HashPrefix)] != origin.HashPrefix || len(n.path) > 1 {
		return nil
	}
	if err := n.m.Registry.RememberOrigin(ctx, label, o, n.address()); err != nil {
		return fmt.Errorf("remember the origin: %w", err)
	}
	return nil
}

func objectProblem(err error) error {
	switch {
	case errors.Is(err, registry.ErrObjectNotFound):
		return &problem.Error{Code: problem.ObjectNotFound, Message: err.Error(), Hint: "create it: fgw objects create NAMESPACE/OBJECT, or let requests create objects: fgw namespaces set NAMESPACE create=open"}
	case errors.Is(err, registry.ErrFacetLimit):
		return &problem.Error{Code: problem.ObjectLimit, Message: err.Error(), Hint: "delete facets of this object that are not needed: fgw facets ls NAMESPACE/OBJECT shows them"}
	case errors.Is(err, registry.ErrObjectLimit):
		return &problem.Error{Code: problem.ObjectLimit, Message: err.Error(), Hint: "raise it: fgw namespaces set NAMESPACE max_objects=N"}
	case errors.Is(err, registry.ErrNotFound):
		return problem.New(problem.ObjectNotFound, "%v", err)
	}
	return fmt.Errorf("look the object up: %w", err)
}

// told are the limits as the facet learns them.
func (s *Spec) told() wire.Limits {
	l := &s.Limits
	return wire.Limits{
		Memory: l.Memory, CPUMilli: l.CPUMilli, Storage: l.Storage, Processes: int64(l.Processes),
		StatementMS: l.StatementTimeout.Milliseconds(), RequestMS: l.RequestTimeout.Milliseconds(), InFlight: int64(l.InFlight), Rows: s.Rows,
	}
}

// ownStorage is the part of an object's storage, an eighth, that is its supervisor's alone: whatever its children store, it can still
// write down what it decides about them.
const ownStorage = 8

// objectBelow is what the object's databases may take together before a child of this one's may not grow.
func (s *Spec) objectBelow() int64 {
	if s.Start.Root {
		return s.Object - s.Object/ownStorage
	}
	return s.Object
}

func sqlLimits(s *Spec) sqlpool.Limits {
	return sqlpool.Limits{Storage: s.Limits.Storage, Object: s.Object, StatementTimeout: s.Limits.StatementTimeout, Rows: s.Rows}
}

func sizeText(n int64) string { return registry.FormatSize(n) }
