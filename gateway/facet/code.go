package facet

import (
	"encoding/json"
	"errors"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
)

// A bundle that a supervisor's child runs is needed as long as the child lives, and as long as its alarm is set, or that
// of one below it: the alarm starts it without asking the supervisor. So long it is pinned, and counts against what its
// object may hand over.

// taken is code that a child can be started with.
type taken struct {
	bundle, app string
	version     int
	release     func()
}

// accept enters a bundle that was handed over, and pinned, to the account of its object.
func (m *Manager) accept(object, hash string, bytes int64) (*taken, error) {
	release, err := m.given.Take(object, hash, bytes)
	if errors.Is(err, bundle.ErrQuota) {
		return nil, problem.New(problem.StorageQuota, "%v, and all of it is in use, by facets that run or have set an alarm", err)
	}
	return &taken{bundle: hash, release: release}, err
}

// retain keeps the bundle of a child that was started before. An app's is not its object's.
func (m *Manager) retain(object string, s *Spec) (release func(), err error) {
	if s.App == "" {
		return m.given.Keep(object, s.Bundle)
	}
	if _, err := m.Bundles.Pin(s.Bundle); err != nil {
		return nil, err
	}
	return func() { m.Bundles.Unpin(s.Bundle) }, nil
}

// retainAlarm keeps what an alarm's facet is started with, and those above it.
func (m *Manager) retainAlarm(a *registry.Alarm) (release func()) {
	return m.retainAll(a.Object, a.Start)
}

// retainAll keeps the bundles of facets that can be started in that way. One that is not there can't be kept, and then it can't be
// started: that is told when it is tried.
func (m *Manager) retainAll(object string, how []byte) (release func()) {
	var specs []*Spec
	if len(how) > 0 && json.Unmarshal(how, &specs) != nil {
		return func() {}
	}
	var held []func()
	for _, s := range specs {
		if s == nil {
			continue
		}
		if release, err := m.retain(object, s); err == nil {
			held = append(held, release)
		}
	}
	return func() {
		for _, release := range held {
			release()
		}
	}
}

// retainMark keeps, for as long as this gateway runs, what a facet is started with whose alarm could not be looked at.
func (m *Manager) retainMark(id alarmID) {
	if how, err := m.Marks.Start(id.mark()); err == nil {
		m.retainAll(id.object, how)
	}
}

// objectID is the id of the facet's object.
func (n *node) objectID() string {
	ns, err := n.m.Registry.Namespace(n.key.namespace)
	if err != nil {
		return ""
	}
	return ns.ObjectID(n.key.object)
}
