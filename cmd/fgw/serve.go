package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/facetgateway/fgw/gateway"
	"github.com/facetgateway/fgw/gateway/build"
	"github.com/facetgateway/fgw/sandboxd"
	"github.com/urfave/cli/v2"
)

const defaultListen = "127.0.0.1:8080"

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the gateway in the foreground",
		Description: "It prints one line on standard output once it serves, and logs to standard error. SIGTERM or ^C\n" +
			"lets running requests finish (10 s) and stops; a second one stops now.",
		Flags: append(gatewayFlags("info"),
			&cli.StringSliceFlag{Name: "listen", Usage: "serve HTTP at `ADDR`; may be given several times, and end in :0 for any free port", Value: cli.NewStringSlice(defaultListen)},
		),
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0); err != nil {
				return err
			}
			if err := checkListen("serve", c.StringSlice("listen")); err != nil {
				return err
			}
			dir, err := dataDir(c)
			if err != nil {
				return err
			}
			cfg, err := gatewayConfig(c, dir, c.StringSlice("listen"))
			if err != nil {
				return err
			}
			cfg.OnReady = func(addrs []string) { fmt.Fprintln(c.App.Writer, readyLine(addrs, dir)) }
			ctx, end := servingSignals(&cfg)
			defer end()
			return serving("serve", sandboxd.Serve(ctx, cfg), cfg.Listen)
		},
	}
}

