package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/urfave/cli/v2"
)

// version and commit are stamped by the linker.
var (
	version = "dev"
	commit  = ""
)

// buildCommit is the stamped commit, or what the Go toolchain noted.
func buildCommit() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "which fgw this is",
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0); err != nil {
				return err
			}
			v := struct {
				Version string `json:"version"`
				Commit  string `json:"commit"`
				Go      string `json:"go"`
				Wire    int    `json:"wire"`
			}{version, buildCommit(), runtime.Version(), wire.MaxVersion}
			return emit(c, v, func(w io.Writer) {
				fmt.Fprintf(w, "fgw %s (%s, %s, wire %d)\n", v.Version, v.Commit, v.Go, v.Wire)
			})
		},
	}
}
