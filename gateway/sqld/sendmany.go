package sqld

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxMany is how many packets one call sends.
const maxMany = 8

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// sendMany sends several packets with one system call and returns how many it
// sent: 0 where there is no room, or the call is not to be had.
func sendMany(fd int, buf []byte, spans []span) int {
	var iov [maxMany]unix.Iovec
	var msgs [maxMany]mmsghdr
	n := min(len(spans), maxMany)
	for i, s := range spans[:n] {
		iov[i].Base = &buf[s.from]
		iov[i].SetLen(s.to - s.from)
		msgs[i].hdr.Iov = &iov[i]
		msgs[i].hdr.SetIovlen(1)
	}
	sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs)), uintptr(n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(sent)
}
