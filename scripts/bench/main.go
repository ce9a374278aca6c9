// Command bench prints one table: what the gateway does, what the least is that it could cost, measured in the same
// run, and what it was meant to cost. It starts the program as it is shipped, with full confinement, on a data
// directory of its own; so it wants root. Nothing leaves the machine but for what the peers are (BENCH_PEERS=1).
//
//	bench [-only WORDS] [-fgw FILE]
//
// Each row measures its sides in turns and takes medians, because other work on the machine shifts all of
// them alike. Load comes from a process of its own. The program is its own load generator, proxy and echo: the first argument says which.
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// modes are what the program is when it is started by itself.
var modes = map[string]func(args []string) error{
	"load": loadMain, "proxy": proxyMain, "plain": plainMain, "echo": echoMain,
}

// bench is one run.
type bench struct {
	dir, self, fgw, app string // app is the executable that the facets run
	gateway             *gateway
	floors              floors
	peer                *workerd // nil without
	groups              leveled
	builds              bool          // a row builds sources: otherwise the gateway has no toolchain, and no cache to warm
	warming             time.Duration // of the gateway's build cache
	ends                []func()
}

// atEnd ends something when the run does.
func (b *bench) atEnd(end func()) { b.ends = append(b.ends, end) }

// measurement makes rows of the table.
type measurement struct {
	name string // for -only
	do   func(*bench) ([]row, error)
}

// measurements in the table's order. The bad neighbours come late: what they leave behind must not be
// measured as someone else's cost.
var measurements = []measurement{
	{"hello", hello},
	{"latency", latency},
	{"supervised", supervised},
	{"increment", increment},
	{"reads", reads},
	{"new", newObject},
	{"wake", wake},
	{"memory", memory},
	{"edit", edit},
	{"live", live},
	{"known", known},
	{"neighbours", neighbours},
}

func main() {
	if len(os.Args) > 1 {
		if mode := modes[os.Args[1]]; mode != nil {
			exitWith(mode(os.Args[2:]))
		}
	}
	only := flag.String("only", "", "measure only these rows, separated by commas: "+strings.Join(names(), ", "))
	fgw := flag.String("fgw", "bin/fgw", "the program to measure")
	flag.Parse()
	exitWith(run(*fgw, *only))
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func names() []string {
	var n []string
	for _, m := range measurements {
		n = append(n, m.name)
	}
	return n
}

func run(fgw, only string) error {
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: what is measured is full confinement (sudo -E env PATH=$PATH make bench)")
	}
	b := &bench{builds: slices.ContainsFunc(chosen, func(m measurement) bool { return m.name == "edit" })}
	defer b.end()
	if err := b.prepare(fgw); err != nil {
		return err
	}
	if b.builds {
		if err := b.warm(); err != nil {
			return err
		}
	}
	fmt.Println(conditions())
	began := time.Now()
	var rows []row
	failed := 0
	for _, m := range chosen {
		at := time.Now()
		found, err := m.do(b)
		if err != nil {
			failed++
			found = []row{{what: m.name, figure: "failed", note: err.Error()}}
		}
		rows = append(rows, found...)
		fmt.Fprintf(os.Stderr, "bench: %-10s %4.1fs\n", m.name, time.Since(at).Seconds())
	}
	fmt.Println()
	printTable(os.Stdout, rows)
	fmt.Printf("\nmeasured in %.0f s; load then %s\n", time.Since(began).Seconds(), loadAverage())
	if failed > 0 {
		return fmt.Errorf("%d rows could not be measured", failed)
	}
	return nil
}

// choose picks measurements by name; all of them for none.
func choose(only string) ([]measurement, error) {
	if only == "" {
		return measurements, nil
	}
	var chosen []measurement
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(measurements, func(m measurement) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: %q is none of %s", name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, measurements[i])
	}
	return chosen, nil
}

// prepare starts all that is measured.
func (b *bench) prepare(fgw string) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.fgw, err = filepath.Abs(fgw); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "fgw-bench-"); err != nil {
		return err
	}
	b.atEnd(func() { os.RemoveAll(b.dir) })
	b.app = filepath.Join(b.dir, "app")
	if err := goBuild("scripts/bench/app", b.app); err != nil {
		return err
	}
	for _, start := range []func() error{b.startGateway, b.level, b.startFloors, b.startPeer} {
		if err := start(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) end() {
	for _, end := range slices.Backward(b.ends) {
		end()
	}
}

// goBuild builds the package in dir as `fgw deploy` does.
func goBuild(dir, to string) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to}
	env := append(os.Environ(), "CGO_ENABLED=0")
	if _, err := os.Stat(filepath.Join(dir, "vendor")); err == nil {
		args, env = append(args, "-mod=vendor"), append(env, "GOWORK=off")
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir, cmd.Env = dir, env
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", dir, err, said)
	}
	return nil
}

// conditions are what a figure has no value without.
func conditions() string {
	version := func(path, key string) string {
		text, _ := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
				return strings.TrimSpace(v)
			}
		}
		return "unknown"
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	cgroups := "v1 or hybrid"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		cgroups = "v2"
	}
	return fmt.Sprintf("%d cores of %s, %s memory, Linux %s, cgroups %s, %s; load before %s",
		runtime.NumCPU(), version("/proc/cpuinfo", "model name"), version("/proc/meminfo", "MemTotal"),
		strings.TrimSpace(string(kernel)), cgroups, runtime.Version(), loadAverage())
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

var client = &http.Client{Timeout: 3 * time.Minute}

// fetch asks for a page that has to be 200.
func fetch(url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	return body(resp)
}

func body(resp *http.Response) (string, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s %.1000s", resp.Request.Method, resp.Request.URL, resp.Status, text)
	}
	return string(text), err
}
