// Package facet runs facets: one instance of each at a time, ever, started by
// its first request, stopped when idle, told apart from every other.
//
// A node is a facet that the gateway knows of; an instance is one life of it, a
// confined process. Everything that happens to a node is decided under its mutex, in a
// few states:
//
//	(none) → starting → running → draining → stopping → (none)
//
// A request acquires the running instance, or waits for the one that starts, or
// for the one that goes. An instance that ends, for whatever reason, passes through
// one function that reaps it, stores how it ended, and lets go of all it held; only then
// do the requests that it took with it learn what happened, and may the next one start.
package facet

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/egress"
	"github.com/facetgateway/fgw/gateway/gate"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/marks"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Config is what a manager works with.
type Config struct {
	Sandbox   *protocol.Client
	Databases *sqlpool.Pool
	Registry  *registry.Registry
	Bundles   *bundle.Store
	Logs      *logs.Store
	Budget    *relay.Budget // of streams to facets
	Calls     *relay.Budget // of streams that facets open, beyond the few that each may
	Builder   Builder
	Egress    *egress.Egress
	// KeepsBundle says whether a version of an app, or what was built, is that bundle; nil: none is.
	KeepsBundle func(hash string) bool
	// CheckExecutable says whether a file that a supervisor handed over can be run.
	CheckExecutable func(*os.File) error

	Objects string       // the directory of all objects
	Marks   *marks.Marks // of facets that run
	Syncer  *gate.Syncer
	Log     *slog.Logger
}

// Builder makes bundles of sources.
type Builder interface {
	// Build returns the bundle's hash, or what is wrong with the source; err says that it could not be tried.
	Build(ctx context.Context, files map[string]string) (bundle string, found []wire.Diagnostic, err error)
}

// Manager knows every facet that runs or ran since the gateway started.
type Manager struct {
	Config
	exchanges *exchanges
	alarms    *alarms
	metrics   *metrics
	intake    *intake
	given     *bundle.Given
	workers   atomic.Int64 // numbers the dynamic workers that have no id
	standbys  *standbys
	unswept   unswept

	mu    sync.Mutex
	nodes map[key]*node // guarded by mu

	// lives is taken while a node's mutex is held, never the other way round.
	lives  sync.Mutex
	closed bool               // no instance starts any more; guarded by lives
	holds  map[*hold]struct{} // guarded by lives
	live   sync.WaitGroup     // counts instances; added to under lives only
}

// key names a facet. path holds the names from the root down, joined by NUL, which no name
// contains; it is empty for the root.
type key struct{ namespace, object, path string }

// Target is the facet that a request is for.
type Target struct {
	Namespace *registry.Namespace
	Object    string
	Path      []string // names from the root down; none for the root itself
}

func (t *Target) key() key {
	if len(t.Path) == 1 {
		return key{t.Namespace.Name, t.Object, t.Path[0]}
	}
	return key{t.Namespace.Name, t.Object, strings.Join(t.Path, "\x00")}
}

// NewManager returns a manager without facets.
func NewManager(c Config) *Manager {
	m := &Manager{Config: c, exchanges: newExchanges(), alarms: newAlarms(), metrics: newMetrics(), intake: newIntake(), nodes: map[key]*node{}, holds: map[*hold]struct{}{}}
	m.given = bundle.NewGiven(c.Bundles, bundle.GivenEach, bundle.GivenAll, c.KeepsBundle)
	m.alarms.retain = m.retainAlarm
	m.standbys = newStandbys(c.Log, func(ctx context.Context, k kind) (*process, error) {
		p, err := newProcess(k)
		if err == nil {
			err = p.start(ctx, c.Sandbox, c.Bundles)
		}
		if err != nil && p != nil {
			p.close()
		}
		return p, err
	}, c.Bundles.Has)
	go m.serveExchanges() // until Close
	return m
}

// node returns the facet's node, which it makes where the facet may exist.
func (m *Manager) node(t *Target) (*node, error) {
	k := t.key()
	if n := m.known(k); n != nil {
		return n, nil
	}
	if _, err := m.liveVersion(t.Namespace, t.Object, t.Path); err != nil {
		return nil, err
	}
	return m.nodeAt(k, t.Path), nil
}

