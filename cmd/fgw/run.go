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
	"github.com/facetgateway/fgw/gateway/origin"
	"github.com/facetgateway/fgw/sandboxd"
	"github.com/urfave/cli/v2"
)

// sample is an app of `fgw run`, a template of `fgw new`.
type sample struct {
	app, namespace, object string
	about                  string
	supervisor             bool // it runs the objects of its namespace, instead of being a facet of one
}

// samples are what `fgw run` makes for a person to look at.
var samples = []sample{
	{app: "guestbook", namespace: "apps", object: "demo", about: "leave a note"},
	{app: "canvas", namespace: "apps", object: "demo", about: "draw together: open it in two windows"},
	{app: "appmaker", namespace: "studio", object: "me", about: "make apps: from a little one, or paste a source", supervisor: true},
}

// origin is the first label of the sample's address.
func (s *sample) origin() string {
	if s.supervisor {
		return origin.Label(s.namespace, s.object, "")
	}
	return origin.Label(s.namespace, s.object, s.app)
}

// studioRequestTime is how long a request to a supervisor that builds sources may take: the first build on a
// new data directory waits until the standard library has been compiled.
const studioRequestTime = "5m"

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
			listen := []string{c.String("listen")}
			if err := checkListen("run", listen); err != nil {
				return err
			}
			err = runGateway(c, dir, listen)
			if errors.Is(err, sandboxd.ErrPortInUse) && !c.IsSet("listen") {
				err = runGateway(c, dir, []string{freePort(listen)})
			}
			return serving("run", err, listen)
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
func runGateway(c *cli.Context, dir string, listen []string) error {
	cfg, err := gatewayConfig(c, dir, listen)
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
		return err
	case addrs := <-ready:
		if err := showSamples(ctx, c, dir, addrs[0]); err != nil {
			stop()
			return errors.Join(err, serving("run", <-ended, listen))
		}
	}
	return <-ended
}

// showSamples deploys the sample apps and prints where they are.
func showSamples(ctx context.Context, c *cli.Context, dir, addr string) error {
	client, err := admin.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	work, err := os.MkdirTemp("", "fgw-samples-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, s := range samples {
		note := progress(c, "building "+s.app)
		err := deploySample(ctx, client, filepath.Join(work, s.app), &s, c.App.ErrWriter)
		note.done()
		if errors.Is(err, context.Canceled) {
			return nil // ^C during a build: the gateway is already stopping
		}
		if err != nil {
			return fmt.Errorf("sample %s: %w", s.app, err)
		}
	}
	drawSamples(c.App.Writer, dir, addr)
	return nil
}

func deploySample(ctx context.Context, client *admin.Client, dir string, s *sample, diagnostics io.Writer) error {
	if _, err := client.NamespacesCreate(ctx, s.namespace); err != nil && failed("", err).(*failure).exit != exitConflict {
		return err
	}
	if _, err := makeApp(dir, s.app); err != nil {
		return err
	}
	exe := filepath.Join(dir, s.app+".exe")
	if err := buildApp(ctx, dir, exe, diagnostics); err != nil {
		return err
	}
	if !liveAlready(ctx, client, s, exe) {
		if _, err := upload(ctx, client, exe, s.namespace, s.app, 0, nil); err != nil {
			return err
		}
	}
	if !s.supervisor {
		return nil
	}
	ns, err := client.NamespacesShow(ctx, s.namespace)
	if err != nil || ns.Supervisor == s.app {
		return err
	}
	_, err = client.NamespacesSet(ctx, s.namespace, map[string]string{"supervisor": s.app, "request_timeout": studioRequestTime})
	return err
}

// liveAlready tells whether an earlier run on the same data directory deployed the very same executable.
func liveAlready(ctx context.Context, client *admin.Client, s *sample, exe string) bool {
	versions, err := client.AppsVersions(ctx, s.namespace, s.app)
	if err != nil {
		return false
	}
	for _, v := range versions {
		if v.Live {
			return sameBundle(exe, v.Bundle)
		}
	}
	return false
}

func drawSamples(w io.Writer, dir, addr string) {
	_, port, _ := net.SplitHostPort(addr)
	fmt.Fprintf(w, "fgw is serving at http://%s, data in %s\n\n", addr, dir)
	for _, s := range samples {
		fmt.Fprintf(w, "  http://%s.localhost:%s/   %s\n", s.origin(), port, s.about)
	}
	fmt.Fprintf(w, "\nAny other name instead of %q or %q is another object, with its own data and process.\n", samples[0].object, samples[len(samples)-1].object)
	fmt.Fprintf(w, "In a second terminal:  fgw facets ls --data %s\n^C stops it.\n", shellWord(dir))
}
