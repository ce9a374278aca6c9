// Package gateway is the gateway process: it serves HTTP, runs facets and the
// registry, and answers its administrator. It holds the keys and no privilege:
// sandboxd started it under a user of its own, in a world of its own, and starts
// every other process at its request. Its parts are the packages below this one.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/build"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/egress"
	"github.com/facetgateway/fgw/gateway/facet"
	"github.com/facetgateway/fgw/gateway/front"
	"github.com/facetgateway/fgw/gateway/gate"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/marks"
	"github.com/facetgateway/fgw/gateway/origin"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Config is what `fgw serve` hands to the gateway process.
type Config struct {
	BaseDomain string `json:"base_domain,omitempty"`
	AllowUIDs  []int  `json:"allow_uids,omitempty"` // may use the admin socket, besides root and the gateway's own
	// EgressAllow are ranges that facets may call although they are not public (egress.Config.AllowAddrs).
	EgressAllow []netip.Prefix `json:"egress_allow,omitempty"`
	LogLevel    string         `json:"log_level,omitempty"`  // debug, info (default), warn, error
	LogFormat   string         `json:"log_format,omitempty"` // text (default) or json
	Version     string         `json:"version,omitempty"`
	Toolchain   string         `json:"toolchain,omitempty"` // version of the Go toolchain that sandboxd was given, "" for none
}

// ExitNewer is the exit status by which the gateway process says that the data
// directory was written by a newer version.
const ExitNewer = 6

// drainTime is how long requests in flight have when the gateway stops.
const drainTime = 10 * time.Second

// streamMemory is the gateway's budget for what facets can make it hold: streams times
// their window (SPEC §9). It is reserved, not used: an idle stream holds no buffer.
const streamMemory = 4 << 30

// callMemory is that for the streams that facets open themselves, beyond the few that each may open.
const callMemory = 2 << 30

// What the gateway keeps is little beside the garbage of its requests: collected at five times what is kept
// rather than twice, it costs less CPU time a request. From gcLimit bytes on memory counts for more.
const (
	gcPercent = 400
	gcLimit   = 1 << 30
)

// Main is the gateway process, started by sandboxd; it does not return.
func Main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(gcLimit)
	boot, err := protocol.LoadBoot()
	if err == nil {
		err = run(boot)
	}
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, registry.ErrNewer):
		fmt.Fprintln(os.Stderr, "fgw: gateway:", err)
		os.Exit(ExitNewer)
	default:
		fmt.Fprintln(os.Stderr, "fgw: gateway:", err)
		os.Exit(1)
	}
}

