package launcher

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/sandboxd/confine"
	"github.com/facetgateway/fgw/seccomp"
	"golang.org/x/sys/unix"
)

// Descriptors that the launcher starts with, beside 0 (null), 1 and 2 (a pipe to sandboxd).
const controlFD = 3

// exitUsage is the status of a launcher that was not started by sandboxd.
const exitUsage = 2

// Main is the launcher's process. It ends, and every facet with it, when sandboxd goes.
func Main() {
	// A facet's parent-death signal follows the thread that made it: this one, for ever.
	runtime.LockOSThread()
	l, err := newLauncher(os.Args[1:])
	if err == nil {
		err = l.serve()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "fgw: launcher: %v\n", err)
		os.Exit(exitUsage)
	}
	os.Exit(0)
}

// launcher serves requests on one thread and reaps on another.
type launcher struct {
	opt     Options
	starter *confine.Starter

	mu       sync.Mutex // guards children, and orders an answer before the same child's end
	children map[int]uint64
	born     chan struct{} // a child exists
}

func newLauncher(args []string) (*launcher, error) {
	opt, err := parseOptions(args)
	if err != nil {
		return nil, fmt.Errorf("%w on the command line: it is started by fgw serve alone", err)
	}
	var filter []byte
	if opt.Seccomp {
		if filter, err = seccomp.Filter("facet"); err != nil {
			return nil, err
		}
	}
	profile := confine.Facet(filter)
	if !opt.Namespaces {
		profile.Namespaces = 0
	}
	profile.Identity = opt.Identity
	profile.Landlock = opt.LandlockABI > 0
	starter, err := confine.NewStarter(profile)
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(controlFD)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, err
	}
	debug.SetMemoryLimit(16 << 20) // garbage is a few bytes per request
	return &launcher{opt: opt, starter: starter, children: map[int]uint64{}, born: make(chan struct{}, 1)}, nil
}

// serve answers one request after the other: the table of calls is one, so is the thread.
func (l *launcher) serve() error {
	go l.reap()
	buf := make([]byte, RequestBytes+1)
	oob := make([]byte, unix.CmsgSpace(4*16))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(controlFD, buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read a request: %w", err)
		case n == 0:
			return nil // sandboxd is gone
		case flags&unix.MSG_TRUNC != 0:
			return fmt.Errorf("read a request: %w", errMessage)
		}
		files, err := descriptors(oob[:oobn])
		if err != nil {
			return err
		}
		r, err := parseRequest(buf[:n])
		cut := flags&unix.MSG_CTRUNC != 0 // no room for the descriptors: one facet's misfortune, not everybody's
		switch {
		case err != nil:
		case cut:
			err = l.answer(Event{ID: r.ID, Step: "take descriptors", Errno: unix.EMFILE}, 0, -1)
		case len(files) != r.descriptors():
			err = fmt.Errorf("%w: %d descriptors", errMessage, len(files))
		default:
			err = l.start(r, files)
		}
		for _, fd := range files {
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
	}
}

// start makes one child and answers. Its error is the launcher's end.
func (l *launcher) start(r Request, files []int) error {
	spec := confine.Spec{
		Exe: files[0], Files: []int{0, files[3], files[3], files[1], files[2]},
		Env: environment(r), UID: int(r.UID), GID: int(r.GID),
		Join: files[requestFiles : requestFiles+int(r.Joins)], Into: -1, Ruleset: -1, Life: -1,
	}
	if r.Into {
		spec.Into = files[len(files)-1]
	}
	if l.opt.LandlockABI > 0 {
		ruleset, err := confine.NewRuleset(l.opt.LandlockABI, false, confine.Allow{FD: files[0], Right: confine.Exec})
		if err != nil {
			return l.answer(Event{ID: r.ID, Step: "landlock ruleset", Errno: errnoOf(err)}, 0, -1)
		}
		defer unix.Close(ruleset)
		spec.Ruleset = ruleset
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	child, err := l.starter.Start(spec)
	e := Event{ID: r.ID, Child: child.PID > 0}
	if err != nil {
		e.Step, e.Errno = err.Error(), errnoOf(err)
		if step := (*confine.StepError)(nil); errors.As(err, &step) {
			e.Step = step.Step
		}
	}
	if child.PID == 0 {
		return l.answer(e, 0, -1)
	}
	defer unix.Close(child.PIDFD)
	l.children[child.PID] = r.ID
	select {
	case l.born <- struct{}{}:
	default:
	}
	return l.answer(e, child.PID, child.PIDFD)
}

// answer sends an event with the child's pidfd, and its pid as credentials: the kernel
// translates it into the receiver's pid namespace.
func (l *launcher) answer(e Event, pid, pidfd int) error {
	var oob []byte
	if pid > 0 {
		oob = unix.UnixCredentials(&unix.Ucred{Pid: int32(pid), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
		oob = append(oob, unix.UnixRights(pidfd)...)
	}
	for {
		err := unix.Sendmsg(controlFD, e.Append(nil), oob, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// reap waits for whatever ends. The launcher is the init of its pid namespace and has no children
// but facets, so waiting for any is right here.
func (l *launcher) reap() {
	for {
		// Looking without reaping: a child's number must stay valid until it was answered.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.ECHILD) {
			<-l.born
			continue
		}
		if err == nil {
			l.collect()
		}
	}
}

// collect reaps what has ended and tells of it, after what start still had to say.
func (l *launcher) collect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		var (
			status syscall.WaitStatus
			usage  syscall.Rusage
		)
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, &usage)
		if err != nil || pid == 0 {
			return
		}
		if id, known := l.children[pid]; known {
			delete(l.children, pid)
			cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
			l.answer(Event{ID: id, Exited: true, Status: status, CPU: cpu}, 0, -1)
		}
	}
}

// environment is all that a facet finds: that it runs in a gateway, and what Go's
// runtime can't read for itself without /proc.
func environment(r Request) []string {
	return []string{
		"FGW_WIRE=1",
		"GOMAXPROCS=" + strconv.Itoa(int(r.Threads)),
		"GOMEMLIMIT=" + strconv.FormatInt(r.Memory, 10),
		"GODEBUG=containermaxprocs=0,updatemaxprocs=0",
	}
}

// descriptors takes those that came with a message.
func descriptors(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read a request's descriptors: %w", err)
	}
	var files []int
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			files = append(files, fds...)
		}
	}
	return files, nil
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return syscall.EINVAL
	}
	return errno
}
