package sandboxd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"golang.org/x/sys/unix"
)

// lockPatience is how long a new gateway waits for the SQL workers of one that has just been
// killed: they hold the lock until they are reaped.
const lockPatience = 5 * time.Second

// dataDir is the data directory, held by descriptor: what lies at its path may change
// under us, and the path may be longer than the kernel takes for a socket.
type dataDir struct {
	path string
	dir  *os.File
	lock *os.File
	id   string // names this directory among all on this machine
	hash uint64
}

// openDataDir opens the directory, making it where it is missing, and locks it.
func openDataDir(ctx context.Context, path string, log *slog.Logger) (_ *dataDir, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	d := &dataDir{path: path}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the data directory %s: %w", path, err)
	}
	d.dir = os.NewFile(uintptr(fd), path)
	if err := d.own(); err != nil {
		return nil, err
	}
	if d.lock, err = d.create("lock", 0o600); err != nil {
		return nil, err
	}
	if err := takeLock(ctx, d.lock, func() {
		log.Info("waiting for the gateway that has the data directory", "dir", path, "at_most", lockPatience)
	}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, d.identify()
}

// early are the names that a start makes before the registry, or that a file system brings: a start may have been cut short.
var early = []string{"lock", "objects", adminSocket, "lost+found"}

// own refuses a directory that is not fgw's: all in it changes hands soon, which would ruin a system's directory or
// somebody's home. Then it takes from others the right to write in it, before anything is looked up there.
func (d *dataDir) own() error {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), "registry.db", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		list, err := os.ReadDir(d.path)
		if err != nil {
			return fmt.Errorf("read the data directory: %w", err)
		}
		for _, e := range list {
			if !slices.Contains(early, e.Name()) {
				return fmt.Errorf("%s: %w: it holds %s and no registry.db; everything in it would be given to the gateway's user: name a directory that is empty, missing or fgw's", d.path, ErrForeign, strconv.Quote(e.Name()))
			}
		}
	}
	const others = 0o022
	if err := unix.Fstat(d.fd(), &st); err != nil {
		return err
	}
	if st.Mode&others == 0 {
		return nil
	}
	if err := unix.Fchmod(d.fd(), st.Mode&0o7777&^others); err != nil {
		return fmt.Errorf("others may write in %s, and that can't be changed: %w: use a directory of your own", d.path, err)
	}
	return nil
}

// create opens a file of the directory for writing. Its owner, the gateway, could have put a link there.
func (d *dataDir) create(name string, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(d.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, mode)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(d.path, name), err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d *dataDir) fd() int { return int(d.dir.Fd()) }

// takeLock tells once where it has to wait longer than what has just been killed takes to be gone.
func takeLock(ctx context.Context, f *os.File, wait func()) error {
	const quickly = 300 * time.Millisecond
	began := time.Now()
	for tell := sync.OnceFunc(wait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Since(began) > quickly {
			tell()
		}
		if time.Since(began) > lockPatience {
			return ErrInUse
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond): // flock can't wait for two things at once
		}
	}
}

// identify derives a name from what the directory is, not where: its file system, inode and birth.
func (d *dataDir) identify() error {
	var st unix.Statx_t
	if err := unix.Statx(d.fd(), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return fmt.Errorf("identify the data directory: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%d %d %d.%d", st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec))
	d.id = hex.EncodeToString(sum[:6])
	for _, b := range sum[:8] {
		d.hash = d.hash<<8 | uint64(b)
	}
	return nil
}

// tree names the directory's cgroups.
func (d *dataDir) tree() string { return cgroup.Prefix + d.id }

// objects opens the directory that is all SQL workers see, making it where it is missing.
func (d *dataDir) objects(uid int) (*os.File, error) {
	err := unix.Mkdirat(d.fd(), "objects", 0o700)
	if err == nil {
		err = unix.Fchownat(d.fd(), "objects", uid, uid, unix.AT_SYMLINK_NOFOLLOW)
	} else if errors.Is(err, unix.EEXIST) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", filepath.Join(d.path, "objects"), err)
	}
	fd, err := unix.Openat(d.fd(), "objects", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(d.path, "objects"), err)
	}
	return os.NewFile(uintptr(fd), "objects"), nil
}

// give makes uid the owner of the directory and what is in it, unless it is already. Only what
// belonged to root or to the directory's last owner changes hands: not what
// that owner may have linked here from elsewhere.
func (d *dataDir) give(uid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd(), &st); err != nil {
		return err
	}
	if int(st.Uid) == uid {
		return nil
	}
	if err := giveBelow(d.fd(), int(st.Uid), uid); err != nil {
		return fmt.Errorf("hand the data directory to the gateway's user: %w", err)
	}
	if err := unix.Fchown(d.fd(), uid, uid); err != nil {
		return fmt.Errorf("hand the data directory to the gateway's user: %w", err)
	}
	return nil
}

func giveBelow(dir, from, to int) error {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if int(st.Uid) != from && st.Uid != 0 || !isDir && st.Nlink > 1 {
			continue
		}
		if isDir {
			sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = giveBelow(sub, from, to)
			unix.Close(sub)
			if err != nil {
				return err
			}
		}
		if err := unix.Fchownat(fd, name, to, to, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

const adminSocket = "admin.sock"

// listenAdmin binds the admin socket. The path goes through the descriptor: a data directory may lie deeper
// than the 107 bytes that a socket's path may have.
func (d *dataDir) listenAdmin(uid int) (*os.File, error) {
	if err := unix.Unlinkat(d.fd(), adminSocket, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove the old admin socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.fd(), adminSocket)})
	if err != nil {
		return nil, fmt.Errorf("bind the admin socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	// The directory's owner could put a link in the socket's place: what is changed is what was opened.
	fd, err := unix.Openat(d.fd(), adminSocket, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bind the admin socket: %w", err)
	}
	defer unix.Close(fd)
	if err := openSocket(fd, uid); err != nil {
		return nil, fmt.Errorf("bind the admin socket: %w", err)
	}
	return l.File()
}

// openSocket lets everyone connect and makes uid the owner: who may speak is decided by the peer's identity; who reaches
// it, by the directory.
func openSocket(fd, uid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("something else lies at its name")
	}
	// A descriptor that only names a file can be changed through its name in /proc alone.
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o666); err != nil {
		return err
	}
	return unix.Fchownat(fd, "", uid, uid, unix.AT_EMPTY_PATH)
}

func (d *dataDir) removeAdmin() { unix.Unlinkat(d.fd(), adminSocket, 0) }

func (d *dataDir) close() {
	if d.lock != nil {
		d.lock.Close()
	}
	if d.dir != nil {
		d.dir.Close()
	}
}

// listen binds the HTTP listeners: before anything else is started, so that a port in use costs nothing.
func listen(ctx context.Context, addrs []string) (files []*os.File, bound []string, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	for _, addr := range addrs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if errors.Is(err, unix.EADDRINUSE) {
			return files, nil, fmt.Errorf("listen on %s: %w", addr, ErrPortInUse)
		}
		if err != nil {
			return files, nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		f, err := l.(*net.TCPListener).File()
		l.Close()
		if err != nil {
			return files, nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		files, bound = append(files, f), append(bound, l.Addr().String())
	}
	return files, bound, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
