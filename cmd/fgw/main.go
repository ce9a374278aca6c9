// Command fgw is the facet gateway: the server, its administration, and the
// tools with which apps for it are made.
//
// The program is one static binary. The processes that `fgw serve` starts are
// the same binary under other names; main looks at those names before
// anything else, so that none of them ever parses a command line.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/facetgateway/fgw/gateway"
	"github.com/facetgateway/fgw/gateway/build"
	"github.com/facetgateway/fgw/gateway/sqld"
	"github.com/facetgateway/fgw/sandboxd"
	"github.com/facetgateway/fgw/sandboxd/launcher"
)

func main() {
	switch os.Args[0] {
	case sandboxd.UserName:
		sandboxd.UserMain()
		return
	case "fgw-launcher":
		launcher.Main()
		return
	case "fgw-gateway":
		gateway.Main()
		return
	case "fgw-builder":
		build.Main()
		return
	case build.SeedName:
		build.SeedMain()
		return
	case "fgw-sqld":
		sqld.Main()
		return
	}
	os.Exit(run(context.Background(), os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio is where a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, std stdio) int {
	line, err := arrange(newApp(std).Commands, globalFlags(), args)
	if err == nil && line.help && len(line.path) > 0 {
		showHelp(std.out, line)
		return 0
	}
	if err == nil {
		ctx, stop := interruptible(ctx)
		defer stop()
		app := newApp(std)
		err = app.RunContext(ctx, line.args)
	}
	return report(std.err, err, line)
}

// interruptible ends ctx at the first ^C or SIGTERM; a second one ends the
// program, as if nobody were listening. `serve` and `run`, which drain, listen
// for themselves.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}
