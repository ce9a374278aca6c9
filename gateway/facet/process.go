package facet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire"
)

// kind is all that a process is born with: what the kernel bounds it by, and where, belongs to it, what it is told
// later does not. So processes of one kind differ in nothing until they are greeted.
type kind struct {
	bundle   string // SHA-256 of the executable
	limits   protocol.Limits
	seat     protocol.Place // whose limits bound it together with others
	database bool
}

// kind is what the process of the instance has to be.
func (in *instance) kind() kind {
	l := &in.spec.Limits
	k := kind{bundle: in.spec.Bundle, limits: protocol.Limits{MemoryBytes: l.Memory, Processes: int64(l.Processes), CPUMilli: l.CPUMilli},
		seat: protocol.Place{Supervisor: in.spec.Start.Children}, database: in.spec.Start.Database}
	if in.starter != nil {
		k.seat.Under = in.starter.parent.proc.Process
	}
	return k
}

// process is a confined process and our ends of its wires.
type process struct {
	*protocol.Process // nil until start has returned
	kind              kind
	socket            *socket       // the wire
	pair              *sqlpool.Pair // of its database channel, until that is attached; nil without a database
	printed           *os.File      // the pipe that holds what it prints

	theirs []*os.File // its ends: wire, output, and SQL channel where it has one; until it is started
}

// newProcess makes the wires of a process.
func newProcess(k kind) (p *process, err error) {
	p = &process{kind: k}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	p.theirs = append(p.theirs, theirs)
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, err
	}
	p.socket = &socket{Conn: wire.Direct(conn)}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.printed, p.theirs = read, append(p.theirs, write)
	if k.database {
		if p.pair, err = sqlpool.NewPair(); err != nil {
			return nil, err
		}
		p.theirs = append(p.theirs, p.pair.FacetEnd())
	}
	return p, nil
}

// start starts the process and lets go of its ends of the wires.
func (p *process) start(ctx context.Context, sandbox *protocol.Client, bundles *bundle.Store) (err error) {
	defer func() {
		for _, f := range p.theirs {
			f.Close()
		}
		p.theirs = nil
	}()
	exe, err := bundles.Open(p.kind.bundle)
	if err != nil {
		return fmt.Errorf("open the bundle: %w", err)
	}
	defer exe.Close()
	files := protocol.FacetFiles{Exe: exe, Wire: p.theirs[0], Output: p.theirs[1]}
	if p.kind.database {
		files.SQL = p.theirs[2]
	}
	if p.Process, err = sandbox.SpawnFacet(ctx, p.kind.limits, p.kind.seat, files); err != nil {
		return fmt.Errorf("start the process: %w", err)
	}
	return nil
}

// discard ends a process that became no facet, and returns when nothing is left of it.
func (p *process) discard() {
	if p.Process != nil {
		p.Kill()
		<-p.Done()
	}
	p.close()
}

// close closes the wires.
func (p *process) close() {
	for _, f := range append(p.theirs, p.printed) {
		if f != nil {
			f.Close()
		}
	}
	if p.socket != nil {
		p.socket.Close()
	}
	if p.pair != nil {
		p.pair.Close()
	}
}

// hasPrinted reports whether something waits in the output pipe.
func (p *process) hasPrinted() bool {
	waiting := 0
	raw, err := p.printed.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return waiting > 0
}

// saidSoFar reads the beginning of what waits in the output pipe.
func (p *process) saidSoFar() string {
	if !p.hasPrinted() {
		return ""
	}
	b := make([]byte, 4<<10)
	n, _ := p.printed.Read(b)
	return strings.ToValidUTF8(string(b[:n]), "\uFFFD")
}

func socketpair() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "wire"), os.NewFile(uintptr(fds[1]), "facet's wire"), nil
}

// socket is our end of the wire. What it writes first is the start message, together with the first of yamux; what it
// reads first is the answer to that, which it does not pass on. So the streams that an instance begins with are opened
// in the same breath in which it is told who it is.
//
// It also knows whether it failed by itself, as it does when the other end is closed, and not because we closed it:
// yamux tells of its own verdicts in no other way than by closing it.
//
// Read is called by one goroutine, and so are the writes, one after another.
type socket struct {
	net.Conn
	hello  []byte // the start message, until it is written
	spoke  atomic.Bool
	mute   atomic.Pointer[error] // why it has not spoken
	failed atomic.Bool
}

// answerBefore bounds the wait for the answer.
func (s *socket) answerBefore(t time.Time) { s.Conn.SetReadDeadline(t) }

func (s *socket) Read(p []byte) (int, error) {
	if !s.spoke.Load() {
		if _, err := wire.ReadAnswer(untilReset{s.Conn}); err != nil {
			s.mute.CompareAndSwap(nil, &err)
			s.note(err)
			return 0, err
		}
		s.spoke.Store(true)
		s.Conn.SetReadDeadline(time.Time{})
	}
	n, err := s.Conn.Read(p)
	s.note(err)
	return n, err
}

func (s *socket) Write(p []byte) (int, error) {
	if s.hello != nil {
		first := append(s.hello, p...)
		s.hello = nil
		n, err := s.Conn.Write(first)
		return s.sent(max(0, n-(len(first)-len(p))), len(p), err)
	}
	n, err := s.Conn.Write(p)
	return s.sent(n, len(p), err)
}

// TryWrite is wire.TryWriter's. What it could not write of the start message is written first by the next.
func (s *socket) TryWrite(p []byte) (int, error) {
	c, ok := s.Conn.(wire.TryWriter)
	if !ok {
		return 0, nil
	}
	if s.hello == nil {
		n, err := c.TryWrite(p)
		return s.sent(n, len(p), err)
	}
	n, err := c.TryWrite(append(s.hello, p...))
	if n < len(s.hello) {
		s.hello, n = s.hello[n:], 0
	} else {
		s.hello, n = nil, n-len(s.hello)
	}
	return s.sent(n, len(p), err)
}

// sent is the outcome of a write. One to a process that has gone before it spoke counts as done: what it left to be
// read says more of why.
func (s *socket) sent(n, all int, err error) (int, error) {
	if !s.spoke.Load() && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
		return all, nil
	}
	s.note(err)
	return n, err
}

// untilReset is a connection whose reset is its end: so the kernel tells of a peer that closed it with
// something unread.
type untilReset struct{ io.Reader }

func (r untilReset) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, syscall.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}

func (s *socket) note(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		s.failed.Store(true)
	}
}

// silence is why the process has not answered the start message; nil where it has, or may still.
func (s *socket) silence() error {
	if e := s.mute.Load(); e != nil {
		return *e
	}
	return nil
}
