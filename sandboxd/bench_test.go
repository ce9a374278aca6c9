package sandboxd

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// BenchmarkSpawn measures from the request to the facet's first answer; the kill is not in it. Each finds a group that
// is ready, as it does at all times but in a burst.
func BenchmarkSpawn(b *testing.B) {
	for _, test := range []struct {
		name  string
		at    func(up *facet) protocol.Place
		ready func(s *slots, up *tree) *pool
	}{
		{"alone", func(*facet) protocol.Place { return protocol.Place{} }, func(s *slots, _ *tree) *pool { return s.alone }},
		{"child", func(up *facet) protocol.Place { return protocol.Place{Under: up.Process} }, func(_ *slots, up *tree) *pool { return up.pool }},
		{"supervisor", func(*facet) protocol.Place { return protocol.Place{Supervisor: true} }, nil},
		{"child that supervises", func(up *facet) protocol.Place { return protocol.Place{Under: up.Process, Supervisor: true} }, nil},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := newSandbox(b)
			up := s.supervisor(b, protocol.Limits{MemoryBytes: 512 << 20, Processes: 128, CPUMilli: 2000})
			s.desk.mu.Lock()
			in := s.desk.processes[1].tree
			s.desk.mu.Unlock()
			ready := func() bool {
				s.slots.trees.mu.Lock()
				defer s.slots.trees.mu.Unlock()
				return len(s.slots.trees.ready) == treesReady
			}
			if test.ready != nil {
				p := test.ready(s.slots, in)
				ready = func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.ready) == p.want && !p.filling }
			}
			for range b.N {
				b.StopTimer()
				eventually(b, "groups are ready", ready)
				b.StartTimer()
				f, err := s.try(b, s.exe, small, test.at(up))
				if err != nil {
					b.Fatal(err)
				}
				f.do(b, "hello")
				b.StopTimer()
				f.Kill()
				f.end(b)
				b.StartTimer()
			}
		})
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