func newLogger(c *Config) *slog.Logger {
	var level slog.Level
	if c.LogLevel != "" {
		level.UnmarshalText([]byte(c.LogLevel))
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// run serves until it is told to stop or sandboxd goes.
func run(boot *protocol.Boot) error {
	var c Config
	if len(boot.Config) > 0 {
		if err := json.Unmarshal(boot.Config, &c); err != nil {
			return fmt.Errorf("decode the configuration: %w", err)
		}
	}
	log := newLogger(&c)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	boot.Client.OnDrain(stop)

	reg, err := registry.Open(ctx, boot.DataDir, registry.WithLogger(log))
	if err != nil {
		return err
	}
	defer reg.Close()
	running, err := marks.Open(filepath.Join(boot.DataDir, "running"))
	if err != nil {
		return err
	}
	defer running.Close()
	bundles, err := bundle.NewStore(boot.DataDir)
	if err != nil {
		return err
	}
	output, err := logs.Open(logs.Config{Dir: filepath.Join(boot.DataDir, "logs")})
	if err != nil {
		return err
	}
	defer output.Close()
	workers := boot.Workers
	if workers == 0 {
		workers = runtime.NumCPU()
	}
	pool, err := sqlpool.New(ctx, sqlpool.Config{Workers: workers, Log: log, OnAudit: facet.Audit, Spawn: func(ctx context.Context, index int, control, shared *os.File) (sqlpool.Worker, error) {
		return boot.Client.SpawnSQLD(ctx, index, control, shared)
	}})
	if err != nil {
		return fmt.Errorf("start the SQL workers: %w", err)
	}
	defer pool.Close()
	sources, err := build.New(build.Config{
		Toolchain: c.Toolchain, Spawn: build.Spawner(boot.Client), Bundles: bundles, Dir: boot.DataDir, Log: log,
		InUse: func(hash string) bool { return bundles.Pinned(hash) || versionHas(reg, hash) },
	})
	if err != nil {
		return err
	}
	defer sources.Close()
	sources.Warm(ctx)
	syncer := gate.NewSyncer()
	defer syncer.Close()
	facets := facet.NewManager(facet.Config{
		Sandbox: boot.Client, Databases: pool, Registry: reg, Bundles: bundles, Logs: output,
		Budget: relay.NewBudget(streamMemory), Calls: relay.NewBudget(callMemory), Objects: reg.ObjectsDir(), Marks: running, Syncer: syncer, Log: log, Builder: sources,
		KeepsBundle: func(hash string) bool { return sources.Keeps(hash) || versionHas(reg, hash) },
		Egress:      egress.New(egress.Config{AllowAddrs: c.EgressAllow, Own: ownAddrs(boot.Addrs), Log: log}), CheckExecutable: func(f *os.File) error { return bundle.Check(f) },
	})
	if err := facets.LoadAlarms(ctx); err != nil {
		return err
	}
	collectBundles(ctx, reg, bundles, sources, log)
	var ready atomic.Bool
	site := front.New(front.Config{
		Namespaces: reg, Facets: facets, Origins: reg, BaseDomain: c.BaseDomain,
		Ready: ready.Load, Log: log,
	})
	return serve(ctx, boot, &c, log, site, facets, admin.NewServer(admin.Config{
		Registry: reg, Bundles: bundles, Logs: output, Runtime: facets, Sources: sources, Invoke: site.Invoke(),
		URL: appURL(&c, boot.Addrs), Version: c.Version, Listen: boot.Addrs, Log: log,
	}), &ready)
}

// collectBundles removes those that nobody needs: what supervisors handed over in an earlier life of the gateway's, and no alarm
// wants, will be handed over again. A registry without any version is one that was lost or moved, and asks for nothing to be removed.
func collectBundles(ctx context.Context, reg *registry.Registry, bundles *bundle.Store, sources *build.Builder, log *slog.Logger) {
	var removed int
	var bytes int64
	used, err := reg.Bundles(ctx)
	if err == nil && len(used) > 0 {
		removed, bytes, err = bundles.Collect(func(hash string) bool { return used[hash] || sources.Keeps(hash) })
	}
	if err != nil {
		log.Warn("unused bundles were not removed", "error", err)
	}
	if removed > 0 {
		log.Info("removed unused bundles", "bundles", removed, "bytes", bytes)
	}
}

// versionHas reports whether a version of an app is that bundle, or that can't be said.
func versionHas(reg *registry.Registry, hash string) bool {
	used, err := reg.Bundles(context.Background())
	return err != nil || used[hash]
}

// serve runs the listeners until ctx ends, then drains.
func serve(ctx context.Context, boot *protocol.Boot, c *Config, log *slog.Logger, site http.Handler, facets *facet.Manager, adminAPI http.Handler, ready *atomic.Bool) error {
	failed := make(chan error, len(boot.HTTP)+1)
	srv := &http.Server{
		Handler:           site,
		ReadHeaderTimeout: 30 * time.Second, // a client that trickles its head holds a connection, not a facet
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext:       relay.WithClient,
		// It answers OPTIONS * itself, for any host and without a request's id.
		DisableGeneralOptionsHandler: true,
	}
	for _, f := range boot.HTTP {
		ln, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("take over a listener: %w", err)
		}
		f.Close()
		go func() { failed <- srv.Serve(directListener{ln}) }()
	}
	ln, err := net.FileListener(boot.Admin)
	if err != nil {
		return fmt.Errorf("take over the admin socket: %w", err)
	}
	boot.Admin.Close()
	alarms := make(chan struct{})
	alarmCtx, stopAlarms := context.WithCancel(ctx)
	defer func() { stopAlarms(); <-alarms }()
	go func() {
		defer close(alarms)
		facets.RunAlarms(alarmCtx)
	}()
	adminCtx, stopAdmin := context.WithCancel(context.Background())
	defer stopAdmin()
	adminDone := make(chan error, 1)
	go func() { adminDone <- admin.Serve(adminCtx, ln.(*net.UnixListener), adminAPI, c.AllowUIDs, log) }()

	ready.Store(true)
	if err := boot.Client.Ready(ctx); err != nil {
		return fmt.Errorf("tell sandboxd that the gateway serves: %w", err)
	}
	select {
	case <-ctx.Done():
	case <-boot.Client.Done():
		return errors.New("sandboxd is gone")
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case err := <-adminDone:
		return fmt.Errorf("serve the admin socket: %w", err)
	}
	ready.Store(false)
	end, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		srv.Close() // streams that go on for ever are cut
	}
	facets.Close(end)
	stopAdmin()
	<-adminDone
	return nil
}

// directListener has its connections read and written as the wire is: see wire.Direct.
type directListener struct{ net.Listener }

func (l directListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wire.Direct(c), nil
}

// ownAddrs are the gateway's listeners, which no facet may reach through its egress.
func ownAddrs(addrs []string) []netip.AddrPort {
	var own []netip.AddrPort
	for _, a := range addrs {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			own = append(own, ap)
		}
	}
	return own
}

// sampleObject is the object in whose name an app's addresses are shown; any other does as well.
const sampleObject = "me"

// appURL gives the addresses that a deployed app is called at: by path, and by its own origin. Where the
// namespace has a supervisor of its own, that is who is called.
func appURL(c *Config, addrs []string) func(ns *registry.Namespace, app string) (url, own string) {
	return func(ns *registry.Namespace, app string) (url, own string) {
		if len(addrs) == 0 {
			return "", ""
		}
		host, port, err := net.SplitHostPort(addrs[0])
		if err != nil {
			return "", ""
		}
		if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
			host = "127.0.0.1" // all addresses are listened at, or a name
		}
		domain := c.BaseDomain
		if domain == "" {
			domain = "localhost"
		}
		path := "/" + ns.Name + "/" + sampleObject + "/" + app + "/"
		if ns.Supervisor != "" {
			app, path = "", "/"+ns.Name+"/"+sampleObject+"/"
		}
		url = "http://" + net.JoinHostPort(host, port) + path
		// A hashed label is known only once its facet was called by path.
		if label := origin.Label(ns.Name, sampleObject, app); !strings.HasPrefix(label, origin.HashPrefix) {
			own = "http://" + net.JoinHostPort(label+"."+domain, port) + "/"
		}
		return url, own
	}
}
