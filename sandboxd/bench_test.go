package sandboxd

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkSpawn measures from the request to the facet's first answer, and the kill.
func BenchmarkSpawn(b *testing.B) {
	s := newSandbox(b)
	b.ResetTimer()
	for range b.N {
		f := s.spawn(b, small)
		f.do(b, "hello")
		b.StopTimer()
		f.Kill()
		f.end(b)
		b.StartTimer()
	}
}

// BenchmarkForkExec is the floor: the same program, the same question, unconfined.
func BenchmarkForkExec(b *testing.B) {
	needRoot(b)
	for range b.N {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		theirs, ours := os.NewFile(uintptr(fds[1]), ""), os.NewFile(uintptr(fds[0]), "")
		cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"facet"}, ExtraFiles: []*os.File{theirs}}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		theirs.Close()
		c, err := net.FileConn(ours)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprintln(c, "hello")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cmd.Process.Kill()
		cmd.Wait()
		c.Close()
		ours.Close()
		b.StartTimer()
	}
}
