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
	object string // the object's directory
	file   string // the facet's database in it
}

func placeOf(o *registry.Object, n int) place {
	return place{object: o.Dir(), file: filepath.Join(o.Dir(), strconv.Itoa(n)+".db")}
}

// resolve decides what the next instance runs and on which data, as things stand now. It
// creates the object and gives the facet its number where this is their first request.
func (n *node) resolve(ctx context.Context) (*Spec, place, error) {
	ns, err := n.m.Registry.Namespace(n.key.namespace)
	if err != nil {
		return nil, place{}, problem.New(problem.NamespaceNotFound, "there is no namespace %s", n.key.namespace)
	}
	n.target.Namespace = ns
	v, err := n.m.builtin(&n.target)
	if err != nil {
		return nil, place{}, err
	}
	o, numbers, _, err := n.m.Registry.Ensure(ctx, ns, n.key.object, n.target.Path...)
	if err != nil {
		return nil, place{}, objectProblem(err)
	}
	if err := n.rememberOrigin(ctx, o); err != nil {
		return nil, place{}, err
	}
	env, secrets := n.m.Registry.AppEnv(ns.Name, v.App)
	spec := &Spec{
		Bundle: v.Bundle, App: v.App, Version: v.Version, Limits: ns.Limits,
		Start: wire.Start{
			Namespace: ns.Name, Object: n.key.object, Name: n.target.Path[len(n.target.Path)-1], ID: o.ID,
			App: v.App, Version: v.Version, Bundle: v.Bundle,
			Env: env, Secrets: secrets, Database: true,
			MaxStreams: wire.MaxOwnStreams, MaxSessions: wire.MaxSessions,
		},
	}
	return spec, placeOf(o, numbers[len(numbers)-1]), nil
}

// rememberOrigin keeps which facet an origin stands for where its names don't fit in a host's label.
func (n *node) rememberOrigin(ctx context.Context, o *registry.Object) error {
	name := ""
	if len(n.target.Path) > 0 {
		name = n.target.Path[0]
	}
	label := origin.Label(n.key.namespace, n.key.object, name)
	if len(label) < len(origin.HashPrefix) || label[:len(origin.HashPrefix)] != origin.HashPrefix || len(n.target.Path) > 1 {
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
	case errors.Is(err, registry.ErrObjectLimit), errors.Is(err, registry.ErrFacetLimit):
		return &problem.Error{Code: problem.ObjectLimit, Message: err.Error(), Hint: "raise it: fgw namespaces set NAMESPACE max_objects=N"}
	case errors.Is(err, registry.ErrNotFound):
		return problem.New(problem.ObjectNotFound, "%v", err)
	}
	return fmt.Errorf("look the object up: %w", err)
}

func sqlLimits(l *registry.Limits) sqlpool.Limits {
	return sqlpool.Limits{Storage: l.Storage, StatementTimeout: l.StatementTimeout}
}

func sizeText(n int64) string { return registry.FormatSize(n) }
