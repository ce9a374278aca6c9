package sqlchan

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/sdk/internal/monitor"
)

// Socket is one end of a channel, for whoever speaks over it. It waits for packets with an epoll descriptor of its own, which asks for
// packets and nothing else. The runtime's poller asks for room to write as well; then each packet that the peer takes wakes
// the process that sent it, for nothing (measured: a third more wake-ups).
type Socket struct {
	fd   int
	file *os.File        // owns fd, and is not in the runtime's poller
	own  syscall.RawConn // file's
	poll *os.File        // the epoll descriptor, which is
	in   syscall.RawConn // poll's
}

// NewSocket takes over the file, which is a channel's end; after an error it stays the caller's.
func NewSocket(f *os.File) (*Socket, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := new(Socket)
	if cerr := raw.Control(func(fd uintptr) { err = s.open(fd) }); cerr != nil || err != nil {
		return nil, errors.Join(cerr, err)
	}
	f.Close()
	return s, nil
}

func (s *Socket) open(old uintptr) error {
	fd, err := dup(old)
	if err != nil {
		return err
	}
	// A file that blocks when it is made stays out of the runtime's poller.
	if err := syscall.SetNonblock(fd, false); err != nil {
		syscall.Close(fd)
		return fmt.Errorf("set the socket's mode: %w", err)
	}
	s.fd, s.file = fd, os.NewFile(uintptr(fd), "channel")
	if err = syscall.SetNonblock(fd, true); err == nil {
		err = s.register()
	}
	if err == nil {
		s.own, err = s.file.SyscallConn()
	}
	if err != nil {
		s.Close()
	}
	return err
}

func (s *Socket) register() error {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err = syscall.SetNonblock(ep, true); err == nil {
		err = syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, s.fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(s.fd)})
	}
	if err != nil {
		syscall.Close(ep)
		return fmt.Errorf("wait for packets: %w", err)
	}
	s.poll = os.NewFile(uintptr(ep), "channel's poll")
	if err := s.poll.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("wait for packets: %w", err)
	}
	s.in, err = s.poll.SyscallConn()
	return err
}

// Wait calls try until that returns true, and between its calls waits for a packet to arrive. try reads with Read; its argument is
// of no use to it.
func (s *Socket) Wait(try func(uintptr) bool) error { return s.in.Read(try) }

// Wake makes Wait return an error from now on.
func (s *Socket) Wake() { s.poll.SetDeadline(time.Unix(1, 0)) }

// Read reads one packet that has arrived into p; syscall.EAGAIN says that there is none. It may be called in Wait's function, or where nobody calls Close.
func (s *Socket) Read(p []byte) (n int, err error) {
	if n, err = transfer(syscall.SYS_READ, uintptr(s.fd), p); err == nil {
		monitor.Wake()
	}
	return n, err
}

// Write writes one packet; syscall.EAGAIN says that there is no room. It may be called where nobody calls Close.
func (s *Socket) Write(p []byte) error { return WritePacket(uintptr(s.fd), p) }

// Control calls f with the descriptor, which is not closed meanwhile.
func (s *Socket) Control(f func(fd uintptr)) error { return s.own.Control(f) }

// Room is a duplicate of the socket in the runtime's poller, to wait for room to write. It is to be closed soon: as long as it is open,
// what Socket spares is paid.
func (s *Socket) Room() (f *os.File, err error) {
	cerr := s.own.Control(func(old uintptr) {
		var fd int
		if fd, err = dup(old); err == nil {
			f = os.NewFile(uintptr(fd), "channel")
		}
	})
	return f, errors.Join(cerr, err)
}

// Close closes the socket. It waits until no call of Wait's function is under way.
func (s *Socket) Close() error {
	if s.poll != nil {
		s.poll.Close()
	}
	return s.file.Close()
}

// dup duplicates fd, closed on exec from the first instant.
func dup(fd uintptr) (int, error) {
	const minimum = 3
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, minimum)
	if errno != 0 {
		return -1, os.NewSyscallError("fcntl", errno)
	}
	return int(n), nil
}

// WritePacket writes one packet to a descriptor that does not block; syscall.EAGAIN says that there is no room.
func WritePacket(fd uintptr, p []byte) error {
	_, err := transfer(syscall.SYS_WRITE, fd, p)
	return err
}
