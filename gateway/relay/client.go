package relay

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookAfter is how long a facet may take nothing of a body until it is looked whether the client is still there. While there is
// something of a body left to read, net/http does not notice that a client leaves: the end lies behind it.
const lookAfter = time.Second

type clientKey struct{}

// WithClient notes the connection that requests of ctx come from.
func WithClient(ctx context.Context, c net.Conn) context.Context {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return context.WithValue(ctx, clientKey{}, raw)
		}
	}
	return ctx
}

// hasLeft reports whether the client of ctx has closed its connection, as far as the kernel knows: a client that could not send
// what it had before it left has not said that it does.
func hasLeft(ctx context.Context) bool {
	raw, ok := ctx.Value(clientKey{}).(syscall.RawConn)
	if !ok {
		return false
	}
	left := false
	err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		left = err == nil && info.State != unix.BPF_TCP_ESTABLISHED
	})
	return err == nil && left
}

// look ends an exchange whose body waits for the facet if its client has left.
func (u *upload) look() {
	select {
	case <-u.done: // it ended while this began: nothing would end the looks
		return
	default:
	}
	if u.writing.Load() && hasLeft(u.ctx) {
		u.cancel()
		return
	}
	u.looks.Reset(lookAfter)
}
