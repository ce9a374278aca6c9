package confine

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWindow holds the code between clone and exec to what may run there. The child stands on its
// parent's stack and heap: one call of Go's that allocates, grows the stack or takes a lock would
// corrupt both, once in a while. No amount of spawning proves the absence of that; reading the
// instructions does.
func TestWindow(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("no disassembler for " + runtime.GOARCH)
	}
	if testing.CoverMode() != "" {
		t.Skip("coverage counters stand in the window")
	}
	out := disassemble(t, `sandboxd/confine\.window$`)
	call := regexp.MustCompile(`\b(?:CALL|BL)\s+(\S+)`)
	var calls []string
	for line := range strings.Lines(string(out)) {
		if m := call.FindStringSubmatch(line); m != nil {
			calls = append(calls, strings.TrimSuffix(m[1], "(SB)"))
		}
	}
	if len(calls) == 0 {
		t.Fatalf("no calls found in:\n%s", out)
	}
	const pkg = "github.com/facetgateway/fgw/sandboxd/confine."
	allowed := []string{
		"runtime.morestack_noctxt.abi0", "runtime.morestack_noctxt", // on entry, before the clone
		"syscall.runtime_BeforeFork", "syscall.runtime_AfterFork", "syscall.runtime_AfterForkInChild",
		"syscall.RawSyscall6", "syscall.rawSyscallNoError",
		pkg + "vforkClone3.abi0", pkg + "vforkClone3",
		"internal/runtime/syscall.Syscall6", "internal/runtime/syscall/linux.Syscall6",
	}
	for _, c := range calls {
		if !slices.Contains(allowed, c) {
			t.Errorf("window calls %s", c)
		}
	}
	for _, must := range []string{"vforkClone3", "AfterForkInChild"} {
		if !slices.ContainsFunc(calls, func(c string) bool { return strings.Contains(c, must) }) {
			t.Errorf("window does not call %s: is this its code?\n%s", must, out)
		}
	}
}

// disassemble compiles this package's tests anew, since `go test` leaves the symbols out of what it
// runs, and gives the instructions of one function.
func disassemble(t *testing.T, function string) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles this package: not with -short")
	}
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the Go toolchain")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "confine.test")
	if out, err := exec.CommandContext(ctx, gotool, "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		t.Skipf("needs a Go toolchain that can compile here: %v %s", err, out)
	}
	out, err := exec.CommandContext(ctx, gotool, "tool", "objdump", "-s", function, program).CombinedOutput()
	if err != nil {
		t.Skipf("needs the Go toolchain's disassembler: %v %s", err, out)
	}
	return out
}