// maxNodes is how many facets that do not run are remembered, some 500 bytes each: their counts, how they
// ended, whether they rest.
const maxNodes = 200_000

// nodeAt returns the node of that key, which it makes.
func (m *Manager) nodeAt(k key, path []string) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[k]
	if n == nil {
		if len(m.nodes) >= maxNodes {
			m.dropSome(maxNodes / 100)
		}
		n = &node{m: m, key: k, path: path}
		m.nodes[k] = n
	}
	return n
}

// successor returns the node that stands for a forgotten one.
func (m *Manager) successor(old *node) *node {
	n := m.nodeAt(old.key, old.path)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nameless, n.keep = old.nameless, old.keep
	return n
}

// drop forgets a node that does not run.
func (m *Manager) drop(n *node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.in == nil && m.nodes[n.key] == n {
		n.forgotten = true
		delete(m.nodes, n.key)
	}
}

// dropSome forgets up to most nodes that do not run and do not rest, whichever come first. m.mu is held.
func (m *Manager) dropSome(most int) {
	for k, n := range m.nodes {
		if most == 0 {
			return
		}
		n.mu.Lock()
		if n.in == nil && time.Now().After(n.retryAt) {
			n.forgotten = true
			delete(m.nodes, k)
			most--
		}
		n.mu.Unlock()
	}
}

// known returns the node if there is one.
func (m *Manager) known(k key) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[k]
}

// all returns the nodes for which keep says yes.
func (m *Manager) all(keep func(key) bool) []*node {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []*node
	for k, n := range m.nodes {
		if keep(k) {
			found = append(found, n)
		}
	}
	return found
}

// Serve carries a request to the target's instance, which it starts if need be. An
// error is a *problem.Error unless it wraps relay.ErrCut or relay.ErrClientGone.
func (m *Manager) Serve(w http.ResponseWriter, r *http.Request, t *Target, q *relay.Request, o *relay.Options) error {
	n, err := m.node(t)
	if err != nil {
		return err
	}
	return n.serve(w, r, nil, q, o)
}

// Deployed moves the running instances of an app over to the versions that their objects run now:
// each finishes what it does, new requests wait for the next instance (DESIGN: at most drainTime).
// Of an app that is gone nothing runs on, whoever started it.
func (m *Manager) Deployed(_ context.Context, namespace, app string) error {
	if _, err := m.Registry.Live(namespace, app); errors.Is(err, registry.ErrNotFound) {
		for _, n := range m.all(func(k key) bool { return k.namespace == namespace }) {
			n.drain(func(in *instance) bool { return in.spec.App == app }, "the app was removed")
		}
		return nil
	} else if err != nil {
		return err
	}
	ns, err := m.Registry.Namespace(namespace)
	if err != nil {
		return err
	}
	path := app // of the facets that run it
	if ns.Supervisor == app {
		path = ""
	}
	for _, n := range m.all(func(k key) bool { return k.namespace == namespace && k.path == path }) {
		n.forgive() // this version has not failed yet
		n.drain(func(in *instance) bool {
			v, err := m.Registry.VersionFor(namespace, app, in.key.object)
			return err == nil && (in.spec.Bundle != v.Bundle || in.spec.Version != v.Version)
		}, "another version was deployed")
	}
	return nil
}

// Close stops every instance, each with its stop message, and returns when the last has gone
// or ctx is done, after which they are killed.
func (m *Manager) Close(ctx context.Context) {
	m.lives.Lock()
	m.closed = true
	m.lives.Unlock()
	defer m.exchanges.Close()
	m.standbys.close()
	for _, n := range m.all(key.top) {
		n.drain(func(*instance) bool { return true }, "the gateway stops")
	}
	gone := make(chan struct{})
	go func() {
		m.live.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	for _, n := range m.all(key.top) {
		n.end(problem.FacetAborted, "the gateway stops")
	}
	select {
	case <-gone:
	case <-time.After(killTime):
		m.Log.Error("facets did not end when killed")
	}
}
