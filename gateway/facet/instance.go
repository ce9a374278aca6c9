package facet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sandboxd/protocol"
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
}

// instance is one life of a facet.
type instance struct {
	*node
	spec    *Spec
	since   time.Time
	starter *starter // who is asked how to start it; nil where the registry knows

	// What start makes and end lets go of. Written by run before ready is closed.
	proc    *protocol.Process
	pair    *sqlpool.Pair // of its database channel, until that is attached
	sql     *sqlpool.Channel
	gate    func() error // returns once what the facet committed is durable
	socket  *socket
	conn    *wire.Conn
	mux     *yamux.Session
	session *relay.Session
	control net.Conn
	output  *output
	place   place        // of its data
	before  Usage        // what its database had been used when it was attached: another channel may have kept its counts alive
	alarm   alarmID      // whose alarm its own is
	noted   atomic.Int64 // the alarm that the registry knows, as sql.Alarm has it
	noting  sync.Mutex   // held while the registry is told

	ready   chan struct{} // closed when running, or failed with failure set
	failure error
	refused error         // why it may not be, or can't have its data
	stack   string        // of a panic in the app's start function
	stopped chan struct{} // closed when the facet says that its stop handler returned
	gone    chan struct{} // closed when nothing of the instance is left

	killOnce sync.Once
	dead     chan struct{} // closed when someone decided that the instance ends

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
	return &instance{node: n, starter: s, since: time.Now(), ready: make(chan struct{}), stopped: make(chan struct{}), gone: make(chan struct{}), dead: make(chan struct{})}
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
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { // an abort ends a start at once
		select {
		case <-in.dead:
		case <-over:
		}
		cancel()
	}()
	err := in.start(ctx)
	close(over)
	if err == nil {
		in.mu.Lock()
		if in.state == starting {
			in.state = running
			in.rest() // everyone who waited may have gone
		}
		in.mu.Unlock()
		close(in.ready)
		in.watch()
	}
	in.finish(err)
}

// start brings the process up and through the app's start function.
func (in *instance) start(ctx context.Context) error {
	ns, err := in.m.Registry.Namespace(in.key.namespace)
	if err != nil {
		return problem.New(problem.NamespaceNotFound, "there is no namespace %s", in.key.namespace)
	}
	if in.spec, err = in.whatToRun(ctx, ns); err != nil {
		return err
	}
	in.spec.Start.Limits = in.spec.told()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var database *os.File // the process's end of its channel
	if in.gate = func() error { return nil }; !in.nameless {
		if in.pair, err = sqlpool.NewPair(); err != nil {
			return err
		}
		database = in.pair.FacetEnd()
		defer database.Close()
	}
	// The process starts while its object is looked up, or made, which takes a write to the disk; who it is it
	// learns only by its start message.
	data := make(chan error, 1)
	go func() { data <- in.openData(ctx, ns) }()
	err = in.spawn(ctx, database)
	if in.refused = <-data; in.refused != nil {
		return in.refused
	}
	if err != nil {
		return err
	}
	if err := in.greet(ctx); err != nil {
		return err
	}
	return in.begin(ctx)
}

// openData finds the facet's database, or makes its place, and attaches it.
func (in *instance) openData(ctx context.Context, ns *registry.Namespace) error {
	if in.nameless {
		in.spec.Start.Database, in.spec.Limits.IdleTimeout = false, in.keep
		return nil
	}
	place, err := in.settle(ctx, ns)
	if err != nil {
		return err
	}
	in.place, in.alarm = place, alarmID{place.id, place.n}
	in.mark()
	if in.sql, err = in.m.Databases.Attach(ctx, sqlpool.AttachOptions{Object: place.object, File: place.file,
		Limits: sqlLimits(in.spec), Pair: in.pair, Owner: &auditor{log: in.m.Logs.Writer(in.addr(), in.spec.Version)}, Audit: place.audited}); err != nil {
		in.unmark()
		return fmt.Errorf("attach the database: %w", err)
	}
	in.before = sqlUsage(in.sql.Usage())
	durable := in.m.syncer.New(filepath.Join(in.m.Objects, place.file), in.m.Objects, in.sql.Committed, in.sql.SetDurable)
	in.gate = func() error {
		if err := durable.Wait(); err != nil {
			return err
		}
		return in.noteAlarm()
	}
	return nil
}

// spawn starts the confined process and hands it its wires.
func (in *instance) spawn(ctx context.Context, database *os.File) error {
	exe, err := in.m.Bundles.Open(in.spec.Bundle)
	if err != nil {
		return fmt.Errorf("open the bundle: %w", err)
	}
	defer exe.Close()
	ours, theirs, err := socketpair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return err
	}
	in.socket = &socket{Conn: wire.Direct(conn)}
	in.conn = wire.NewConn(in.socket, &wire.Bounds{MaxOpen: in.spec.Start.MaxStreams}, nil)
	in.conn.Stall = stallTime
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	in.output = in.m.newOutput(in, read)
	limits := in.spec.Limits
	in.proc, err = in.m.Sandbox.SpawnFacet(ctx,
		protocol.Limits{MemoryBytes: limits.Memory, Processes: int64(limits.Processes), CPUMilli: limits.CPUMilli}, in.seat(),
		protocol.FacetFiles{Exe: exe, Wire: theirs, SQL: database, Output: write})
	switch {
	case errors.Is(err, protocol.ErrGone):
		return problem.New(problem.FacetAborted, "its supervisor has ended")
	case errors.Is(err, protocol.ErrFull):
		up := in.starter.parent.spec.Limits.Processes
		return &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: fmt.Sprintf(
			"the supervisor's limit of %d processes and threads, for all that is below it together, leaves no room for another facet", up)}
	case err != nil:
		return fmt.Errorf("start the process: %w", err)
	}
	return nil
}

