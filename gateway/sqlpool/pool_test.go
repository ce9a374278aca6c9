package sqlpool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

const workerEnv = "FGW_TEST_SQLD"

// TestMain is also the worker process: the pool's tests start this program again.
func TestMain(m *testing.M) {
	if os.Getenv(echoEnv) != "" {
		echo()
		os.Exit(0)
	}
	if os.Getenv(workerEnv) != "" {
		sqld.Main()
	}
	os.Exit(m.Run())
}

// process is a worker as these tests start it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) PID() int              { return p.cmd.Process.Pid }
func (p *process) Kill() error           { return p.cmd.Process.Kill() }
func (p *process) Done() <-chan struct{} { return p.done }

// spawner starts workers in dir; spawned counts them, and the last one is kept.
type spawner struct {
	dir     string
	spawned atomic.Int64
	last    atomic.Pointer[process]
}

func (s *spawner) spawn(_ context.Context, _ int, control, shared *os.File) (Worker, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.Dir = s.dir
	cmd.ExtraFiles = []*os.File{control, shared}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan struct{})}
	s.spawned.Add(1)
	s.last.Store(p)
	go func() { cmd.Wait(); close(p.done) }()
	return p, nil
}

// pool starts a pool with one worker.
func pool(t testing.TB, change func(*Config)) (*Pool, *spawner) {
	t.Helper()
	s := &spawner{dir: t.TempDir()}
	cfg := Config{Spawn: s.spawn, Workers: 1}
	if change != nil {
		change(&cfg)
	}
	p, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, s
}

// client is a plain client of a channel.
type client struct {
	t       testing.TB
	c       *Channel
	fd      int
	request uint32
	epoch   uint32
	buf     []byte
}

func attach(t testing.TB, p *Pool, o AttachOptions) *client {
	t.Helper()
	if o.Object == "" {
		o.Object = "object"
	}
	if o.File == "" {
		o.File = o.Object + "/1.db"
	}
	c, err := p.Attach(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f := c.FacetEnd()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	unix.SetNonblock(fd, false)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
	cl := &client{t: t, c: c, fd: fd, buf: make([]byte, sqlchan.MaxPacket)}
	t.Cleanup(func() {
		cl.hangUp()
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return cl
}

func (c *client) hangUp() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// start sends a request.
func (c *client) start(typ sqlchan.Type, session uint16, payload []byte) (uint32, error) {
	c.request++
	h := sqlchan.Header{Type: typ, Session: session, Request: c.request, Epoch: c.epoch}
	err := sqlchan.Split(h, payload, nil, func(p []byte) error {
		return restart(func() (err error) { _, err = unix.Write(c.fd, p); return err })
	})
	return c.request, err
}

// reset is the error of a request that a RESET answered.
type reset struct{ reason string }

func (r reset) Error() string { return "reset: " + r.reason }

// answer is a request's answer: the values of its rows, one after another.
type answer struct {
	values []any
	result sqlchan.Result
}

// wait waits for the answer to a request.
func (c *client) wait(session uint16, request uint32) (a answer, err error) {
	var more []byte
	for {
		var n int
		err := restart(func() (err error) { n, err = unix.Read(c.fd, c.buf); return err })
		if err != nil {
			return a, err
		}
		if n == 0 {
			return a, fmt.Errorf("the channel has ended")
		}
		h, payload, err := sqlchan.ParseHeader(c.buf[:n])
		if err != nil {
			return a, err
		}
		if h.Flags&sqlchan.More != 0 {
			more = append(more, payload...)
			continue
		}
		if more != nil {
			payload, more = append(more, payload...), nil
		}
		r := sqlchan.NewReader(payload)
		if h.Type == sqlchan.Reset {
			c.epoch = uint32(r.Uvarint())
			return a, reset{r.Text()}
		}
		if h.Request != request {
			continue
		}
		switch h.Type {
		case sqlchan.Rows:
			for r.Uvarint(); r.Len() > 0; {
				a.values = append(a.values, r.Value())
			}
			h := sqlchan.Header{Type: sqlchan.Credit, Session: session, Request: request, Epoch: c.epoch}
			if _, err := unix.Write(c.fd, append(h.Append(nil), 1)); err != nil {
				return a, err
			}
		case sqlchan.WholeResult:
			a.result, _ = r.WholeResult()
			for r.Uvarint(); r.Len() > 0; {
				a.values = append(a.values, r.Value())
			}
			return a, r.End()
		case sqlchan.Done:
			a.result = r.Result()
			return a, r.End()
		case sqlchan.Error:
			return a, r.Failure()
		}
	}
}

func (c *client) do(typ sqlchan.Type, session uint16, sql string, args ...any) (answer, error) {
	b := []byte{0}
	if typ == sqlchan.Query {
		b = append(b, 8)
	}
	b = binary.AppendUvarint(sqlchan.AppendText(b, sql), uint64(len(args)))
	for _, a := range args {
		if n, ok := a.(int); ok {
			a = int64(n)
		}
		var err error
		if b, err = sqlchan.AppendValue(sqlchan.AppendText(b, ""), a); err != nil {
			return answer{}, err
		}
	}
	req, err := c.start(typ, session, b)
	if err != nil {
		return answer{}, err
	}
	return c.wait(session, req)
}

func (c *client) exec(session uint16, sql string, args ...any) sqlchan.Result {
	c.t.Helper()
	a, err := c.do(sqlchan.Exec, session, sql, args...)
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return a.result
}

func (c *client) query(session uint16, sql string, args ...any) []any {
	c.t.Helper()
	a, err := c.do(sqlchan.Query, session, sql, args...)
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return a.values
}

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAttach(t *testing.T) {
	p, s := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (a)")
	before := c.c.Committed()
	c.exec(1, "INSERT INTO t VALUES (?)", 7)
	if n := c.c.Committed(); n != before+1 {
		t.Errorf("committed %d, was %d", n, before)
	}
	if v := c.query(1, "SELECT a FROM t"); len(v) != 1 || v[0] != int64(7) {
		t.Errorf("read %v", v)
	}
	u := c.c.Usage()
	if u.Statements != 3 || u.RowsWritten != 1 || u.StorageBytes == 0 || u.CPU == 0 {
		t.Errorf("usage %+v", u)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "object/1.db-wal")); err != nil {
		t.Errorf("no log: %v", err)
	}
}

// restart repeats a call that a signal of the Go runtime's interrupted.
func restart(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// TestPairIsNotPolled has the gateway not woken for what passes between a facet and its worker.
func TestPairIsNotPolled(t *testing.T) {
	p, err := NewPair()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, f := range []*os.File{p.facetEnd, p.workerEnd} {
		if err := f.SetDeadline(time.Time{}); !errors.Is(err, os.ErrNoDeadline) {
			t.Errorf("the poller has the file: %v", err)
		}
	}
}
