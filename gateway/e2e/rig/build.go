// Package rig starts real gateways for end-to-end tests: the program as it is
// shipped, on a data directory of its own, reached over HTTP and the command line
// alone. What a test starts is gone when it ends, and Main fails the tests
// if anything is left: a process, a cgroup, a mount.
package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// work is the directory that Main makes and removes; program and apps are built into it.
var work struct {
	sync.Mutex
	dir   string
	built map[string]error // by path; guarded by the mutex
}

// Main runs a package's tests, and looks for what their gateways left.
func Main(m *testing.M) int {
	os.Unsetenv("FGW_DATA") // what the tests say counts, not their surroundings
	dir, err := os.MkdirTemp("", "fgw-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	work.dir, work.built = dir, map[string]error{}
	code := m.Run()
	for _, what := range leftovers() {
		fmt.Fprintln(os.Stderr, "left behind:", what)
		code = max(code, 1)
	}
	return code
}

// NeedRoot skips a test that needs full confinement.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: facets run with full confinement")
	}
}

// module is the directory of the gateway's module.
func module() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// FGW gives the path of the program: $FGW where that is set, else it is built, once.
func FGW(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("FGW"); given != "" {
		return given
	}
	return build(t, "fgw", module(), "./cmd/fgw", "")
}

// App builds the Go package in dir, once for each edition: a text that ends up
// in the variable main.edition, so that different bundles come from one source.
func App(t testing.TB, dir, edition string) string {
	t.Helper()
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return build(t, filepath.Base(abs)+edition, abs, ".", edition)
}

func build(t testing.TB, name, dir, pkg, edition string) string {
	t.Helper()
	work.Lock()
	defer work.Unlock()
	out := filepath.Join(work.dir, name)
	err, done := work.built[out]
	if !done {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.edition="+edition, "-o", out, pkg)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, failed := cmd.CombinedOutput(); failed != nil {
			err = fmt.Errorf("go build %s: %w\n%s", filepath.Join(dir, pkg), failed, strings.TrimSpace(string(said)))
		}
		work.built[out] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Dir makes an empty directory that others may pass through, removed after the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(work.dir, "t-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Free tells how many bytes the directory's file system has room for.
func Free(t testing.TB, dir string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}
