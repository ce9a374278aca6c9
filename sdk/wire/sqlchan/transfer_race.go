//go:build race

package sqlchan

import "syscall"

// transfer tells the race detector that what is read was written before, as a raw system call does not.
func transfer(call, fd uintptr, p []byte) (n int, err error) {
	for {
		if call == syscall.SYS_READ {
			n, err = syscall.Read(int(fd), p)
		} else {
			n, err = syscall.Write(int(fd), p)
		}
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
