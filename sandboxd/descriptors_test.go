package sandboxd

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/facetgateway/fgw/sandboxd/launcher"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// filesEnv tells serveMain how many descriptors it may have.
const filesEnv = "TEST_FILES"

// noMoreFiles lets this process open nothing more until the function that it gives is called.
func noMoreFiles(t *testing.T) (again func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	again = func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
	t.Cleanup(again)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return again
}

func TestFilesAreShared(t *testing.T) {
	for _, test := range []struct{ limit, requests, facets int }{
		{64, 4, 0}, {256, 4, 48}, {1024, 8, 736}, {20_000, 156, 16_752}, {1 << 20, maxRequests, 1<<20 - ownFiles - maxRequests*requestFiles},
	} {
		requests, facets := shareFiles(test.limit)
		if requests != test.requests || facets != test.facets {
			t.Errorf("of %d descriptors: %d requests, %d for facets; want %d, %d", test.limit, requests, facets, test.requests, test.facets)
		}
	}
	if err := fileError(1024); err == nil || !strings.Contains(err.Error(), "room for 147 facets") {
		t.Errorf("1024 descriptors: %v", err)
	}
	if err := fileError(65536); err != nil {
		t.Errorf("65536 descriptors: %v", err)
	}
}

// TestFewFiles starts facets until there is room for no more: that is said, and everything else goes on.
func TestFewFiles(t *testing.T) {
	t.Setenv(filesEnv, "320")
	s := serve(t, t.TempDir())
	var pid, started int
	var err error
	for started = 0; err == nil && started < 100; started++ {
		err = s.ask(t, &pid, "spawn")
	}
	if err == nil || !strings.Contains(err.Error(), errNoFiles.Error()) || !strings.Contains(err.Error(), "limit 320") {
		t.Fatalf("facet %d: %v", started, err)
	}
	_, room := shareFiles(320)
	if want := room / facetFDs; started-1 != want {
		t.Errorf("%d facets started, want %d", started-1, want)
	}
	s.must(t, &pid, "sqld/0")
	_, all := s.family(t)
	if want := started - 1 + 4; len(all) != want {
		t.Errorf("%d processes run, want %d", len(all), want)
	}
	syscall.Kill(all[len(all)-1], syscall.SIGKILL) // a facet's: its descriptors are another's
	eventually(t, "there is room for a facet again", func() bool { return s.ask(t, &pid, "spawn") == nil })
}

// TestRequestCutOff: what the kernel had to cut off is not the gateway's fault.
func TestRequestCutOff(t *testing.T) {
	ours, theirs, err := seqpacket()
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDesk(ours)
	if err != nil {
		t.Fatal(err)
	}
	d.log, d.clamp = slog.New(slog.NewTextHandler(t.Output(), nil)), func(l protocol.Limits) protocol.Limits { return l }
	d.startFacet = func(uint64, protocol.Limits, place, facetFiles) (*process, error) {
		return nil, errors.New("started")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, err := protocol.NewClient(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	spawn := func() error {
		_, err := c.SpawnFacet(t.Context(), small, protocol.Place{}, protocol.FacetFiles{Exe: null, Wire: null, Output: null})
		return err
	}
	again := noMoreFiles(t)
	go d.serve()
	if err := spawn(); !errors.Is(err, protocol.ErrRefused) || !strings.Contains(err.Error(), errNoFiles.Error()) {
		t.Errorf("without descriptors: %v", err)
	}
	again()
	if err := spawn(); !errors.Is(err, protocol.ErrRefused) || !strings.Contains(err.Error(), "started") {
		t.Errorf("with descriptors again: %v", err)
	}
}

// TestPidfdCutOff: a facet whose pidfd did not arrive could not be killed later, so it is at once.
func TestPidfdCutOff(t *testing.T) {
	needRoot(t) // it sends another's pid
	ours, theirs, err := seqpacket()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	f, err := newFacets(ours)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	failed := make(chan error)
	n := int(null.Fd())
	go func() {
		_, err := f.start(1, small, place{}, facetFiles{n, n, n, n})
		failed <- err
	}()
	if _, err := theirs.Read(make([]byte, launcher.RequestBytes)); err != nil {
		t.Fatal(err)
	}
	again := noMoreFiles(t)
	say := func(e launcher.Event, oob []byte) {
		t.Helper()
		if err := unix.Sendmsg(int(theirs.Fd()), e.Append(nil), oob, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	creds := unix.UnixCredentials(&unix.Ucred{Pid: int32(cmd.Process.Pid)})
	say(launcher.Event{ID: 1, Child: true}, append(creds, unix.UnixRights(n)...))
	cmd.Wait()
	again()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("the facet ended with %v", cmd.ProcessState)
	}
	say(launcher.Event{ID: 1, Exited: true, Status: syscall.WaitStatus(syscall.SIGKILL)}, nil)
	if err := <-failed; !errors.Is(err, errNoFiles) {
		t.Errorf("the facet's start: %v", err)
	}
	theirs.Close()
	f.wait()
}
