package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// pair makes two connected sockets, the second of them for another process.
func pair(kind int) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	mine, other := os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")
	defer mine.Close()
	c, err := net.FileConn(mine)
	if err != nil {
		other.Close()
		return nil, nil, err
	}
	return c, other, nil
}

// echo is a process that sends back what it is sent.
type echo struct {
	c   net.Conn
	cmd *exec.Cmd
}

func (b *bench) startEcho(kind int) (*echo, error) {
	c, other, err := pair(kind)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	cmd := exec.Command(b.self, "echo")
	cmd.ExtraFiles = []*os.File{other}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = diesWithUs()
	if err := cmd.Start(); err != nil {
		c.Close()
		return nil, err
	}
	e := &echo{c, cmd}
	b.atEnd(func() { c.Close(); cmd.Wait() })
	return e, nil
}

// echoSize is about what a read by primary key sends, and less than what it answers.
const echoSize = 64

// roundTrips gives the microseconds of one round trip, of n one after another.
func (e *echo) roundTrips(n int) (float64, error) {
	var b [echoSize]byte
	began := time.Now()
	for range n {
		if _, err := e.c.Write(b[:]); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(e.c, b[:]); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began).Nanoseconds()) / 1000 / float64(n), nil
}

// echoMain is the other side.
func echoMain([]string) error {
	f := os.NewFile(3, "socket")
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	f.Close()
	var b [4 << 10]byte
	for {
		n, err := c.Read(b[:])
		if err != nil || n == 0 {
			return nil
		}
		if _, err := c.Write(b[:n]); err != nil {
			return nil
		}
	}
}

// forkExec starts the app's executable, unconfined, and gives the milliseconds to its first answer over a socketpair.
func (b *bench) forkExec() (float64, error) {
	c, other, err := pair(unix.SOCK_STREAM)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	cmd := exec.Command(b.app)
	cmd.Env = []string{"BENCH_FLOOR=answer", "GOMAXPROCS=1"} // as a facet has it
	cmd.ExtraFiles = []*os.File{other}
	cmd.SysProcAttr = diesWithUs()
	began := time.Now()
	if err := cmd.Start(); err != nil {
		other.Close()
		return 0, err
	}
	defer cmd.Wait()
	other.Close()
	one := []byte{1}
	if _, err := c.Write(one); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(c, one); err != nil {
		return 0, fmt.Errorf("the app's executable does not answer: %w", err)
	}
	return float64(time.Since(began).Nanoseconds()) / 1e6, nil
}
