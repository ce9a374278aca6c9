package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/facetgateway/fgw/gateway/build"
)

// buildApp compiles the Go package in dir into an executable file to, as a
// facet can run it: static, with no path of this machine in it. What the
// compiler says goes to diagnostics as it is.
func buildApp(ctx context.Context, dir, to string, diagnostics io.Writer) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return &failure{what: "deploy", why: "the Go toolchain is not on PATH, and " + dir + " has to be built",
			hint: "install Go from https://go.dev/dl/, or deploy an executable file", code: "no_toolchain", exit: exitFailed}
	}
	// With the flags of sources that are built in the gateway, so that what is compiled for the one serves the other.
	args := append([]string{"build"}, build.Flags()...)
	args = append(args, "-ldflags=-s -w", "-o", to)
	env := append(os.Environ(), "CGO_ENABLED=0", "PWD="+dir)
	if _, err := os.Stat(filepath.Join(dir, "vendor", "modules.txt")); err == nil {
		// Told outright, since a GOFLAGS or a workspace around dir would say otherwise.
		args = append(args, "-mod=vendor")
		env = append(env, "GOWORK=off")
	}
	cmd := exec.CommandContext(ctx, goTool, append(args, ".")...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdout, cmd.Stderr = diagnostics, diagnostics
	err = cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &failure{what: "deploy", why: fmt.Sprintf("%s does not build; the compiler's words are above", dir),
			code: "build_failed", exit: exitFailed}
	}
	if err != nil {
		return err
	}
	return isProgram(dir, to)
}

// isProgram refuses what the toolchain makes of a package that is no program:
// an archive for other packages to be built with.
func isProgram(dir, built string) error {
	f, err := os.Open(built)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(archiveMagic))
	if _, err := io.ReadFull(f, head); err == nil && string(head) == archiveMagic {
		return &failure{what: "deploy", why: dir + " is no program: its package is not main", code: "build_failed", exit: exitFailed,
			hint: "deploy the directory of a Go program, package main"}
	}
	return nil
}

// archiveMagic is how an archive of object files begins.
const archiveMagic = "!<arch>\n"
