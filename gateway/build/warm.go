package build

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// A failed warming is tried again after warmAgain, then after twice as long, up to warmRarely: what fails is mostly a module
// that does not compile, and each attempt costs a minute of CPU time.
const (
	warmAgain  = 30 * time.Second
	warmRarely = time.Hour
)

// The rest of the standard library is compiled once nothing was built for quietTime, since builds come in series, and
// gives way to the next build; after it gave way givesWay times it goes on beside them, or a busy gateway would never have it.
const (
	quietTime = 2 * time.Second
	givesWay  = 20
)

// usual is what apps import so often, besides what the SDK needs, that every build waits for it.
var usual = []string{"embed", "html/template", "regexp"}

// warmth says how far the cache has been warmed, and what is built meanwhile.
type warmth struct {
	sdk     stage         // the SDK, what it needs, and the usual
	modules stage         // the allowed modules, too
	turn    chan struct{} // holds one while the cache is being warmed

	mu       sync.Mutex    // guards the fields below
	building int           // sources that are built, or wait for it
	changed  chan struct{} // closed, and made anew, when building leaves 0 or comes back to it
}

// stage is closed when builds need not wait for it any longer: it is compiled, or can't be. A build before that would compile
// the standard library for itself, and throw it away.
type stage struct {
	once sync.Once
	over chan struct{}
}

func (s *stage) end() { s.once.Do(func() { close(s.over) }) }

func newWarmth() *warmth {
	return &warmth{
		sdk: stage{over: make(chan struct{})}, modules: stage{over: make(chan struct{})},
		turn: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// wait returns when there is nothing to wait for any longer of what a source imports: where warming fails, builds are slow and work.
func (w *warmth) wait(ctx context.Context, s *source) error {
	over := w.sdk.over
	if s.modules {
		over = w.modules.over
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return errStopping
	}
}

// begin and end are told of each build, and of the warming that somebody waits for.
func (w *warmth) begin() { w.count(1) }
func (w *warmth) end()   { w.count(-1) }

func (w *warmth) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.building
	if w.building += n; (was == 0) != (w.building == 0) {
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// busy reports whether anything is built, and what is closed when that changes.
func (w *warmth) busy() (bool, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.building > 0, w.changed
}

// quiet waits until nothing was built for a while. What it gives is closed when the next build begins.
func (w *warmth) quiet(ctx context.Context) (<-chan struct{}, error) {
	for {
		busy, changed := w.busy()
		var passed <-chan time.Time
		if !busy {
			passed = time.After(quietTime)
		}
		select {
		case <-passed:
			return changed, nil
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// aside does something while nothing is built. Where it is disturbed it begins anew: what was compiled by then is in the cache.
func (w *warmth) aside(ctx context.Context, do func(context.Context) error) error {
	for range givesWay {
		disturbed, err := w.quiet(ctx)
		if err != nil {
			return err
		}
		alone, cancel := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() {
			select {
			case <-disturbed:
				cancel()
			case <-alone.Done():
			}
		})
		err = do(alone)
		gaveWay := err != nil && alone.Err() != nil && ctx.Err() == nil
		cancel()
		watch.Wait()
		if !gaveWay {
			return err
		}
	}
	return do(ctx)
}

// Warm compiles the SDK, the allowed modules and the standard library into the cache that all builds
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
			b.warm.sdk.end()
			b.warm.modules.end()
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

// warmOnce compiles what every app needs, then what those need that import modules, then the rest, which few do.
func (b *Builder) warmOnce(ctx context.Context) error {
	// An earlier warming that is at the rest makes room: it would keep new modules waiting.
	b.warm.begin()
	begun := sync.OnceFunc(b.warm.end)
	defer begun()
	// One at a time: two would compile the same.
	select {
	case b.warm.turn <- struct{}{}:
		defer func() { <-b.warm.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := b.room(); err != nil {
		return err
	}
	tree := b.modules.acquire()
	defer b.modules.release(tree)
	if err := b.compile(ctx, tree, append([]string{sdkModule + "/sdk"}, usual...), true); err != nil {
		return err
	}
	b.warm.sdk.end()
	if len(tree.extra) > 0 {
		if err := b.compile(ctx, tree, tree.extra, true); err != nil {
			return err
		}
	}
	b.warm.modules.end()
	begun()
	// The go command by itself, which also forgets what was not used for days.
	rest := slices.Concat(tree.sdk, b.cfg.WarmUp)
	return b.warm.aside(ctx, func(ctx context.Context) error { return b.compile(ctx, tree, rest, false) })
}

// warmRoom must be free on the disk before the cache is warmed, three times what the standard library takes there: the cache makes builds
// faster, and must not take the room that data needs.
const warmRoom = 400 << 20

func (b *Builder) room() error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.cfg.Dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < warmRoom {
		return fmt.Errorf("%s are free on the disk of the data directory, and %s are needed: builds work, and are slow", size(free), size(warmRoom))
	}
	return nil
}

// compile has a builder compile packages into the cache, or copy them where that is allowed and they lie in the administrator's own.
func (b *Builder) compile(ctx context.Context, t *tree, packages []string, seed bool) error {
	j := &job{
		head:  jobHead{Warm: true, Seed: seed, Packages: packages},
		files: []file{{"go.mod", t.goMod("warm", "")}, {"warm.go", "package main\n\nfunc main() {}\n"}},
	}
	ctx, cancel := context.WithTimeout(ctx, warmTime)
	defer cancel()
	started := time.Now()
	a, err := b.perform(ctx, protocol.Build{Limits: b.cfg.Limits, Tree: t.number, Warm: true}, j, nil)
	if err != nil {
		return err
	}
	if !a.Built {
		return problem.New(problem.BuildFailed, "%s%s", a.Output, a.Error)
	}
	b.cfg.Log.Debug("compiled into the build cache", "first", packages[0], "took", time.Since(started))
	return nil
}
