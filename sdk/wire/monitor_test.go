package wire

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A goroutine that computes after a message has come gives way to others, on one core too and after a long rest: the
// scheduler's monitor, which sees to that, sleeps when nothing runs.
func TestComputingGivesWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cmd := exec.Command("sh", "-c", "for i in 1 2 3; do sleep 0.5; echo; done; read end") // another process: system calls of this one would wake the monitor
	cmd.Stdout = theirs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	theirs.Close()
	c := Direct(conn)
	for range 3 {
		var b [1]byte
		if _, err := c.Read(b[:]); err != nil {
			t.Fatal(err)
		}
		var other atomic.Bool
		go other.Store(true)
		for begin := time.Now(); !other.Load(); {
			if time.Since(begin) > 20*time.Second {
				t.Fatal("nothing else runs while a goroutine computes")
			}
		}
	}
}
