package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sandboxd"
)

// Whoever can't start a gateway is told what to do then and there.
func TestAMissingLayerComesWithItsMend(t *testing.T) {
	err := fmt.Errorf("start: %w", &sandboxd.MissingError{Layers: []sandboxd.Layer{
		{Layer: "memory", Detail: "permission denied", Mend: "systemd-run it"}, {Layer: "pids", Mend: "systemd-run it"}, {Layer: "seccomp", Mend: "another kernel"}}})
	f := failed("run", err).(*failure)
	if want := "systemd-run it; another kernel; `fgw doctor`"; f.exit != exitRefused || !strings.HasPrefix(f.hint, want) {
		t.Errorf("exit %d, hint %q; wanted %d and %q", f.exit, f.hint, exitRefused, want)
	}
}
