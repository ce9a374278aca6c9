package facet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire"
)

// start brings a process up and through the app's start function. Beside that its data are looked up, or their place
// made, which takes a write to the disk: what the process says meanwhile waits for it in the gate.
func (in *instance) start(ctx context.Context) error {
	ns, err := in.m.Registry.Namespace(in.key.namespace)
	if err != nil {
		return problem.New(problem.NamespaceNotFound, "there is no namespace %s", in.key.namespace)
	}
	if in.spec, err = in.whatToRun(ctx, ns); err != nil {
		return err
	}
	in.identify(ns)
	in.hide = newHider(in.spec.Start.Secrets)
	in.spec.Start.Limits = in.spec.told()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	k := in.kind()
	var p *process
	if in.starter == nil {
		p, in.spare = in.m.standbys.take(ctx, k)
	} else {
		p = in.starter.parent.companion(ctx, k)
	}
	if p == nil {
		if p, err = newProcess(k); err != nil {
			return err
		}
	}
	in.opening = true
	go in.openData(ns, p.pair)
	err = in.bringUp(ctx, p)
	if <-in.decided; in.refused != nil {
		err = in.refused
	}
	if in.proc == nil {
		<-in.attached // which may take the pair
		p.close()
	}
	return err
}

// identify completes what the process is told of who it is.
func (in *instance) identify(ns *registry.Namespace) {
	start := &in.spec.Start
	if in.nameless {
		start.Database, in.spec.Limits.IdleTimeout = false, in.keep
		return
	}
	if start.ID == "" {
		start.ID = ns.ObjectID(in.key.object)
	}
	if len(in.path) > 0 {
		start.Name = in.path[len(in.path)-1]
	}
}

// bringUp starts the process, unless it was kept ready, and has it become the facet.
func (in *instance) bringUp(ctx context.Context, p *process) error {
	if p.Process == nil {
		if err := p.start(ctx, in.m.Sandbox, in.m.Bundles); err != nil {
			return in.spawnProblem(err)
		}
	}
	in.proc = p
	in.output = in.m.newOutput(in, p.printed)
	if err := in.greet(); err != nil {
		return err
	}
	return in.begin(ctx)
}

// spawnProblem words why there is no process.
func (in *instance) spawnProblem(err error) error {
	switch {
	case errors.Is(err, protocol.ErrGone):
		return problem.New(problem.FacetAborted, "its supervisor has ended")
	case errors.Is(err, protocol.ErrFull):
		up := in.starter.parent.spec.Limits.Processes
		return &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: fmt.Sprintf(
			"the supervisor's limit of %d processes and threads, for all that is below it together, leaves no room for another facet", up)}
	}
	return err
}

// gate returns once what the facet committed before is durable. All that it says passes here.
func (in *instance) gate() error {
	<-in.attached // a new object is one once the disk has it
	return in.durable()
}

