package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/urfave/cli/v2"
)

func deployCommand() *cli.Command {
	return &cli.Command{
		Name:      "deploy",
		Usage:     "build an app and make it the newest version of its name",
		ArgsUsage: "DIR|FILE",
		Description: "DIR holds a Go package; FILE is an executable, static and for this machine. Running instances finish what\n" +
			"they are at, then the new version starts on the same data. With --canary it is not live yet: the given percentage of\n" +
			"the objects, always the same ones, run it, until `fgw apps promote` makes it live or `fgw apps rollback` ends it.\n" +
			"Deploying the same code again with a higher percentage adds objects.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Usage: "the `NAMESPACE` that gets it; required"},
			&cli.IntFlag{Name: "canary", Usage: "run it in `PERCENT` of the objects, beside the live version"},
			&cli.StringFlag{Name: "app", Usage: "the app's `NAME`", DefaultText: "the base name of DIR or FILE"},
		},
		Action: deploy,
	}
}

func deploy(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	source, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	namespace, app := c.String("namespace"), c.String("app")
	if namespace == "" {
		return wrongUsage("deploy", "--namespace says where to")
	}
	if app == "" {
		app = filepath.Base(source)
	}
	if err := address.CheckName(app); err != nil {
		f := wrongUsage("deploy", "%s", err)
		f.hint = "--app gives it another name"
		return f
	}
	canary := c.Int("canary")
	if c.IsSet("canary") && (canary < 1 || canary > 100) {
		return wrongUsage("deploy", "--canary %d: a percentage from 1 to 100 is allowed", canary)
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	client, err := dial(c) // before the build, which takes a while
	if err != nil {
		return err
	}
	defer client.Close()
	if info.IsDir() {
		work, err := os.MkdirTemp("", "fgw-deploy-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		exe := filepath.Join(work, "app")
		note := progress(c, "building "+app)
		err = buildApp(c.Context, source, exe, clearing{c.App.ErrWriter, note})
		note.done()
		if err != nil {
			return err
		}
		source = exe
	}
	deployed, err := upload(c.Context, client, source, namespace, app, canary, func(total int64) *meter {
		return progressOf(c, "uploading "+app, total)
	})
	if err != nil {
		return err
	}
	return emit(c, deployed, func(w io.Writer) { drawDeployment(w, deployed) })
}

func drawDeployment(w io.Writer, d *admin.Deployment) {
	is := "is live"
	if d.Canary > 0 {
		is = fmt.Sprintf("runs in %d %% of the objects", d.Canary)
	}
	fmt.Fprintf(w, "%s/%s version %d %s (%s, %s)\n", d.Namespace, d.App, d.Version, is, byteCount(d.Bytes), d.Bundle[:min(12, len(d.Bundle))])
	if d.URL == "" {
		return
	}
	fmt.Fprintf(w, "  %s\n", d.URL)
	if d.Origin != "" {
		fmt.Fprintf(w, "  %s   an origin of its own\n", d.Origin)
	}
	fmt.Fprintln(w, "`me` stands for any object's name: each has its own data")
}

// clearing takes a spinner off the line before a compiler writes there.
type clearing struct {
	w    io.Writer
	note *meter
}

func (c clearing) Write(p []byte) (int, error) {
	c.note.done()
	return c.w.Write(p)
}

// upload makes an executable file an app's newest version. What can't run is
// refused here, before its bytes go anywhere.
func upload(ctx context.Context, client *admin.Client, file, namespace, app string, canary int, show func(total int64) *meter) (*admin.Deployment, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := bundle.Check(f); err != nil {
		return nil, unfit(file, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var note *meter
	if show != nil {
		note = show(info.Size())
	}
	defer note.done()
	var sent int64
	return client.Deploy(ctx, namespace, app, canary, f, info.Size(), func(n int) {
		sent += int64(n)
		note.set(sent)
	})
}

// unfit says why a file can't be run as a facet, and what would help.
func unfit(file string, err error) error {
	f := &failure{what: "deploy", why: fmt.Sprintf("%s: %s", file, err), code: "bad_bundle", exit: exitFailed}
	switch {
	case errors.Is(err, bundle.ErrDynamic):
		f.hint = "a facet's world has no files, so no dynamic loader: build it static, CGO_ENABLED=0 go build"
	case errors.Is(err, bundle.ErrNotExecutable):
		f.hint = "deploy a directory with a Go program (package main), or a static Linux executable for this machine"
	default:
		return err
	}
	return f
}

// sameBundle reports whether a file is what is already live.
func sameBundle(file, hash string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return false
	}
	return strings.EqualFold(hex.EncodeToString(h.Sum(nil)), hash)
}
