package confine

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights to files that Landlock knows, by the version of its interface that brought them.
const (
	fsV1   = 1<<13 - 1
	fsV2   = 1<<14 - 1 // moving files between directories
	fsV3   = 1<<15 - 1 // truncating
	fsV5   = 1<<16 - 1 // ioctl on devices
	netV4  = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	scopes = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL

	readFiles = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	execFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	onFiles   = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// LandlockABI is the version of Landlock's interface that this kernel has, 0 for none.
func LandlockABI() int {
	const version = 1
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// fsRights are all rights to files that version abi knows.
func fsRights(abi int) uint64 {
	switch {
	case abi >= 5:
		return fsV5
	case abi >= 3:
		return fsV3
	case abi == 2:
		return fsV2
	}
	return fsV1
}

// Allow is an exception of a ruleset: rights on everything below a directory, or on one file.
type Allow struct {
	FD    int
	Right Right
}

// Right names what an exception allows.
type Right int

// The rights.
const (
	Exec  Right = iota // start this file
	Read               // read files and directories
	Write              // everything but starting programs
)

func (r Right) bits() uint64 {
	switch r {
	case Exec:
		return execFile
	case Read:
		return readFiles
	}
	return fsV5 &^ unix.LANDLOCK_ACCESS_FS_EXECUTE
}

// NewRuleset makes a Landlock ruleset that denies every access to files, binding and connecting TCP
// sockets, signals to the outside and abstract sockets, as far as version abi
// knows them, but for what is allowed. connect leaves outgoing connections alone.
func NewRuleset(abi int, connect bool, allow ...Allow) (int, error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: fsRights(abi)}
	size := uintptr(8)
	if abi >= 4 {
		attr.Handled_access_net, size = netV4, 16
		if connect {
			attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
		}
	}
	if abi >= 6 {
		attr.Scoped, size = scopes, 24
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return -1, fmt.Errorf("create a Landlock ruleset: %w", errno)
	}
	for _, a := range allow {
		if err := allowBeneath(int(fd), a, fsRights(abi)); err != nil {
			unix.Close(int(fd))
			return -1, err
		}
	}
	return int(fd), nil
}

func allowBeneath(ruleset int, a Allow, known uint64) error {
	rights := a.Right.bits() & known
	var st unix.Stat_t
	if err := unix.Fstat(a.FD, &st); err != nil {
		return fmt.Errorf("look at a Landlock exception: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= onFiles
	}
	// The kernel's structure is packed: 8 bytes of rights, then 4 of descriptor.
	var rule [12]byte
	nativeEndian.PutUint64(rule[:], rights)
	nativeEndian.PutUint32(rule[8:], uint32(a.FD))
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("allow in a Landlock ruleset: %w", errno)
	}
	return nil
}