// seat says whose limits bound the process together with others.
func (in *instance) seat() protocol.Place {
	p := protocol.Place{Supervisor: in.spec.Start.Children}
	if in.starter != nil {
		p.Under = in.starter.parent.proc
	}
	return p
}

func socketpair() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "wire"), os.NewFile(uintptr(fds[1]), "facet's wire"), nil
}

// socket is our end of the wire. It knows whether it failed by itself, as it does when the other end is
// closed, and not because we closed it: yamux tells of its own verdicts in no other way than by closing it.
type socket struct {
	net.Conn
	failed atomic.Bool
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		s.failed.Store(true)
	}
	return n, err
}

func (s *socket) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		s.failed.Store(true)
	}
	return n, err
}

// greet tells the process which facet it is and waits for its answer.
func (in *instance) greet(ctx context.Context) error {
	hello, err := wire.AppendStart(nil, &in.spec.Start)
	if err != nil {
		return problem.New(problem.BadRequest, "%v", err)
	}
	in.conn.Conn.SetDeadline(time.Now().Add(answerTime))
	undo := context.AfterFunc(ctx, func() { in.conn.Conn.SetDeadline(time.Now()) })
	defer undo()
	written := make(chan error, 1)
	go func() { // the message may be larger than the socket's buffer, and the facet may not read
		_, err := in.conn.Conn.Write(hello)
		written <- err
	}()
	_, err = wire.ReadAnswer(in.conn.Conn)
	if err == nil {
		err = <-written
	}
	in.conn.Conn.SetDeadline(time.Time{})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the process said nothing on the wire for %s: %w", answerTime, wire.ErrNotFacet)
		in.kill(problem.FacetProtocol, err.Error())
		return err
	case errors.Is(err, wire.ErrNotFacet), errors.Is(err, wire.ErrVersion):
		in.kill(problem.FacetProtocol, err.Error())
		return err
	default: // end of file: it ended, and how is said by its exit
		return fmt.Errorf("the process ended before it spoke the wire: %w", err)
	}
	// The accept backlog holds what the facet may open at once; what it opens beyond is a breach.
	in.mux, err = yamux.Client(in.conn, wire.Config(max(1, in.spec.Start.MaxStreams), stallTime))
	if err != nil {
		return err
	}
	in.session = relay.NewSession(in.mux, in.gate, in.m.Budget)
	return nil
}

// stallTime is how long bytes may wait for a facet that reads nothing (SPEC §9).
const stallTime = 30 * time.Second

// begin opens the control stream and waits for the app's start function.
func (in *instance) begin(ctx context.Context) error {
	control, err := in.mux.OpenStream()
	if err == nil {
		err = wire.WriteKind(control, wire.StreamControl)
	}
	if err != nil {
		return in.lost("open the control stream", err)
	}
	in.control = control
	go in.acceptStreams()
	undo := context.AfterFunc(ctx, func() { control.SetReadDeadline(time.Now()) })
	t, body, err := wire.ReadControl(control)
	if undo() {
		control.SetReadDeadline(time.Time{})
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil:
		in.kill(problem.FacetTimeout, "the app's start function did not return within "+startTime.String())
		return context.DeadlineExceeded
	case err != nil:
		return in.lost("the process ended in its start function", err)
	case t == wire.FrameReady:
		// What start wrote is synced beside the first request, whose answer waits for it.
		go in.gate()
		go in.readControl()
		return nil
	case t == wire.FrameFailed:
		var f wire.Failed
		if err := json.Unmarshal(body, &f); err != nil {
			in.kill(problem.FacetProtocol, "an unreadable control frame")
			return err
		}
		in.stack = f.Stack
		in.kill(problem.FacetStart, startFailure(&f))
		return errors.New(f.Message)
	}
	in.kill(problem.FacetProtocol, fmt.Sprintf("control frame of type %d before READY", t))
	return wire.ErrNotFacet
}

// lost words an error of a wire that has failed before the instance runs. Where the facet broke the
// wire's rules, that is why it ends.
func (in *instance) lost(what string, err error) error {
	if b := in.conn.Breach(); b != nil {
		err = b
	}
	if errors.Is(err, wire.ErrBreach) || errors.Is(err, wire.ErrTooLarge) {
		in.kill(problem.FacetProtocol, err.Error())
	}
	return fmt.Errorf("%s: %w", what, err)
}

func startFailure(f *wire.Failed) string {
	if f.Panic {
		return "the app's start function panicked: " + clip(f.Message)
	}
	return "the app did not start: " + clip(f.Message)
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

// watch returns when the instance ends: its process, its wire, its database channel, or by decision.
func (in *instance) watch() {
	var database <-chan struct{}
	if in.sql != nil {
		database = in.sql.Done()
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
		if err := in.conn.Breach(); err != nil {
			in.kill(problem.FacetProtocol, err.Error())
			return
		}
		if !in.socket.failed.Load() { // then it is yamux that gave it up
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
