package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDial(t *testing.T) {
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "none"), filepath.Join(empty, strings.Repeat("long/", 40))} {
		if _, err := Dial(dir); !errors.Is(err, ErrNoGateway) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	listen(t, empty).Close() // its socket is left behind
	if _, err := Dial(empty); !errors.Is(err, ErrNoGateway) {
		t.Errorf("a socket that nobody serves: %v", err)
	}
	deep := filepath.Join(t.TempDir(), strings.Repeat("a-long-name/", 20))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := dial(t, serve(t, deep).dir).Status(t.Context())
	if err != nil || s.Version != "v1" || s.PID != os.Getpid() || len(s.Listen) != 1 {
		t.Errorf("a path of %d bytes: %+v, %v", len(deep), s, err)
	}
}

// statusAs asks for the status as another user; the program does it that is run
// with that user's id.
const statusAs = "FGW_TEST_STATUS"

func TestMain(m *testing.M) {
	if os.Getenv(serveSQL) != "" {
		os.Exit(worker())
	}
	if dir := os.Getenv(statusAs); dir != "" {
		c, err := Dial(dir)
		if err == nil {
			_, err = c.Status(context.Background())
		}
		var e *Error
		if errors.As(err, &e) {
			fmt.Print(e.Status, " ", e.Code)
		} else {
			fmt.Print(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestStrangersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: another user's process is started")
	}
	dir, err := os.MkdirTemp("", "fgw-admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	serve(t, dir)
	// Everything is open to all: who may call is not a matter of modes.
	exe := filepath.Join(dir, "test")
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.WriteFile(exe, b, 0o755), os.Chmod(exe, 0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, SocketName), 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ask := func(uid uint32) string {
		cmd := exec.Command(exe)
		cmd.Env = []string{statusAs + "=" + dir}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := ask(0); got != "<nil>" {
		t.Errorf("root is told %s", got)
	}
	if got := ask(12345); got != "403 access_denied" {
		t.Errorf("a stranger is told %s", got)
	}
	if err := os.Chmod(filepath.Join(dir, SocketName), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := ask(12345); got != "403 access_denied" {
		t.Errorf("where the socket's mode forbids it, a stranger is told %s", got)
	}
}

// A gateway that hangs accepts, since the kernel does that for it, and never answers.
func TestDialOfAGatewayThatHangs(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := dialWithin(dir, 50*time.Millisecond); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("dial says %v", err)
	}
}
