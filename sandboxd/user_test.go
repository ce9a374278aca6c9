package sandboxd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// anyone is a user id that nobody has.
const anyone = 54321

// ordinary gives an ordinary user and a directory of theirs: the one that runs the test or, for root,
// one that root becomes.
func ordinary(t *testing.T) (*syscall.Credential, string) {
	t.Helper()
	if dynamic(own(t)) {
		t.Skip("needs a static test binary, which is confined itself: CGO_ENABLED=0 go test")
	}
	dir, err := os.MkdirTemp("", "fgw-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() != 0 {
		return nil, dir
	}
	if err := os.Chown(dir, anyone, anyone); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: anyone, Gid: anyone}, dir
}

func own(t *testing.T) *os.File {
	t.Helper()
	exe, err := ownProgram()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exe.Close() })
	return exe
}

// delegated reports whether an ordinary user can have cgroups here: only where the test itself is one.
func delegated() bool {
	return os.Geteuid() != 0 && cgroup.Probe(cgroup.Detect()) == nil
}

func TestOrdinaryUser(t *testing.T) {
	user, dir := ordinary(t)
	var waived []string
	if !delegated() {
		waived = []string{"memory", "pids"}
	}
	s := serveAs(t, user, t.Output(), dir, append([]string{"{}"}, waived...)...)
	s.busy(t)
	named, all := s.family(t)
	if named[UserName] == 0 || named["facet"] == 0 || named["fgw-sqld"] == 0 {
		t.Errorf("the family is %v", named)
	}
	var c protocol.Confinement
	s.must(t, &c, "confinement")
	if want := []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"}; !slices.Equal(c.Namespaces, want) {
		t.Errorf("namespaces are %v, want %v", c.Namespaces, want)
	}
	uid := os.Getuid()
	if user != nil {
		uid = int(user.Uid)
	}
	if c.UID != uid || c.Seccomp != "filter" || !c.NoNewPrivs || c.Capabilities != "0" {
		t.Errorf("confinement is %+v", c)
	}
	if delegated() && !strings.Contains(c.Cgroups["memory"], "/facets/") {
		t.Errorf("cgroups are %v", c.Cgroups)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if state := s.end(t); !state.Success() {
		t.Errorf("serve ended: %v", state)
	}
	gone(t, all)
}

func TestOrdinaryUserKilled(t *testing.T) {
	user, dir := ordinary(t)
	var waived []string
	if !delegated() {
		waived = []string{"memory", "pids"}
	}
	for _, victim := range []string{"sandboxd", UserName, "fgw-launcher", "fgw-gateway"} {
		s := serveAs(t, user, t.Output(), dir, append([]string{"{}"}, waived...)...)
		s.busy(t)
		named, all := s.family(t)
		syscall.Kill(named[victim], syscall.SIGKILL)
		if state := s.end(t); state.Success() {
			t.Errorf("%s killed: serve ended: %v", victim, state)
		}
		gone(t, all)
	}
}

func TestOrdinaryUserIsRefused(t *testing.T) {
	user, dir := ordinary(t)
	if delegated() {
		t.Skip("this user has all that is required")
	}
	out, err := (&exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"fgw-serve", dir, "127.0.0.1:0"}, SysProcAttr: &syscall.SysProcAttr{Credential: user, Pdeathsig: syscall.SIGKILL},
	}).CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(string(out), ErrLayerMissing.Error()) {
		t.Errorf("without cgroups: %v, %s", err, out)
	}
}

func TestUserErrors(t *testing.T) {
	for _, err := range []error{ErrInUse, ErrPortInUse, ErrDynamic} {
		e := toUserError(fmt.Errorf("context: %w", err))
		if !errors.Is(e, err) || e.Error() != "context: "+err.Error() {
			t.Errorf("%v arrives as %v", err, e)
		}
	}
	exit := protocol.Exit{Code: 6}
	e := toUserError(&EndedError{ErrGatewayDied, exit})
	var ended *EndedError
	if !errors.As(e, &ended) || ended.Exit != exit || !errors.Is(e, ErrGatewayDied) {
		t.Errorf("the gateway's end arrives as %v", e)
	}
	if e := toUserError(errors.New("other")); errors.Is(e, ErrInUse) || e.Error() != "other" {
		t.Errorf("another error arrives as %v", e)
	}
}
