package build

import (
	"context"
	"errors"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

// outcome is how a build ended.
type outcome struct {
	bundle string
	found  []wire.Diagnostic
	err    error // a *problem.Error
	// lasting: the same files will end the same way, so that it is worth remembering.
	lasting bool
}

// flight is a build that is under way, and everyone who waits for it.
type flight struct {
	waiters int // guarded by Builder.mu
	cancel  context.CancelFunc
	done    chan struct{}
	outcome outcome // set before done is closed
}

// join gives the outcome of an earlier build, or else the flight that makes one, started where there is none.
func (b *Builder) join(key string, s *source, tree *tree, owner string) (*flight, *outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if done := b.results.find(key, b.cfg.Bundles); done != nil {
		return nil, done
	}
	if f := b.flights[key]; f != nil {
		f.waiters++
		return f, nil
	}
	if b.ctx.Err() != nil {
		return nil, &outcome{err: errStopping}
	}
	ctx, cancel := context.WithCancel(b.ctx)
	f := &flight{waiters: 1, cancel: cancel, done: make(chan struct{})}
	b.flights[key] = f
	b.modules.retain(tree)
	b.wg.Go(func() {
		defer cancel()
		o := b.fly(ctx, s, tree, owner)
		b.modules.release(tree)
		b.land(key, f, o)
	})
	return f, nil
}

// leave is told by a waiter who has given up. The last one ends the build.
func (b *Builder) leave(key string, f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		if b.flights[key] == f {
			delete(b.flights, key) // who comes now starts anew and does not share the end of this one
		}
	}
}

var errStopping = problem.New(problem.Overloaded, "the gateway is stopping")

// fly waits for its turn and builds.
func (b *Builder) fly(ctx context.Context, s *source, tree *tree, owner string) outcome {
	b.warm.begin()
	defer b.warm.end()
	if err := b.warm.wait(ctx, s); err != nil {
		return outcome{err: err}
	}
	if err := b.queue.acquire(ctx, owner); err != nil {
		return outcome{err: err}
	}
	defer b.queue.release()
	started := time.Now()
	o := b.run(ctx, s, tree)
	level := b.cfg.Log.Debug
	if o.err != nil && !errors.Is(o.err, errStopping) {
		level = b.cfg.Log.Info
	}
	level("built a source", "owner", owner, "bundle", o.bundle, "diagnostics", len(o.found), "took", time.Since(started), "error", o.err)
	return o
}

// land keeps the outcome and tells it to everyone who waits.
func (b *Builder) land(key string, f *flight, o outcome) {
	if o.bundle != "" {
		if err := b.results.keep(key, o.bundle, b.cfg.Bundles); err != nil {
			b.cfg.Log.Warn("the result of a build can't be kept", "error", err)
		}
	} else if o.lasting {
		b.results.remember(key, o)
	}
	b.mu.Lock()
	if b.flights[key] == f {
		delete(b.flights, key)
	}
	b.mu.Unlock()
	f.outcome = o
	close(f.done)
	if o.bundle != "" {
		b.collect()
	}
}

// collect lets go of old results where they pass the budget.
func (b *Builder) collect() {
	if !b.results.trim(b.cfg.Budget, b.cfg.InUse) {
		return
	}
	removed, bytes, err := b.cfg.Bundles.Collect(func(hash string) bool { return b.cfg.InUse(hash) || b.Keeps(hash) })
	if err != nil {
		b.cfg.Log.Warn("old bundles can't be removed", "error", err)
	}
	if removed > 0 {
		b.cfg.Log.Info("removed old results of builds", "bundles", removed, "bytes", bytes)
	}
}
