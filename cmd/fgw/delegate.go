package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/facetgateway/fgw/sandboxd"
	"github.com/urfave/cli/v2"
)

// scopedEnv marks a process that runs in a scope already, so that it is not
// tried again.
const scopedEnv = "FGW_SCOPED"

// delegated makes sure that an ordinary user's process may make cgroups, by
// starting this program again in a scope of the user's systemd. It returns when
// there is nothing to do, or nothing that could be done: what is missing is
// then told by Serve.
func delegated(c *cli.Context) error {
	if os.Geteuid() == 0 || os.Getenv(scopedEnv) != "" {
		return nil
	}
	missing := slices.ContainsFunc(sandboxd.Plan(sandboxd.Probe(), sandboxd.Options{}).Layers, func(l sandboxd.Layer) bool {
		return l.Required && !l.Active
	})
	systemdRun, err := exec.LookPath("systemd-run")
	if !missing || err != nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "systemd", "private")); err != nil || os.Getenv("XDG_RUNTIME_DIR") == "" {
		return nil // no systemd of the user's to ask
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{"systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--", exe}, os.Args[1:]...)
	return syscall.Exec(systemdRun, args, append(os.Environ(), scopedEnv+"=1"))
}
