package confine

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Root is a child's file system: a small read-only tmpfs, with other trees hung
// in it. It is made of detached mounts, by descriptor: no path of it exists anywhere
// until the child attaches it in a mount namespace of its own, and what no child
// took vanishes with Close. It serves one child.
type Root struct {
	fd    int
	trees []tree
}

type tree struct {
	fd     int
	target string // relative to the root
}

// Bind is a file or directory that the child sees.
type Bind struct {
	FD       int    // of the source, where Path is empty
	Path     string // of the source
	Target   string // absolute, in the child's root
	Writable bool
	Optional bool // left out where the source does not exist
	Devices  bool // device nodes work

	// Scratch makes it no tree of the host's but an empty one of that many bytes, in memory, for user
	// Owner: what is written there is charged to the child and gone with it. Nothing in it can be executed.
	Scratch int64
	Owner   int
}

// Names of the mount interface that x/sys does not wrap.
const (
	fsconfigSetString = 1
	fsconfigCreate    = 6
)

// NewRoot prepares a root with the given trees in it.
func NewRoot(binds ...Bind) (_ *Root, err error) {
	r := &Root{fd: -1}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.fd, err = detachedTmpfs(); err != nil {
		return nil, err
	}
	for _, b := range binds {
		if err := r.add(b); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", b.Target, err)
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(r.fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return nil, fmt.Errorf("make the root read-only: %w", err)
	}
	return r, nil
}

// FD is the root directory's descriptor, for Landlock rules.
func (r *Root) FD() int { return r.fd }

// Tree is the descriptor of the tree at target, for Landlock rules; -1 where there is none.
func (r *Root) Tree(target string) int {
	for _, t := range r.trees {
		if "/"+t.target == target {
			return t.fd
		}
	}
	return -1
}

// Close lets go of the mounts; what a child has attached stays the child's.
func (r *Root) Close() {
	for _, t := range r.trees {
		unix.Close(t.fd)
	}
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
	r.fd, r.trees = -1, nil
}

// detachedTmpfs makes an empty file system that holds a few empty files at most, unless options say otherwise.
func detachedTmpfs(options ...[2]string) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open a tmpfs: %w", err)
	}
	defer unix.Close(fs)
	for _, o := range append([][2]string{{"size", "64k"}, {"nr_inodes", "64"}, {"mode", "0555"}}, options...) {
		if err := fsconfig(fs, fsconfigSetString, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("set tmpfs %s: %w", o[0], err)
		}
	}
	if err := fsconfig(fs, fsconfigCreate, "", ""); err != nil {
		return -1, fmt.Errorf("create a tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return fd, nil
}

func fsconfig(fd int, cmd uintptr, key, value string) error {
	var k, v *byte
	if key != "" {
		k, _ = unix.BytePtrFromString(key)
		v, _ = unix.BytePtrFromString(value)
	}
	_, _, errno := unix.Syscall6(unix.SYS_FSCONFIG, uintptr(fd), cmd,
		uintptr(unsafe.Pointer(k)), uintptr(unsafe.Pointer(v)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// add clones b's source as a detached mount and makes the place where the child hangs it.
func (r *Root) add(b Bind) error {
	if b.Scratch > 0 {
		return r.scratch(b)
	}
	from, name, flags := unix.AT_FDCWD, b.Path, uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if name == "" {
		from, flags = b.FD, flags|unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(from, name, flags)
	if b.Optional && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clone the mount: %w", err)
	}
	target := strings.TrimPrefix(path.Clean(b.Target), "/")
	r.trees = append(r.trees, tree{fd, target})
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	if !b.Devices {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if !b.Writable {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("set the mount's attributes: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return r.place(target, st.Mode&unix.S_IFMT == unix.S_IFDIR)
}

// place makes target, an empty directory or file, and the directories above it.
func (r *Root) place(target string, dir bool) error {
	for i, c := range target {
		if c == '/' {
			if err := unix.Mkdirat(r.fd, target[:i], 0o555); err != nil && err != syscall.EEXIST {
				return err
			}
		}
	}
	if dir {
		return unix.Mkdirat(r.fd, target, 0o555)
	}
	fd, err := unix.Openat(r.fd, target, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