// gatewayFlags are those of the commands that run a gateway, which differ in
// how much they log.
func gatewayFlags(logLevel string) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "base-domain", Usage: "apps have origins below `DOMAIN`, too, besides localhost"},
		&cli.StringSliceFlag{Name: "egress-allow", Usage: "facets that may call a host by name or address may also where that leads into `RANGE`, such as 10.1.2.0/24, which is not public; may be given several times"},
		&cli.IntFlag{Name: "workers", Usage: "SQL workers, `N`", DefaultText: "one per core"},
		&cli.StringFlag{Name: "log-level", Usage: "`LEVEL` is debug, info, warn or error", Value: logLevel},
		&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` is text or json", Value: "text", Action: oneOf("log-format", "text", "json")},
	}
	for _, layer := range sandboxd.RequiredLayers() {
		flags = append(flags, &cli.BoolFlag{Name: insecureFlag(layer), Category: "for development only, where nobody else reaches this machine",
			Usage: "serve although the layer " + layer + " is missing"})
	}
	return flags
}

func insecureFlag(layer string) string {
	return "insecure-dev-" + strings.ReplaceAll(layer, "_", "-")
}

// domainName is a name below which origins can lie.
var domainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// egressAllow are the ranges that facets may call though they are not public. An address alone is a range of one.
func egressAllow(c *cli.Context) (ranges []netip.Prefix, err error) {
	for _, text := range c.StringSlice("egress-allow") {
		p, err := netip.ParsePrefix(text)
		if a, one := netip.ParseAddr(text); one == nil && a.Zone() == "" {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil || p != p.Masked() {
			return nil, wrongUsage(commandName(c), "--egress-allow %q is no range of addresses, such as 10.1.2.0/24 or 192.168.0.7", text)
		}
		ranges = append(ranges, p)
	}
	return ranges, nil
}

// gatewayConfig is what the flags say.
func gatewayConfig(c *cli.Context, dir string, listen []string) (sandboxd.Config, error) {
	log, err := logger(c.App.ErrWriter, c.String("log-format"), c.String("log-level"))
	if err != nil {
		return sandboxd.Config{}, err
	}
	// Without a toolchain everything works but building sources, which then says so.
	goroot, goversion, err := build.FindToolchain(os.Getenv(gorootVariable))
	if err != nil {
		log.Info("sources can't be built here", "reason", err)
	}
	domain := strings.ToLower(c.String("base-domain"))
	if domain != "" && (len(domain) > 200 || !domainName.MatchString(domain)) {
		return sandboxd.Config{}, wrongUsage(commandName(c), "--base-domain %q is no domain name, such as apps.example.com", c.String("base-domain"))
	}
	if n := c.Int("workers"); c.IsSet("workers") && (n < 1 || n > sandboxd.MaxWorkers) {
		return sandboxd.Config{}, wrongUsage(commandName(c), "--workers %d: from 1 to %d is allowed", n, sandboxd.MaxWorkers)
	}
	allow, err := egressAllow(c)
	if err != nil {
		return sandboxd.Config{}, err
	}
	own, err := json.Marshal(gateway.Config{
		Toolchain:  goversion,
		BaseDomain: domain, EgressAllow: allow,
		AllowUIDs: startedBy(os.Getuid(), os.Getenv("SUDO_UID")),
		LogLevel:  c.String("log-level"),
		LogFormat: c.String("log-format"),
		Version:   version,
	})
	if err != nil {
		return sandboxd.Config{}, err
	}
	cfg := sandboxd.Config{DataDir: dir, Listen: listen, GatewayConfig: own, Workers: c.Int("workers"), Toolchain: goroot, Log: log}
	if goroot != "" {
		cfg.GoCache = build.FindCache(goroot)
	}
	for _, layer := range sandboxd.RequiredLayers() {
		if c.Bool(insecureFlag(layer)) {
			cfg.Insecure = append(cfg.Insecure, layer)
			log.Warn("INSECURE: apps run although a layer of confinement may be missing", "layer", layer)
		}
	}
	return cfg, nil
}

// startedBy are the users who may administer the gateway besides root and the
// service's own: whoever started it, also by way of sudo.
func startedBy(uid int, sudo string) []int {
	uids := []int{uid}
	if n, err := strconv.Atoi(sudo); uid == 0 && err == nil && n > 0 {
		uids = append(uids, n)
	}
	return uids
}

func logger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		f := wrongUsage("--log-level", "%q is none of debug, info, warn, error", level)
		f.hint = seeHelp("serve")
		return nil, f
	}
	options := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}

// readyLine is the one line that serve prints, and scripts wait for.
func readyLine(addrs []string, dir string) string {
	line := "fgw: serving"
	for _, a := range addrs {
		line += " http://" + a
	}
	return line + " data " + dir
}

// servingSignals makes the first SIGTERM or ^C drain the gateway and the second
// one stop it at once.
func servingSignals(cfg *sandboxd.Config) (context.Context, func()) {
	ctx, drain := context.WithCancel(context.Background())
	stop, ended := make(chan struct{}), make(chan struct{})
	cfg.Stop = stop
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for _, act := range []func(){drain, func() { close(stop) }} {
			select {
			case s := <-signals:
				cfg.Log.Info("stopping", "signal", s.String())
				act()
			case <-ended:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(ended)
		<-watched
		drain()
	}
}

// serving words the errors with which a gateway ends. Ending because it was
// told to is none.
func serving(what string, err error, listen []string) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if errors.Is(err, sandboxd.ErrPortInUse) {
		f := failed(what, err).(*failure)
		f.hint = fmt.Sprintf("another program listens there (`ss -ltnp` says which); choose another address with --listen, or any free port: --listen %s", freePort(listen))
		return f
	}
	return err
}

// checkListen refuses an address that none can be, before anything is started.
func checkListen(what string, listen []string) error {
	for _, addr := range listen {
		_, port, err := net.SplitHostPort(addr)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			f := wrongUsage(what, "--listen %s: %s", addr, err)
			f.hint = "an address is HOST:PORT, as 127.0.0.1:8080; port 0 is any free one"
			return f
		}
	}
	return nil
}

// freePort is the first address with its port replaced by "any".
func freePort(listen []string) string {
	if len(listen) > 0 {
		if host, _, err := net.SplitHostPort(listen[0]); err == nil {
			return net.JoinHostPort(host, "0")
		}
	}
	return "127.0.0.1:0"
}
