package build

import (
	"context"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// A failed warming is tried again after warmAgain, then after twice as long, up to warmRarely: what fails is mostly a module
// that does not compile, and each attempt costs a minute of CPU time.
const (
	warmAgain  = 30 * time.Second
	warmRarely = time.Hour
)

// warmth says whether the cache has been warmed, or that it can't be. A build before that would compile
// the standard library for itself, and throw it away.
type warmth struct {
	once  sync.Once
	tried chan struct{} // closed when builds need not wait any longer
	turn  chan struct{} // holds one while the cache is being warmed
}

func newWarmth() *warmth { return &warmth{tried: make(chan struct{}), turn: make(chan struct{}, 1)} }

// wait returns when there is nothing to wait for any longer: where warming fails, builds are slow and work.
func (w *warmth) wait(ctx context.Context) error {
	select {
	case <-w.tried:
		return nil
	case <-ctx.Done():
		return errStopping
	}
}

func (w *warmth) end() { w.once.Do(func() { close(w.tried) }) }

// Warm compiles the standard library, the SDK and the allowed modules into the cache that all builds
// read, in the background; where they are compiled already, that takes half a second. It tries again until it succeeds,
// ctx ends or the builder is closed. It is called once at start, and again when the modules have changed.
func (b *Builder) Warm(ctx context.Context) {
	if b.cfg.Toolchain == "" {
		return
	}
	b.wg.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(b.ctx, cancel)()
		for pause := warmAgain; ctx.Err() == nil; pause = min(2*pause, warmRarely) {
			started := time.Now()
			err := b.warmOnce(ctx)
			if ctx.Err() != nil {
				return
			}
			b.warm.end()
			if err == nil {
				b.cfg.Log.Info("the build cache is warm", "took", time.Since(started))
				return
			}
			b.cfg.Log.Error("the build cache can't be warmed", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	})
}

// warmOnce compiles what every app needs first: from then on builds are quick, but for rare packages of the
// standard library, which follow.
func (b *Builder) warmOnce(ctx context.Context) error {
	// One at a time: two would compile the same.
	select {
	case b.warm.turn <- struct{}{}:
		defer func() { <-b.warm.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tree := b.modules.acquire()
	defer b.modules.release(tree)
	if err := b.compile(ctx, tree, tree.warm); err != nil {
		return err
	}
	b.warm.end()
	return b.compile(ctx, tree, b.cfg.WarmUp)
}

// compile has a builder compile packages into the cache.
func (b *Builder) compile(ctx context.Context, t *tree, packages []string) error {
	j := &job{
		head:  jobHead{Warm: true, Packages: packages},
		files: []file{{"go.mod", t.goMod("warm", "")}, {"warm.go", "package main\n\nfunc main() {}\n"}},
	}
	ctx, cancel := context.WithTimeout(ctx, warmTime)
	defer cancel()
	a, err := b.perform(ctx, protocol.Build{Limits: b.cfg.Limits, Tree: t.number, Warm: true}, j, nil)
	if err != nil {
		return err
	}
	if !a.Built {
		return problem.New(problem.BuildFailed, "%s%s", a.Output, a.Error)
	}
	return nil
}
