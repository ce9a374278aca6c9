package sqlpool

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

const echoEnv = "FGW_TEST_ECHO"

// echo answers each packet with itself, as plainly as Go does it.
func echo() {
	c, err := net.FileConn(os.NewFile(3, "echo"))
	if err != nil {
		panic(err)
	}
	buf := make([]byte, sqlchan.MaxPacket)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// clientConn is the client's end as a Go program has it.
func clientConn(b *testing.B, f *os.File) net.Conn {
	b.Helper()
	c, err := net.FileConn(f)
	if err != nil {
		b.Fatal(err)
	}
	f.Close()
	b.Cleanup(func() { c.Close() })
	return c
}

// reportCPU reports the CPU time per operation of this process and another, which
// says more than the clock does on a machine that is busy.
func reportCPU(b *testing.B, pid int) (done func()) {
	b.Helper()
	used := func() time.Duration {
		var self unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
			b.Fatal(err)
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		var user, system int64
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		fmt.Sscan(fields[11], &user)
		fmt.Sscan(fields[12], &system)
		const tick = 10 * time.Millisecond
		return time.Duration(self.Utime.Nano()+self.Stime.Nano()) + time.Duration(user+system)*tick
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N)/1000, "cpu-µs/op") }
}

// BenchmarkEcho is the floor: one packet to another process and back.
func BenchmarkEcho(b *testing.B) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "echo")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), echoEnv+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	theirs.Close()
	c := clientConn(b, os.NewFile(uintptr(fds[0]), "echo"))
	b.Cleanup(func() { c.Close(); cmd.Wait() })
	buf := make([]byte, 64)
	defer reportCPU(b, cmd.Process.Pid)()
	for b.Loop() {
		if _, err := c.Write(buf[:44]); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// benchTable is a channel to a database with a table of rows.
func benchTable(b *testing.B) (net.Conn, *process) {
	p, s := pool(b, nil)
	cl := attach(b, p, AttachOptions{})
	cl.exec(1, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)")
	cl.exec(1, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 10000) INSERT INTO t SELECT i, 'name ' || i, 0 FROM c")
	if _, err := cl.start(sqlchan.Close, 1, nil); err != nil {
		b.Fatal(err)
	}
	if _, err := cl.wait(1, cl.request); err != nil {
		b.Fatal(err)
	}
	fd, err := unix.Dup(cl.fd)
	if err != nil {
		b.Fatal(err)
	}
	return clientConn(b, os.NewFile(uintptr(fd), "channel")), s.last.Load()
}

func readRequest(session uint16, request uint32, id int64) []byte {
	p := sqlchan.Header{Type: sqlchan.Query, Session: session, Request: request}.Append(nil)
	p = append(p, 0, 8)
	p = sqlchan.AppendText(p, "SELECT name, n FROM t WHERE id = ?")
	p, _ = sqlchan.AppendArgs(p, []sqlchan.Arg{{Value: id}})
	return p
}

// BenchmarkRead is one caller's read by primary key.
func BenchmarkRead(b *testing.B) {
	c, worker := benchTable(b)
	buf := make([]byte, sqlchan.MaxPacket)
	i := int64(0)
	defer reportCPU(b, worker.PID())()
	for b.Loop() {
		i++
		if _, err := c.Write(readRequest(1, uint32(i), i%10000+1)); err != nil {
			b.Fatal(err)
		}
		for {
			n, err := c.Read(buf)
			if err != nil || n == 0 {
				b.Fatal(n, err)
			}
			if t := sqlchan.Type(buf[0]); t == sqlchan.WholeResult {
				break
			} else if t == sqlchan.Error {
				b.Fatalf("%q", buf[:n])
			}
		}
	}
}

// BenchmarkReadPipelined is 64 callers' reads at once, on 16 sessions: the time of one.
func BenchmarkReadPipelined(b *testing.B) {
	c, worker := benchTable(b)
	const callers = 64
	tokens := make(chan struct{}, callers)
	for range callers {
		tokens <- struct{}{}
	}
	failed := make(chan error, 1)
	go func() {
		buf := make([]byte, sqlchan.MaxPacket)
		for {
			n, err := c.Read(buf)
			if err != nil || n == 0 {
				failed <- err
				return
			}
			if sqlchan.Type(buf[0]) == sqlchan.WholeResult {
				tokens <- struct{}{}
			}
		}
	}()
	i := int64(0)
	defer reportCPU(b, worker.PID())()
	for b.Loop() {
		i++
		select {
		case <-tokens:
		case err := <-failed:
			b.Fatal(err)
		}
		if _, err := c.Write(readRequest(uint16(i%16+1), uint32(i), i%10000+1)); err != nil {
			b.Fatal(err)
		}
	}
	for range callers {
		<-tokens
	}
}

// BenchmarkWrite is one caller's update, committed but not synced.
func BenchmarkWrite(b *testing.B) {
	c, worker := benchTable(b)
	buf := make([]byte, sqlchan.MaxPacket)
	i := int64(0)
	defer reportCPU(b, worker.PID())()
	for b.Loop() {
		i++
		p := sqlchan.Header{Type: sqlchan.Exec, Session: 1, Request: uint32(i)}.Append(nil)
		p = sqlchan.AppendText(append(p, 0), "UPDATE t SET n = n + 1 WHERE id = ?")
		p, _ = sqlchan.AppendArgs(p, []sqlchan.Arg{{Value: i%10000 + 1}})
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil || n == 0 || sqlchan.Type(buf[0]) != sqlchan.Done {
			b.Fatalf("%q %v", buf[:n], err)
		}
	}
}
