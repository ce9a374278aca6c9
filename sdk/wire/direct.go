package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"github.com/facetgateway/fgw/sdk/internal/monitor"
)

// Direct returns c such that it reads and writes without telling the Go scheduler of the system calls. They never wait, since
// the socket does not block; but told of one, the scheduler wakes its monitor, a thread of its own, each time the process was
// idle before, and that costs more than the call. Where c is no socket of this process it is returned as it is.
// The monitor is needed all the same: see package monitor.
//
// Waiting, deadlines and closing are net's, as before.
func Direct(c net.Conn) net.Conn {
	s, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return c
	}
	d := &direct{Conn: c, raw: raw}
	d.in.step, d.out.step = d.in.read, d.out.write
	d.try = func(fd uintptr) bool { d.out.write(fd); return true }
	return d
}

type direct struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
	try     func(fd uintptr) bool
}

// SyscallConn gives the socket.
func (d *direct) SyscallConn() (syscall.RawConn, error) { return d.raw, nil }

// transfer is one direction's read or write under way. step is called by net until it reports true, and is kept so that
// no call makes a closure.
type transfer struct {
	mu    sync.Mutex // one at a time
	p     []byte
	n     int
	errno syscall.Errno
	step  func(fd uintptr) bool
}

// maxTransfer bounds one system call, during which the collector may have to wait for this thread.
const maxTransfer = 64 << 10

func (t *transfer) read(fd uintptr) bool {
	t.n, t.errno = rawCall(syscall.SYS_READ, fd, t.p)
	return t.errno != syscall.EAGAIN
}

func (t *transfer) write(fd uintptr) bool {
	for len(t.p) > 0 {
		n, errno := rawCall(syscall.SYS_WRITE, fd, t.p)
		if errno == syscall.EAGAIN {
			return false
		}
		if t.errno = errno; errno != 0 {
			return true
		}
		t.p, t.n = t.p[n:], t.n+n
	}
	return true
}

func rawCall(call, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), maxTransfer)))
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Read is net.Conn's.
func (d *direct) Read(p []byte) (int, error) {
	t := &d.in
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.errno = p, 0, 0
	err := d.raw.Read(t.step)
	t.p = nil
	monitor.Wake()
	switch {
	case err != nil:
		return 0, err
	case t.errno != 0:
		return 0, os.NewSyscallError("read", t.errno)
	case t.n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write is net.Conn's.
func (d *direct) Write(p []byte) (int, error) { return d.write(p, d.out.step) }

// TryWrite is TryWriter's.
func (d *direct) TryWrite(p []byte) (int, error) { return d.write(p, d.try) }

func (d *direct) write(p []byte, step func(fd uintptr) bool) (int, error) {
	t := &d.out
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.errno = p, 0, 0
	err := d.raw.Write(step)
	t.p = nil
	monitor.Wake() // it may have waited
	if err == nil && t.errno != 0 {
		err = os.NewSyscallError("write", t.errno)
	}
	return t.n, err
}

// CloseWrite ends what is sent, where the socket can.
func (d *direct) CloseWrite() error {
	if c, ok := d.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
