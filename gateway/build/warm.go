package build

import (
	"context"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// warmAgain is how long a failed warming is left before the next attempt.
const warmAgain = 30 * time.Second

// warmth says whether the cache holds what every build needs. Without it nothing can be built: the go command
// wants to write down what it learns about the standard library, and a build may write nothing there.
type warmth struct {
	ready chan struct{} // closed once it does

	mu     sync.Mutex // guards the fields below
	failed error      // of the last attempt; nil while one is under way
	tried  chan struct{}
}

func newWarmth() *warmth { return &warmth{ready: make(chan struct{}), tried: make(chan struct{})} }

// wait returns once the cache is warm, or an attempt to warm it has failed.
func (w *warmth) wait(ctx context.Context) error {
	w.mu.Lock()
	failed, tried := w.failed, w.tried
	w.mu.Unlock()
	if failed == nil {
		select {
		case <-w.ready:
			return nil
		case <-tried:
			w.mu.Lock()
			failed = w.failed
			w.mu.Unlock()
		case <-ctx.Done():
			return errStopping
		}
	}
	select {
	case <-w.ready:
		return nil
	default:
		return &problem.Error{Code: problem.Overloaded, RetryAfter: warmAgain,
			Message: "the standard library could not be compiled: " + failed.Error()}
	}
}

// end notes how an attempt ended.
func (w *warmth) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ready:
		return
	default:
	}
	w.failed = err
	close(w.tried)
	w.tried = make(chan struct{})
	if err == nil {
		close(w.ready)
	}
}

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
		for ctx.Err() == nil {
			started := time.Now()
			err := b.warmOnce(ctx)
			if ctx.Err() != nil {
				return
			}
			b.warm.end(err)
			if err == nil {
				b.cfg.Log.Info("the build cache is warm", "took", time.Since(started))
				return
			}
			b.cfg.Log.Error("the build cache can't be warmed", "error", err)
			select {
			case <-time.After(warmAgain):
			case <-ctx.Done():
			}
		}
	})
}

func (b *Builder) warmOnce(ctx context.Context) error {
	tree := b.modules.acquire()
	defer b.modules.release(tree)
	j := &job{
		head:  jobHead{Warm: true, Packages: append([]string{"std"}, tree.packages...)},
		files: []file{{"go.mod", tree.goMod("warm", "")}, {"warm.go", "package main\n\nfunc main() {}\n"}},
	}
	ctx, cancel := context.WithTimeout(ctx, warmTime)
	defer cancel()
	a, err := b.perform(ctx, protocol.Build{Limits: b.cfg.Limits, Tree: tree.number, Warm: true}, j, nil)
	if err != nil {
		return err
	}
	if !a.Built {
		return problem.New(problem.BuildFailed, "%s", a.Output)
	}
	return nil
}
