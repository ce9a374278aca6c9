package main

import (
	"bytes"
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

// What is wrong on the line is refused by every command, in words that can be typed, and points to a help that there is.
func TestWrongUsageIsTold(t *testing.T) {
	for line, want := range map[string]string{
		"version x":                                "fgw: version: it takes no argument, not 1\nhint: usage: fgw version\n",
		"doctor x":                                 "fgw: doctor: it takes no argument, not 1\nhint: usage: fgw doctor\n",
		"completion bash x":                        "fgw: completion bash: it takes no argument, not 1\nhint: usage: fgw completion bash\n",
		"version --yes=maybe":                      "fgw: \"maybe\" is no value for --yes\nhint: see fgw --help\n",
		"logs --lines x":                           "fgw: logs: \"x\" is no value for --lines\nhint: see fgw logs --help\n",
		"invoke t/a/b -i=x":                        "fgw: invoke: \"x\" is no value for -i\nhint: see fgw invoke --help\n",
		"version --output xml":                     "fgw: --output: \"xml\" is none of table, json\nhint: see fgw --help\n",
		"sql t/a/b --mode xml":                     "fgw: --mode: \"xml\" is none of table, csv, json, line\nhint: see fgw sql --help\n",
		"serve --egress-allow 10.0.0.1/8":          "fgw: serve: --egress-allow \"10.0.0.1/8\" is no range of addresses, such as 10.1.2.0/24 or 192.168.0.7\nhint: see fgw serve --help\n",
		"serve --workers 0":                        "fgw: serve: --workers 0: from 1 to 256 is allowed\nhint: see fgw serve --help\n",
		"serve --base-domain a..b":                 "fgw: serve: --base-domain \"a..b\" is no domain name, such as apps.example.com\nhint: see fgw serve --help\n",
		"serve --log-level x --listen 127.0.0.1:0": "fgw: --log-level: \"x\" is none of debug, info, warn, error\nhint: see fgw serve --help\n",
	} {
		var out, said bytes.Buffer
		if code := run(t.Context(), append([]string{"fgw", "--data", t.TempDir()}, strings.Fields(line)...), stdio{strings.NewReader(""), &out, &said}); code != exitUsage || said.String() != want || out.Len() > 0 {
			t.Errorf("fgw %s: %d, %q, %q; wanted %q", line, code, out.String(), said.String(), want)
		}
	}
}
