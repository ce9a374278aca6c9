package facet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Spec is what an instance is started with; it keeps it until it ends.
type Spec struct {
	Bundle  string // SHA-256 of the executable
	App     string
	Version int
	Limits  registry.Limits
	Rows    int64 // that one SQL statement may return; 0: as many as the result's bytes allow
	Object  int64 // bytes that the object's databases may take together before this one may not grow; 0: no bound
	Start   wire.Start
	// Services are those that the facet was handed, by the name under which it knows them.
	Services map[string]wire.Binding
	Egress   *Outlet // nil: none

	release func() // lets go of the bundle, which is kept while the instance lives; nil where the registry names it
}

// instance is one life of a facet.
type instance struct {
	*node
	spec    *Spec
	hide    *hider // of its secrets
	since   time.Time
	starter *starter // who is asked how to start it; nil where the registry knows

	// What start makes and end lets go of. Written by run before ready is closed.
	proc    *process
	spare   *spare // a process for its first child, nil where there is none
	conn    *wire.Conn
	bounds  *wire.Bounds
	mux     *yamux.Session
	session *relay.Session
	control net.Conn
	output  *output

	// Its data, which are opened beside the process. refused is written before decided is closed, the others before attached is.
	opening  bool          // that has begun
	decided  chan struct{} // closed when the registry knows the facet, or refuses it
	refused  error         // why it may not be
	attached chan struct{} // closed when its data can be reached, or can't be
	sql      *sqlpool.Channel
	durable  func() error // returns once what the facet committed is durable; why nothing of it may leave, where it has no data
	place    place        // of its data
	before   Usage        // what its database had been used when it was attached: another channel may have kept its counts alive
	alarm    alarmID      // whose alarm its own is

	noted  atomic.Int64 // the alarm that the registry knows, as sql.Alarm has it
	noting sync.Mutex   // held while the registry is told

	ready   chan struct{} // closed when running, or failed with failure set
	failure error
	stack   string        // of a panic in the app's start function
	stopped chan struct{} // closed when the facet says that its stop handler returned
	gone    chan struct{} // closed when nothing of the instance is left

	killOnce sync.Once
	dead     chan struct{}   // closed when someone decided that the instance ends
	ctx      context.Context // ends then, too
	cancel   context.CancelFunc

	// Guarded by node.mu.
	state      state
	inflight   int
	kids       map[*instance]bool // children that live: each keeps its parent from being idle
	idle       *time.Timer
	stopReason string
	code, why  string // of kill; what its requests are told
	exit       *Exit
}

func newInstance(n *node, s *starter) *instance {
	in := &instance{node: n, starter: s, since: time.Now(), decided: make(chan struct{}), attached: make(chan struct{}), ready: make(chan struct{}),
		stopped: make(chan struct{}), gone: make(chan struct{}), dead: make(chan struct{})}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	return in
}

// began reports whether the instance has come to run: its parts are all there then.
func (in *instance) began() bool {
	select {
	case <-in.ready:
		return in.failure == nil
	default:
		return false
	}
}

// addr is the facet's address.
func (n *node) addr() address.Address {
	return address.Address{Namespace: n.key.namespace, Object: n.key.object, Facets: n.path, Root: len(n.path) == 0}
}

func (n *node) address() string { return n.addr().String() }

// run is the instance's life: start, wait until it ends, let go. It is the one
// goroutine that owns the instance's parts.
func (in *instance) run() {
	defer in.m.live.Done()
	err := in.start(in.ctx) // which an abort ends at once
	if err == nil {
		in.mu.Lock()
		if in.state == starting {
			in.state = running
			in.rest() // everyone who waited may have gone
		}
		in.mu.Unlock()
		close(in.ready)
		in.m.standbys.want(in.kind())
		if in.starter != nil && in.starter.parent.starter == nil {
			in.m.standbys.started(in.starter.parent.kind(), in.kind())
		}
		in.watch()
	}
	in.finish(err)
}

// readControl reads what a running facet says on its control stream: STOPPED, once.
func (in *instance) readControl() {
	for {
		t, _, err := wire.ReadControl(in.control)
		switch {
		case errors.Is(err, wire.ErrTooLarge):
			in.kill(problem.FacetProtocol, "its control stream: "+err.Error())
			return
		case err != nil:
			if !in.mux.IsClosed() {
				in.kill(problem.FacetProtocol, "the facet closed its control stream")
			}
			return
		case t == wire.FrameStopped:
			close(in.stopped)
			return
		default:
			in.kill(problem.FacetProtocol, fmt.Sprintf("control frame of type %d from a running facet", t))
			return
		}
	}
}

// database is its database channel, nil where it has none or none yet.
func (in *instance) database() *sqlpool.Channel {
	select {
	case <-in.attached:
		return in.sql
	default:
		return nil
	}
}

// watch returns when the instance ends: its process, its wire, its database channel, or by decision.
func (in *instance) watch() {
	var database <-chan struct{}
	select {
	case <-in.attached:
		if in.sql != nil {
			database = in.sql.Done()
		}
	case <-in.dead: // the one end that is not noticed below while its data are awaited
	}
	select {
	case <-in.dead:
	case <-in.proc.Done():
	case <-database:
		code := problem.FacetAborted
		if errors.Is(in.sql.Err(), sqlpool.ErrBreach) {
			code = problem.FacetProtocol
		}
		in.kill(code, "its database channel ended: "+errText(in.sql.Err()))
	case <-in.mux.CloseChan():
		in.wireLost()
	}
}

// wireLost says why the wire was lost, if that is the facet's fault.
func (in *instance) wireLost() {
	if err := in.conn.Breach(); err != nil {
		in.kill(problem.FacetProtocol, err.Error())
		return
	}
	if !in.proc.socket.failed.Load() { // then it is yamux that gave it up
		in.kill(problem.FacetProtocol, "the facet broke the wire's rules: it sent more on a stream than its window holds, or what is no frame there")
		return
	}
	select { // a process that ends closes its wire a moment before it can be reaped
	case <-in.proc.Done():
	case <-in.dead:
	case <-time.After(killTime / 10):
		in.kill(problem.FacetProtocol, "the facet closed its wire")
	}
}

func errText(err error) string {
	if err == nil {
		return "the worker let go of it"
	}
	return err.Error()
}

// kill decides that the instance ends, and why; the first decision stands.
func (in *instance) kill(code, why string) {
	in.killOnce.Do(func() {
		in.mu.Lock()
		in.state, in.code, in.why = stopping, code, why
		in.mu.Unlock()
		close(in.dead)
		in.cancel()
	})
}

// dying reports whether the instance ends or its wire is lost.
func (in *instance) dying() bool {
	select {
	case <-in.dead:
		return true
	case <-in.proc.Done():
		return true
	case <-in.mux.CloseChan():
		return true
	default:
		return false
	}
}

// ended returns how the instance ended, once gone is closed.
func (in *instance) ended() *Exit {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.exit == nil {
		return &Exit{Reason: "crash", Detail: "the facet is ending", code: problem.FacetCrashed}
	}
	return in.exit
}
