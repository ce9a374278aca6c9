package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/sandboxd"
	"github.com/urfave/cli/v2"
)

// What `fgw run` makes for a person to look at.
const (
	sampleNamespace = "apps"
	sampleObject    = "demo"
)

// samples are the apps of `fgw run`, each a template of `fgw new`.
var samples = []struct{ name, about string }{
	{"guestbook", "leave a note"},
	{"canvas", "draw together: open it in two windows"},
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "a gateway with the sample apps, to look at",
		Description: "Without --data everything is kept in a temporary directory and gone at the end. The sample apps are\n" +
			"made as `fgw new` makes them, so this needs the Go toolchain.",
		Flags: append(gatewayFlags("warn"),
			&cli.StringFlag{Name: "listen", Usage: "serve HTTP at `ADDR`", Value: defaultListen, DefaultText: defaultListen + ", or a free port where that is taken"},
		),
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0); err != nil {
				return err
			}
			if err := delegated(c); err != nil {
				return err
			}
			dir, remove, err := runDir(c)
			if err != nil {
				return err
			}
			defer remove()
			err = runGateway(c, dir, c.String("listen"))
			if errors.Is(err, sandboxd.ErrPortInUse) && !c.IsSet("listen") {
				err = runGateway(c, dir, freePort([]string{defaultListen}))
			}
			return err
		},
	}
}

// runDir is the data directory that was named, or a temporary one and what
// removes it.
func runDir(c *cli.Context) (string, func(), error) {
	if c.String("data") != "" {
		dir, err := dataDir(c)
		return dir, func() {}, err
	}
	dir, err := os.MkdirTemp("", "fgw-run-")
	return dir, func() { os.RemoveAll(dir) }, err
}

// runGateway serves until it is told to stop, and deploys the samples once it
// serves.
func runGateway(c *cli.Context, dir, listen string) error {
	cfg, err := gatewayConfig(c, dir, []string{listen})
	if err != nil {
		return err
	}
	ctx, end := servingSignals(&cfg)
	defer end()
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	ready := make(chan []string, 1)
	cfg.OnReady = func(addrs []string) { ready <- addrs }
	ended := make(chan error, 1)
	go func() { ended <- sandboxd.Serve(ctx, cfg) }()
	select {
	case err := <-ended:
		return serving(err, cfg.Listen)
	case addrs := <-ready:
		if err := showSamples(ctx, c, dir, addrs[0]); err != nil {
			stop()
			return errors.Join(err, serving(<-ended, cfg.Listen))
		}
	}
	return serving(<-ended, cfg.Listen)
}

// showSamples deploys the sample apps and prints where they are.
func showSamples(ctx context.Context, c *cli.Context, dir, addr string) error {
	client, err := admin.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.NamespacesCreate(ctx, sampleNamespace); err != nil && failed("", err).(*failure).exit != exitConflict {
		return err
	}
	work, err := os.MkdirTemp("", "fgw-samples-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, s := range samples {
		note := progress(c, "building "+s.name)
		err := deploySample(ctx, client, filepath.Join(work, s.name), s.name, c.App.ErrWriter)
		note.done()
		if errors.Is(err, context.Canceled) {
			return nil // ^C during a build: the gateway is already stopping
		}
		if err != nil {
			return fmt.Errorf("sample %s: %w", s.name, err)
		}
	}
	drawSamples(c.App.Writer, dir, addr)
	return nil
}

func deploySample(ctx context.Context, client *admin.Client, dir, name string, diagnostics io.Writer) error {
	if _, err := makeApp(dir, name); err != nil {
		return err
	}
	exe := filepath.Join(dir, name+".exe")
	if err := buildApp(ctx, dir, exe, diagnostics); err != nil {
		return err
	}
	if versions, err := client.AppsVersions(ctx, sampleNamespace, name); err == nil {
		for _, v := range versions {
			if v.Live && sameBundle(exe, v.Bundle) {
				return nil // from an earlier run on the same data directory
			}
		}
	}
	_, err := upload(ctx, client, exe, sampleNamespace, name, 0, nil)
	return err
}

func drawSamples(w io.Writer, dir, addr string) {
	_, port, _ := net.SplitHostPort(addr)
	fmt.Fprintf(w, "fgw is serving at http://%s, data in %s\n\n", addr, dir)
	for _, s := range samples {
		fmt.Fprintf(w, "  http://%s--%s--%s.localhost:%s/   %s\n", s.name, sampleObject, sampleNamespace, port, s.about)
	}
	fmt.Fprintf(w, "\nAny other name instead of %q is another object, with its own data and process.\n", sampleObject)
	fmt.Fprintf(w, "In a second terminal:  fgw facets ls --data %s\n^C stops it.\n", shellWord(dir))
}