// openData finds the facet's database, or makes its place, and attaches it. The process need not wait for that: what it
// says meanwhile waits in the gate, and what it asks of its database in the channel.
func (in *instance) openData(ns *registry.Namespace, pair *sqlpool.Pair) {
	defer close(in.attached)
	if in.durable = func() error { return nil }; in.nameless {
		close(in.decided)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	s, err := in.settle(ctx, ns) // whatever becomes of the process: that it was asked for is remembered
	in.refused = err
	close(in.decided)
	if err == nil {
		stop := context.AfterFunc(in.ctx, cancel)
		err = in.attach(ctx, s, pair)
		stop()
	}
	if err == nil {
		return
	}
	in.durable = func() error { return err }
	if in.refused == nil && in.ctx.Err() == nil {
		in.m.Log.Error("open a facet's data", "facet", in.address(), "error", err)
		in.kill(problem.Internal, "the gateway could not open the facet's data; its log says why")
	}
	in.cancel() // a start that is under way ends at once
}

// attach attaches the facet's database once its place is on the disk.
func (in *instance) attach(ctx context.Context, s *registry.Settled, pair *sqlpool.Pair) (err error) {
	if err := s.Durable(ctx); err != nil {
		return err
	}
	if err := in.rememberOrigin(ctx, s.Object); err != nil {
		return err
	}
	place := placeOf(s.Object, s.Number())
	in.place, in.alarm = place, alarmID{place.id, place.n}
	in.mark()
	if in.sql, err = in.m.Databases.Attach(ctx, sqlpool.AttachOptions{Object: place.object, File: place.file, Limits: sqlLimits(in.spec), Pair: pair,
		Owner: &auditor{log: in.m.Logs.Writer(in.addr(), in.spec.Version), hide: in.hide}, Audit: in.m.Registry.Audited(s.Object, in.path...)}); err != nil {
		in.unmark()
		return fmt.Errorf("attach the database: %w", err)
	}
	in.before = sqlUsage(in.sql.Usage())
	durable := in.m.Syncer.New(filepath.Join(in.m.Objects, place.file), in.m.Objects, in.sql.Committed, in.sql.SetDurable)
	in.durable = func() error {
		if err := durable.Wait(); err != nil {
			return err
		}
		return in.noteAlarm()
	}
	return nil
}

// greet tells the process which facet it is. Its answer is read by the wire itself.
func (in *instance) greet() (err error) {
	s := in.proc.socket
	if s.hello, err = wire.AppendStart(nil, &in.spec.Start); err != nil {
		return problem.New(problem.BadRequest, "%v", err)
	}
	s.answerBefore(time.Now().Add(answerTime))
	share := &rooms{budget: in.m.Calls}
	in.bounds = &wire.Bounds{MaxOpen: in.spec.Start.MaxStreams, Take: share.take, Give: share.give}
	in.conn = wire.NewConn(s, in.bounds, nil)
	in.conn.Stall = stallTime
	// The accept backlog holds what the facet may open at once; what it opens beyond is a breach.
	if in.mux, err = yamux.Client(in.conn, wire.Config(max(1, in.spec.Start.MaxStreams), stallTime)); err != nil {
		return err
	}
	in.session = relay.NewSession(in.mux, in.conn, in.gate, in.m.Budget)
	return nil
}

// stallTime is how long bytes may wait for a facet that reads nothing (SPEC §9).
const stallTime = 30 * time.Second

// begin opens the control stream and waits for the app's start function.
func (in *instance) begin(ctx context.Context) error {
	undo := context.AfterFunc(ctx, func() { in.mux.Close() }) // whatever is waited for
	t, body, err := in.firstWord(ctx)
	if !undo() {
		<-in.mux.CloseChan()
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil:
		in.kill(problem.FacetTimeout, "the app's start function did not return within "+startTime.String())
		return context.DeadlineExceeded
	case err != nil:
		return err
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
		f.Message, f.Stack = in.hide.hide(f.Message), in.hide.hide(f.Stack)
		in.stack = f.Stack
		in.kill(problem.FacetStart, startFailure(&f))
		return errors.New(f.Message)
	}
	in.kill(problem.FacetProtocol, fmt.Sprintf("control frame of type %d before READY", t))
	return wire.ErrNotFacet
}

// firstWord opens the streams that every facet has and reads the first control frame. The stream of the first
// request is among them: it is there when that comes.
func (in *instance) firstWord(ctx context.Context) (t wire.FrameType, body []byte, err error) {
	control, err := in.mux.OpenStream()
	if err == nil {
		// Where start fails at once, the facet has said so and ended its wire before yamux tells that this is sent: what came is there
		// to be read all the same.
		if err = wire.WriteKind(control, wire.StreamControl); errors.Is(err, yamux.ErrSessionShutdown) {
			err = nil
		}
	}
	if err != nil {
		return 0, nil, in.lost("open the control stream", err)
	}
	in.control = control
	go in.acceptStreams()
	in.session.Prepare(ctx)
	if t, body, err = wire.ReadControl(control); err != nil {
		err = in.lost("the process ended in its start function", err)
	}
	return t, body, err
}

// lost words an error of a wire that has failed before the instance runs. Where the facet broke the
// wire's rules, that is why it ends.
func (in *instance) lost(what string, err error) error {
	silence := in.proc.socket.silence()
	switch b := in.conn.Breach(); {
	case errors.Is(silence, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the process said nothing on the wire for %s: %w", answerTime, wire.ErrNotFacet)
		in.kill(problem.FacetProtocol, err.Error())
		return err
	case errors.Is(silence, wire.ErrNotFacet), errors.Is(silence, wire.ErrVersion):
		in.kill(problem.FacetProtocol, silence.Error())
		return silence
	case silence != nil: // end of file: it ended, and how is said by its exit
		return fmt.Errorf("the process ended before it spoke the wire: %w", silence)
	case b != nil:
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
