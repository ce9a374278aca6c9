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
	"strings"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/gate"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// Config is what a manager works with.
type Config struct {
	Sandbox   *protocol.Client
	Databases *sqlpool.Pool
	Registry  *registry.Registry
	Bundles   *bundle.Store
	Logs      *logs.Store
	Budget    *relay.Budget
	Objects   string // the directory of all objects
	Log       *slog.Logger
}

// Manager knows every facet that runs or ran since the gateway started.
type Manager struct {
	Config
	syncer *gate.Syncer

	mu    sync.Mutex
	nodes map[key]*node // guarded by mu

	// lives is taken while a node's mutex is held, never the other way round.
	lives  sync.Mutex
	closed bool           // no instance starts any more; guarded by lives
	live   sync.WaitGroup // counts instances; added to under lives only
}

// enter counts an instance that is about to start, unless the gateway stops.
func (m *Manager) enter() bool {
	m.lives.Lock()
	defer m.lives.Unlock()
	if m.closed {
		return false
	}
	m.live.Add(1)
	return true
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
	return &Manager{Config: c, syncer: gate.NewSyncer(), nodes: map[key]*node{}}
}

// node returns the facet's node, which it makes where the facet may exist: under the built-in
// supervisor, where the namespace has an app of its name.
func (m *Manager) node(t *Target) (*node, error) {
	k := t.key()
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[k]; n != nil {
		return n, nil
	}
	if _, err := m.builtin(t); err != nil {
		return nil, err
	}
	n := &node{m: m, key: k, target: *t}
	m.nodes[k] = n
	return n, nil
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
	in, err := n.acquire(r.Context(), t.Namespace)
	if err != nil {
		if r.Context().Err() != nil {
			return errors.Join(relay.ErrClientGone, err)
		}
		return err
	}
	err = in.session.Serve(w, r, q, o)
	if err != nil {
		err = in.explain(err, o)
	}
	n.release(in, err)
	return err
}

// builtin says which version of which app a facet under the built-in supervisor runs.
func (m *Manager) builtin(t *Target) (*registry.Version, error) {
	if len(t.Path) != 1 {
		return nil, problem.New(problem.FacetNotFound, "there is no facet below an app in namespace %s", t.Namespace.Name)
	}
	v, err := m.Registry.Live(t.Namespace.Name, t.Path[0])
	if err != nil {
		return nil, &problem.Error{Code: problem.AppNotFound,
			Message: "namespace " + t.Namespace.Name + " has no app " + strconvQuote(t.Path[0]),
			Hint:    "deploy one: fgw deploy DIR --namespace " + t.Namespace.Name}
	}
	return v, nil
}

// Deployed moves the running instances of an app over to its live version: each finishes what it
// does, new requests wait for the next instance (DESIGN: at most drainTime).
func (m *Manager) Deployed(_ context.Context, namespace, app string) error {
	live, err := m.Registry.Live(namespace, app)
	if err != nil {
		return err
	}
	for _, n := range m.all(func(k key) bool { return k.namespace == namespace && k.path == app }) {
		n.drain(func(in *instance) bool { return in.spec.Bundle != live.Bundle || in.spec.Version != live.Version }, "a new version was deployed")
	}
	return nil
}

// Close stops every instance, each with its stop message, and returns when the last has gone
// or ctx is done, after which they are killed.
func (m *Manager) Close(ctx context.Context) {
	m.lives.Lock()
	m.closed = true
	m.lives.Unlock()
	for _, n := range m.all(func(key) bool { return true }) {
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
	for _, n := range m.all(func(key) bool { return true }) {
		n.end(problem.FacetAborted, "the gateway stops")
	}
	select {
	case <-gone:
	case <-time.After(killTime):
		m.Log.Error("facets did not end when killed")
	}
}
