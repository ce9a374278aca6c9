package facet

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
)

// node is one facet: at most one instance at a time, and what is remembered
// between its lives.
type node struct {
	m    *Manager
	key  key
	path []string // names from the root down

	// Of a dynamic worker, set before its first request.
	nameless bool          // no name, no database; forgotten when it ends
	keep     time.Duration // its idle time

	mu        sync.Mutex
	in        *instance // nil: stopped
	forgotten bool      // no longer in the manager's map
	crashes   int       // in a row
	retryAt   time.Time // no start before
	lastExit  *Exit
	totals    totals
}

// totals are a facet's counts since the gateway started, without those of the running instance.
type totals struct {
	requests, errors, starts int64
	usage                    Usage
}

type state int

const (
	starting state = iota
	running
	draining // finishes what it does; new requests wait for the next instance
	stopping // told to stop, or killed
)

// acquire returns the running instance with one more request in flight. It starts
// one where there is none, and waits for one that starts or goes; all who wait
// share it. It gives up with ctx.
//
// s says who is asked how to start a child; it is nil where the registry knows.
func (n *node) acquire(ctx context.Context, s *starter) (*instance, error) {
	for {
		in, err := n.try(ctx, s)
		if err != errForgotten {
			return in, err
		}
		n = n.m.successor(n)
	}
}

// errForgotten means that the node was dropped from the manager's map while someone held it: another
// may be there by now, and an instance of each would be two of one facet.
var errForgotten = errors.New("the node was dropped")

// try is acquire on this node.
func (n *node) try(ctx context.Context, s *starter) (*instance, error) {
	for {
		n.mu.Lock()
		in := n.in
		var wait <-chan struct{}
		switch {
		case n.forgotten:
			n.mu.Unlock()
			return nil, errForgotten
		case in == nil:
			held, err := n.mayStart()
			if err != nil {
				n.mu.Unlock()
				return nil, err
			}
			if held != nil {
				wait = held
				break
			}
			in = newInstance(n, s)
			if s != nil && !s.parent.adopt(in) {
				n.m.live.Done()
				n.mu.Unlock()
				return nil, problem.New(problem.FacetAborted, "its supervisor has ended")
			}
			n.in = in
			n.totals.starts++
			n.m.metrics.starts.Inc()
			go in.run()
			fallthrough
		case in.state == starting || in.state == running:
			limit := n.inFlightLimit(in)
			if in.inflight >= limit {
				n.mu.Unlock()
				return nil, &problem.Error{Code: problem.TooManyRequests, RetryAfter: time.Second,
					Message: "this facet has " + strconv.Itoa(limit) + " requests in flight, its limit (in_flight)"}
			}
			in.inflight++
			if in.idle != nil {
				in.idle.Stop()
			}
			if in.state == running {
				n.mu.Unlock()
				return in, nil
			}
			n.mu.Unlock()
			got, err := n.await(ctx, in)
			if !errors.Is(err, errStarterGone) || ctx.Err() != nil {
				return got, err
			}
			if in.starter == s {
				return nil, problem.New(codeStarterGone, starterGone)
			}
			continue // whoever was asked has gone; ask our own caller
		default:
			wait = in.gone
		}
		n.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// inFlightLimit is how many requests may be in flight: those who wait for a start, too. n.mu is held.
func (n *node) inFlightLimit(in *instance) int {
	if in.state == running {
		return in.spec.Limits.InFlight
	}
	if ns, err := n.m.Registry.Namespace(n.key.namespace); err == nil {
		return ns.Limits.InFlight
	}
	return 1
}

// await waits for a starting instance in which the caller already counts.
func (n *node) await(ctx context.Context, in *instance) (*instance, error) {
	select {
	case <-in.ready:
		if in.failure == nil {
			return in, nil
		}
		n.release(in, in.failure)
		return nil, in.failure
	case <-ctx.Done():
		n.release(in, nil)
		return nil, ctx.Err()
	}
}

// errStopping is told where a facet would have to start and no more may.
var errStopping = &problem.Error{Code: problem.Overloaded, Message: "the gateway stops", RetryAfter: 5 * time.Second}

// mayStart says why no instance may start now, or what to wait for, or else counts the one that will. n.mu is held.
func (n *node) mayStart() (held <-chan struct{}, err error) {
	if wait := time.Until(n.retryAt); wait > 0 {
		p := &problem.Error{Code: problem.FacetBackoff, RetryAfter: wait,
			Message: "the facet failed " + strconv.Itoa(n.crashes) + " times in a row and rests for " + wait.Round(time.Second/10).String()}
		if n.lastExit != nil {
			p.Message += "; last: " + n.lastExit.Detail
		}
		return nil, p
	}
	return n.m.enter(n.key)
}

// release ends one request of the instance's. The last one starts its idle time.
func (n *node) release(in *instance, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.totals.requests++
	n.m.metrics.requests.Inc()
	if err != nil {
		n.totals.errors++
		n.m.metrics.errors.Inc()
	}
	if in.inflight--; in.inflight > 0 {
		return
	}
	switch in.state {
	case running:
		in.rest()
	case draining:
		in.stop()
	}
}

// rest starts the idle time of a running instance that has nothing to do. n.mu is held.
func (in *instance) rest() {
	if in.inflight == 0 && len(in.kids) == 0 {
		in.armIdle(in.spec.Limits.IdleTimeout)
	}
}

// drain lets the instance finish what it does and then stops it, if it is one of those
// that which names; after drainTime its streams are cut.
func (n *node) drain(which func(*instance) bool, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := n.in
	if in == nil || in.state > running {
		return
	}
	if in.state == starting { // its code is not decided for sure yet: look again when it runs
		go func() {
			<-in.ready
			if in.failure == nil {
				n.drain(which, reason)
			}
		}()
		return
	}
	if !which(in) {
		return
	}
	in.state, in.stopReason = draining, reason
	if in.inflight == 0 {
		in.stop()
		return
	}
	in.idle = time.AfterFunc(drainTime, func() { in.kill(problem.FacetAborted, reason) })
}

// end kills the instance, if one lives; its requests are told code and reason.
func (n *node) end(code, reason string) *instance {
	n.mu.Lock()
	in := n.in
	n.mu.Unlock()
	if in != nil {
		in.kill(code, reason)
	}
	return in
}
