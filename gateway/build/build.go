// Package build turns sources into bundles: a supervisor hands over a few files, and the gateway answers with
// the hash of an executable, or with what is wrong, at its line.
//
// Sources are hostile, and so is whatever the Go toolchain becomes while it reads
// them. So each build runs in a sandbox of its own (the builder profile of package sandboxd), from which one
// answer comes back, taken for a stranger's. DESIGN.md beside this file gives the reasons.
package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/appvendor"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Defaults of a Config.
const (
	DefaultMemory    = 1 << 30
	DefaultProcesses = 256
	DefaultCPUMilli  = 2000
	DefaultTime      = 50 * time.Second // less than requests wait by default: whoever waits for it is told, not cut off
	DefaultBudget    = 4 << 30
)

// MaxExecutable is the largest executable that a build may make.
const MaxExecutable = 100 << 20

// warmTime bounds the compilation of the standard library: a minute on two cores, an hour where they are shared.
const warmTime = time.Hour

// Process is a builder that runs.
type Process interface {
	Kill() error
	Done() <-chan struct{}
	Exit() protocol.Exit
}

// Config is what a Builder works with. Zero values mean the defaults above, where there is one.
type Config struct {
	// Toolchain is the version of the Go toolchain with which sandboxd was started ("go1.26.8"), "" for none.
	Toolchain string
	// Spawn starts a builder; the production one is protocol.Client's SpawnBuild, by way of Spawner.
	Spawn   func(context.Context, protocol.Build, protocol.BuildFiles) (Process, error)
	Bundles *bundle.Store
	// Dir is the data directory as the gateway sees it. The builder keeps DATA/build and DATA/modules.
	Dir string
	// SDK is what every source may import; default the one that is built in.
	SDK *appvendor.Set

	Limits   protocol.Limits // of one build
	Time     time.Duration   // of one build, from its start
	Parallel int             // builds at once; default one per core
	Budget   int64           // bytes of executables that are kept
	WarmUp   []string        // packages to compile at start besides the SDK and the modules; default std, all of it
	// InUse reports whether anything but the builder needs a bundle: a version of an app, a running
	// facet. nil: nothing does.
	InUse func(hash string) bool
	Log   *slog.Logger
}

// Spawner gives a Config's Spawn for a gateway's channel to sandboxd.
func Spawner(c *protocol.Client) func(context.Context, protocol.Build, protocol.BuildFiles) (Process, error) {
	return func(ctx context.Context, b protocol.Build, f protocol.BuildFiles) (Process, error) {
		p, err := c.SpawnBuild(ctx, b, f)
		if err != nil {
			return nil, err // never a nil *Process in the interface
		}
		return p, nil
	}
}

// Builder makes bundles of sources, each once.
type Builder struct {
	cfg     Config
	modules *Modules
	results *results
	queue   *queue
	warm    *warmth

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup // flights and warming

	mu      sync.Mutex         // guards flights, and orders looking for a result before joining a flight
	flights map[string]*flight // by key
}

// New opens the builder's directories. Builds wait until Warm has been called and has ended once.
func New(c Config) (*Builder, error) {
	if c.SDK == nil {
		sdk, err := appvendor.Open()
		if err != nil {
			return nil, fmt.Errorf("open the builder: %w", err)
		}
		c.SDK = sdk
	}
	c.Limits.MemoryBytes = orDefault(c.Limits.MemoryBytes, DefaultMemory)
	c.Limits.Processes = orDefault(c.Limits.Processes, DefaultProcesses)
	c.Limits.CPUMilli = orDefault(c.Limits.CPUMilli, min(DefaultCPUMilli, int64(runtime.NumCPU())*1000))
	c.Time = orDefault(c.Time, DefaultTime)
	c.Parallel = orDefault(c.Parallel, runtime.NumCPU())
	c.Budget = orDefault(c.Budget, DefaultBudget)
	if c.WarmUp == nil {
		c.WarmUp = []string{"std"}
	}
	if c.InUse == nil {
		c.InUse = func(string) bool { return false }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// 0700: what lies below is for builders, who get it by mounts, and for no other user.
	if err := os.MkdirAll(filepath.Join(c.Dir, "build"), 0o700); err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	modules, err := openModules(c.Dir, c.SDK)
	if err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	kept, err := openResults(filepath.Join(c.Dir, "build", "results"))
	if err != nil {
		return nil, fmt.Errorf("open the builder: %w", err)
	}
	b := &Builder{
		cfg: c, modules: modules, results: kept, queue: newQueue(c.Parallel), warm: newWarmth(),
		flights: map[string]*flight{},
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Close ends the builds under way and waits for their processes' ends.
func (b *Builder) Close() {
	b.stop()
	b.wg.Wait()
}

// Modules are those that sources may import.
func (b *Builder) Modules() *Modules { return b.modules }

// Keeps reports whether a bundle is the kept result of a build. Whoever collects bundles must ask.
func (b *Builder) Keeps(hash string) bool { return b.results.keeps(hash) }

type ownerKey struct{}

// WithOwner names whom a build is for: an object or a namespace. Where more builds wait than can run, owners
// take turns.
func WithOwner(ctx context.Context, owner string) context.Context {
	return context.WithValue(ctx, ownerKey{}, owner)
}

func ownerOf(ctx context.Context) string {
	owner, _ := ctx.Value(ownerKey{}).(string)
	return owner
}

// errNoToolchain is told to everyone who wants something built where nothing can be.
func errNoToolchain() error {
	return &problem.Error{
		Code: problem.BuildFailed, Message: "this gateway has no Go toolchain, so it can build no sources",
		Hint: "install Go from https://go.dev/dl and start the gateway again, or say where it lies: FGW_GOROOT=/usr/local/go fgw serve …",
	}
}

// Build returns the bundle that files are built to, or what is wrong with them; err, a *problem.Error,
// says that it could not be tried. However many ask for the same files, they are built once; the build goes
// on as long as anyone waits.
func (b *Builder) Build(ctx context.Context, files map[string]string) (bundle string, found []wire.Diagnostic, err error) {
	if b.cfg.Toolchain == "" {
		return "", nil, errNoToolchain()
	}
	tree := b.modules.acquire()
	defer b.modules.release(tree)
	s, found := prepare(files, tree, b.cfg.Toolchain)
	if len(found) > 0 {
		return "", found, nil
	}
	key := s.key(b.cfg.Toolchain, tree)
	f, done := b.join(key, s, tree, ownerOf(ctx))
	if done != nil {
		return done.bundle, done.found, done.err
	}
	select {
	case <-f.done:
		return f.outcome.bundle, f.outcome.found, f.outcome.err
	case <-ctx.Done():
		b.leave(key, f)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", nil, problem.New(problem.FacetTimeout, "the source was not built in time")
		}
		return "", nil, problem.New(problem.FacetAborted, "nobody waits for the build any longer")
	}
}
