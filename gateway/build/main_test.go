package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sandboxd"
	"github.com/facetgateway/fgw/sandboxd/launcher"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire"
)

// TestMain makes the test binary play every part: sandboxd starts its own program under other names. So
// what the tests build is built by a confined builder at the request of a confined gateway.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case launcher.Name:
		launcher.Main()
	case sandboxd.UserName:
		sandboxd.UserMain()
	case "fgw-gateway":
		gatewayMain()
	case Name:
		builderMain()
	case SeedName:
		SeedMain()
	}
	if seederMain() {
		return
	}
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "what the gateway left:", err)
		code = 1
	}
	os.Exit(code)
}

// testConfig is the test gateway's configuration.
type testConfig struct {
	Toolchain string
	Time      time.Duration
	Memory    int64
	Budget    int64
	Parallel  int
	NoWarm    bool // builds wait for ever
}

// reply is what the test gateway answers.
type reply struct {
	Bundle string
	Found  []wire.Diagnostic
	Code   string
	Error  string
	Took   time.Duration
}

// state is how the test gateway fares.
type state struct {
	Spawned, Running int64 // builders
	Flights, Waiters int
}

// gatewayMain is the gateway's process: a Builder behind HTTP.
func gatewayMain() {
	boot, err := protocol.LoadBoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test gateway:", err)
		os.Exit(1)
	}
	fatal := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "test gateway:", err)
			os.Exit(1)
		}
	}
	var c testConfig
	fatal(json.Unmarshal(boot.Config, &c))
	bundles, err := bundle.NewStore(boot.DataDir)
	fatal(err)
	var spawned, running atomic.Int64
	spawn := Spawner(boot.Client)
	b, err := New(Config{
		Toolchain: c.Toolchain, Spawn: func(ctx context.Context, s protocol.Build, f protocol.BuildFiles) (Process, error) {
			p, err := spawn(ctx, s, f)
			if err == nil && !s.Warm {
				spawned.Add(1)
				running.Add(1)
				go func() {
					<-p.Done()
					running.Add(-1)
				}()
			}
			return p, err
		}, Bundles: bundles, Dir: boot.DataDir, Time: c.Time, Budget: c.Budget, Parallel: c.Parallel,
		WarmUp: []string{"encoding/csv", "image/png"}, Limits: protocol.Limits{MemoryBytes: c.Memory}, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	fatal(err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	boot.Client.OnDrain(func() {
		stop()
		b.Close()
		os.Exit(0)
	})
	if !c.NoWarm {
		b.Warm(ctx)
	}
	l, err := net.FileListener(boot.HTTP[0])
	fatal(err)
	// The same builder with tighter bounds, for what would otherwise take the tests' time.
	bounded := &Builder{cfg: b.cfg, modules: b.modules, results: b.results, queue: newQueue(1), warm: b.warm, flights: map[string]*flight{}, ctx: b.ctx, stop: b.stop}
	bounded.cfg.Time, bounded.cfg.Limits.MemoryBytes = boundedTime, boundedMemory
	mux := http.NewServeMux()
	mux.HandleFunc("POST /build", func(w http.ResponseWriter, r *http.Request) {
		var files map[string]string
		if err := json.NewDecoder(r.Body).Decode(&files); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var v reply
		started := time.Now()
		builder, owner := b, r.URL.Query().Get("owner")
		if owner == boundedOwner {
			builder = bounded
		}
		v.Bundle, v.Found, err = builder.Build(WithOwner(r.Context(), owner), files)
		if v.Took = time.Since(started); err != nil {
			v.Error, v.Code = err.Error(), problem.As(err).Code
		}
		json.NewEncoder(w).Encode(v)
	})
	mux.HandleFunc("GET /bundle/{hash}", func(w http.ResponseWriter, r *http.Request) {
		f, err := bundles.Open(r.PathValue("hash"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		defer f.Close()
		io.Copy(w, f)
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		s := state{Spawned: spawned.Load(), Running: running.Load()}
		b.mu.Lock()
		s.Flights = len(b.flights)
		for _, f := range b.flights {
			s.Waiters += f.waiters
		}
		b.mu.Unlock()
		json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("POST /modules", func(w http.ResponseWriter, r *http.Request) {
		if err := b.Modules().Replace(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.Warm(ctx)
		json.NewEncoder(w).Encode(b.Modules().List())
	})
	fatal(boot.Client.Ready(ctx))
	http.Serve(l, mux)
}

// builderMain is the builder's process: the real one, unless the job asks for a probe of its world.
func builderMain() {
	conn := os.NewFile(jobFD, "job")
	var head jobHead
	if err := readHead(conn, &head); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, f := range head.Files {
		if f.Name == probeFile {
			probe(conn, &head)
			os.Exit(0)
		}
	}
	if err := carryOut(conn, &head); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// rig is a running sandboxd with the test gateway.
type rig struct {
	dir    string
	addr   string
	cancel context.CancelFunc
	ended  chan error
}

// startRig serves a data directory.
func startRig(dir string, c testConfig) (*rig, error) {
	root, version, err := FindToolchain(os.Getenv("FGW_GOROOT"))
	if err != nil {
		return nil, err
	}
	if c.Toolchain == "" {
		c.Toolchain = version
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	// The tests' gateway keeps no registry, by which a data directory is known.
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "registry.db"), nil, 0o600)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{dir: dir, cancel: cancel, ended: make(chan error, 1)}
	ready := make(chan string, 1)
	go func() {
		r.ended <- sandboxd.Serve(ctx, sandboxd.Config{
			DataDir: dir, Listen: []string{"127.0.0.1:0"}, GatewayConfig: text, Toolchain: root, GoCache: FindCache(root),
			OnReady: func(addrs []string) { ready <- addrs[0] }, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}()
	select {
	case r.addr = <-ready:
		return r, nil
	case err := <-r.ended:
		cancel()
		return nil, fmt.Errorf("serve: %w", err)
	}
}

// stop ends it and waits for everything to be gone.
func (r *rig) stop() error {
	r.cancel()
	return <-r.ended
}

// build asks the gateway to build files.
func (r *rig) build(ctx context.Context, files map[string]string, owner string) (reply, error) {
	var v reply
	text, err := json.Marshal(files)
	if err != nil {
		return v, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+r.addr+"/build?owner="+url.QueryEscape(owner), bytes.NewReader(text))
	if err != nil {
		return v, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, err
	}
	defer res.Body.Close()
	return v, json.NewDecoder(res.Body).Decode(&v)
}

// must is build, for what the test doesn't expect to fail on the way.
func (r *rig) must(t testing.TB, files map[string]string) reply {
	t.Helper()
	v, err := r.build(t.Context(), files, "test")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (r *rig) state(t testing.TB) (s state) {
	t.Helper()
	res, err := http.Get("http://" + r.addr + "/state")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// spawned is how many builders were started so far.
func (r *rig) spawned(t testing.TB) int64 { t.Helper(); return r.state(t).Spawned }

// until waits for a state.
func (r *rig) until(t testing.TB, what string, is func(state) bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is(r.state(t)) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: never, but %+v", what, r.state(t))
		}
		time.Sleep(2 * time.Millisecond) // the gateway is another process: there is nothing to wait on
	}
}

// sharedRig is one gateway for all tests: warming its cache takes most of their time.
type sharedRig struct {
	once sync.Once
	*rig
	temporary string
	err       error
}

var shared sharedRig

// stop ends it; sandboxd tells of each process or cgroup that it could not get rid of.
func (s *sharedRig) stop() (err error) {
	if s.rig != nil {
		err = s.rig.stop()
		if s.temporary != "" {
			err = errors.Join(err, os.RemoveAll(s.temporary))
		}
	}
	return err
}

// theRig gives the shared gateway.
func theRig(t testing.TB) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: confinement of other users")
	}
	shared.once.Do(func() {
		dir := os.Getenv("FGW_BUILD_TEST_DATA") // keeps the warm cache for the next run
		if dir == "" {
			if shared.temporary, shared.err = os.MkdirTemp("", "fgw-build-"); shared.err != nil {
				return
			}
			dir = filepath.Join(shared.temporary, "data")
		}
		shared.rig, shared.err = startRig(dir, testConfig{})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.rig
}

// hello is a one-file app that says a word.
func hello(word string) string {
	return `package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/facetgateway/fgw/sdk"
)

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "` + word + `") }), nil
}
`
}
