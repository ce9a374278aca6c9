package facet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire"
)

// armIdle starts the idle time. The node's mutex is held.
func (in *instance) armIdle(after time.Duration) {
	in.idle = time.AfterFunc(after, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.state != running || in.inflight > 0 || len(in.kids) > 0 {
			return
		}
		if db := in.database(); db != nil && db.InTransaction() { // it is in the midst of something: look again
			in.armIdle(min(after, time.Second))
			return
		}
		in.stopReason = ""
		in.stop()
	})
}

// stop tells the instance to stop, and kills it after stopTime. The node's mutex is held.
func (in *instance) stop() {
	in.state = stopping
	if in.stopReason == "" {
		in.stopReason = "idle"
	}
	reason := in.stopReason
	in.why = reason
	go func() {
		in.stopKids(reason)
		refused := make(chan struct{})
		go func() { // it may read nothing, and then yamux waits longer than we do
			if wire.WriteControl(in.control, wire.FrameStop, wire.Stop{Reason: reason, GraceMS: int(stopTime / time.Millisecond)}) != nil {
				close(refused)
			}
		}()
		select {
		case <-refused:
		case <-in.stopped:
		case <-in.proc.Done():
		case <-in.dead:
		case <-time.After(stopTime):
		}
		in.kill("", reason)
	}()
}

// finish reaps the process, stores how the instance ended, and lets go of everything
// it held. failure is what start failed with, nil for an instance that ran.
func (in *instance) finish(failure error) {
	in.cancel()
	kidsEnded := in.endKids()
	if in.proc != nil {
		in.proc.Kill() // whatever its children wait for: it must not compute on meanwhile
	}
	kidsEnded()
	if in.spare != nil {
		in.spare.end()
	}
	var exit protocol.Exit
	if in.proc != nil {
		select {
		case <-in.proc.Done():
			exit = in.proc.Exit()
		case <-time.After(killTime):
			in.m.Log.Error("a facet's process does not end", "facet", in.address(), "pid", in.proc.PID())
			<-in.proc.Done() // one instance ever: the next must not start beside it
		}
	}
	if in.mux != nil {
		in.mux.Close()
		in.session.Close()
		in.bounds.End()
	}
	if in.spec != nil && in.spec.Egress != nil && in.spec.Egress.hosts != nil {
		in.spec.Egress.hosts.Close()
	}
	said := ""
	if in.output != nil {
		said = in.output.end()
	}
	if in.opening {
		<-in.attached // or given up
	}
	if in.proc != nil {
		in.proc.close()
	}
	var usage Usage
	if in.sql != nil {
		in.detach()
		usage = in.sqlUsed()
		in.sql.Owner().(*auditor).log.Close()
	}
	usage.CPUSeconds += exit.CPU.Seconds()
	usage.MemoryPeakBytes = exit.MemoryPeak

	in.mu.Lock()
	how := in.how(exit, failure, said)
	in.exit, in.lastExit = how, how
	in.account(how)
	in.totals.usage.add(usage)
	in.in = nil
	if in.idle != nil {
		in.idle.Stop()
	}
	in.mu.Unlock()
	in.m.metrics.ended(how.Reason)
	if how.crashed() {
		in.m.Log.Info("facet ended", "facet", in.address(), "reason", how.Reason, "detail", how.Detail)
	}
	if failure != nil {
		in.failure = how.problem()
		if p, ok := errors.AsType[*problem.Error](failure); ok && how.Reason == "start" && (in.proc == nil || in.refused != nil) {
			in.failure = p // refused, not failed
		} else if errors.Is(failure, errStarterGone) && how.Detail == starterGone {
			in.failure = failure // who else waits asks its own caller
		}
		close(in.ready)
	}
	if in.spec != nil && in.spec.release != nil {
		in.spec.release() // its alarm, if it has one, holds the bundle by now
	}
	close(in.gone)
	if in.nameless || in.refused != nil { // names that may not be must not fill the memory
		in.m.drop(in.node)
	}
	if in.starter != nil {
		in.starter.parent.disown(in)
	}
}

// detach lets go of the database. Then no statement of the facet's runs any more, not even one that it had sent before it ended, and
// what alarm they left is certain: it is noted, though nothing left the facet since it was set.
func (in *instance) detach() {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	err := in.sql.Close(ctx)
	if err != nil {
		in.m.Log.Error("detach a facet's database", "facet", in.address(), "error", err)
	}
	if err == nil {
		err = in.lastAlarm(ctx)
	}
	if err == nil && in.m.alarms.forget(in.alarm) {
		err = in.m.Registry.RemoveAlarm(ctx, in.alarm.object, in.alarm.n)
	}
	if err != nil {
		in.m.Log.Error("store a facet's alarm", "facet", in.address(), "error", err)
		in.m.retainMark(in.alarm)
		return // it keeps its mark
	}
	in.unmark()
}

