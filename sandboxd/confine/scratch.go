package confine

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// bytesPerScratchFile bounds how many files a scratch tree holds: their inodes are kernel memory, which a
// million empty files would take without one byte of content.
const bytesPerScratchFile = 8 << 10

// scratch makes b's empty tree and the place where the child hangs it.
func (r *Root) scratch(b Bind) error {
	owner := strconv.Itoa(b.Owner)
	fd, err := detachedTmpfs(
		[2]string{"size", strconv.FormatInt(b.Scratch, 10)},
		[2]string{"nr_inodes", strconv.FormatInt(b.Scratch/bytesPerScratchFile, 10)},
		[2]string{"mode", "0700"}, [2]string{"uid", owner}, [2]string{"gid", owner})
	if err != nil {
		return err
	}
	target := strings.TrimPrefix(path.Clean(b.Target), "/")
	r.trees = append(r.trees, tree{fd, target})
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("set the mount's attributes: %w", err)
	}
	return r.place(target, true)
}