// lastAlarm notes the alarm of a facet that is over.
func (in *instance) lastAlarm(ctx context.Context) error {
	if !in.sql.Replaced() {
		return in.noteAlarm()
	}
	at, err := in.m.readAlarm(ctx, in.place, in.key.namespace)
	if err != nil {
		return err
	}
	return in.m.noteAlarm(ctx, in.alarm, at, in.howStarted)
}

// account counts failures in a row and says when the next start may be. node.mu is held.
func (n *node) account(e *Exit) {
	if !e.crashed() {
		n.crashes = 0
		return
	}
	if time.Since(n.in.since) > settled {
		n.crashes = 0
	}
	n.crashes++
	n.retryAt = time.Now().Add(backoff(n.crashes))
}

// forgive forgets the failures of what ran: whoever ends a facet on purpose has most likely mended it, and should not wait for what
// the code before has brought upon itself.
func (n *node) forgive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crashes, n.retryAt = 0, time.Time{}
}

// how says how the instance ended. What the kernel says comes before what the facet did: a
// process that was killed for its memory also lost its wire. node.mu is held.
func (in *instance) how(exit protocol.Exit, failure error, said string) *Exit {
	e := &Exit{At: time.Now().UTC(), stack: said}
	if in.stack != "" {
		e.stack = in.stack
	}
	switch {
	case exit.OOM:
		e.Reason, e.code = "memory", problem.FacetCrashed
		e.Detail = outOfMemory(exit)
	case exit.Seccomp:
		e.Reason, e.code = "seccomp", problem.FacetCrashed
		e.Detail = "the facet made a system call that no app may make and was killed"
	case in.code != "":
		e.Reason, e.code, e.Detail = reasonOf(in.code), in.code, in.why
	case in.why != "": // stopped as asked
		e.Reason, e.code, e.Detail = stopReasonOf(in.why), problem.FacetAborted, in.why
	case errors.Is(failure, errStarterGone):
		e.Reason, e.code, e.Detail = "abort", codeStarterGone, starterGone
	case failure != nil && (in.proc == nil || in.refused != nil):
		p := problem.As(failure)
		e.Reason, e.code, e.Detail = "start", p.Code, p.Message
		if p.Code == problem.Internal {
			in.m.Log.Error("start a facet", "facet", in.address(), "error", failure)
			e.Detail = "the gateway could not start the facet; its log says why"
		}
	default:
		e.Reason, e.code = "crash", problem.FacetCrashed
		e.Detail = "the facet crashed: " + exit.String()
		if failure != nil && !in.proc.socket.spoke.Load() {
			e.Detail = "the process ended before it spoke the facet wire (is it an app that calls sdk.Serve?): " + exit.String()
		}
		if line := crashLine(said); line != "" {
			e.Detail += ": " + line
			if strings.Contains(line, noThread) {
				e.Detail += in.threadLimits()
			}
		}
	}
	return e
}

// outOfMemory says which limit was reached.
func outOfMemory(exit protocol.Exit) string {
	limit := sizeText(exit.Limit)
	switch exit.Whose {
	case protocol.OfTree:
		return "the facet ran out of memory: its limit of " + limit + " is for it and its children together, and it held the most"
	case protocol.OfSupervisor:
		return "the facet ran out of memory: its supervisor's limit of " + limit + ", for all that is below it together, was reached, and this facet held the most"
	case protocol.OfMachine:
		return "the facet was killed because the machine ran out of memory; its own limit was not reached"
	}
	return "the facet ran out of memory: its limit is " + limit
}

// noThread is what the Go runtime prints when the kernel refuses it a thread.
const noThread = "failed to create new OS thread"

// threadLimits says which limits may have refused a thread.
func (in *instance) threadLimits() string {
	s := fmt.Sprintf(" (its limit is %d processes and threads", in.spec.Limits.Processes)
	if in.starter != nil {
		s += fmt.Sprintf("; its supervisor's, for all that is below it together, %d", in.starter.parent.spec.Limits.Processes)
	}
	return s + ")"
}

func reasonOf(code string) string {
	switch code {
	case problem.FacetProtocol:
		return "protocol"
	case problem.FacetTimeout:
		return "timeout"
	case problem.FacetStart:
		return "start"
	case problem.DiskFull:
		return "storage"
	case problem.Internal:
		return "start"
	}
	return "abort"
}

func stopReasonOf(why string) string {
	switch {
	case why == "idle":
		return "idle"
	case strings.Contains(why, "version"), strings.Contains(why, "removed"):
		return "deploy"
	}
	return "shutdown"
}
