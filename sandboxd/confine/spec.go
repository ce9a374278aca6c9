// Package confine is the one way in which a process of the gateway's comes to
// be: a child made with vfork's semantics carries out a table of system calls,
// prepared by ordinary code, of which the last is the exec. Which calls those
// are follows from a Profile, which is data, and a Spec, which is this child's.
//
// Nothing between clone and exec runs Go code that could allocate or grow a
// stack: see window. The cost does not grow with the parent's memory, since no page
// table is copied.
package confine

import (
	"encoding/binary"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

var nativeEndian = binary.NativeEndian

// ExecFD is where the program to be started lies while the child's table runs: the
// filters allow execveat of this descriptor alone. It is closed by the exec.
const ExecFD = 63

// Spec is what belongs to one child.
type Spec struct {
	Exe   int      // the program's descriptor
	Files []int    // become descriptors 0, 1, 2 …; at most ExecFD of them, all close-on-exec
	Args  []string // behind argv[0]
	Env   []string
	UID   int
	GID   int

	// Join are v1 cgroups: open `tasks` files. Into is a v2 cgroup's directory, or -1.
	Join []int
	Into int

	Root    *Root // nil keeps the parent's
	Dir     string
	Ruleset int // Landlock's, or -1

	// Life is the reading end of a non-blocking pipe whose writing end only the parent
	// holds, or -1. The child gives up when it finds it closed, which
	// closes the gap before its parent-death signal was armed.
	Life int
}

// Child is a new process: its number in the caller's pid namespace and a pidfd, close-on-exec, to be closed by the
// caller. Its parent-death signal follows the calling thread.
type Child struct {
	PID, PIDFD int
}

// Starter makes children of one profile, one at a time.
type Starter struct {
	profile Profile
	prog    *program
	caps    int // how many capabilities this kernel knows
}

// NewStarter prepares for children of profile p.
func NewStarter(p Profile) (*Starter, error) {
	prog, err := newProgram()
	if err != nil {
		return nil, err
	}
	return &Starter{profile: p, prog: prog, caps: capabilities()}, nil
}

// Close gives back the starter's memory.
func (s *Starter) Close() { s.prog.close() }

// Start makes a child. The calling goroutine must be locked to a thread that outlives the
// child, or the child dies with the thread. Where the error is a *StepError and the Child's PID is not
// zero, there is an exit status to be reaped.
func (s *Starter) Start(spec Spec) (Child, error) {
	s.prepare(spec, false)
	return s.prog.start(s.profile.Namespaces, spec.Into)
}

// Try carries out every step but the last, which is to exit, and reaps the child: whether this machine, and
// this user on it, can have what the profile asks for.
func (s *Starter) Try(spec Spec) error {
	s.prepare(spec, true)
	child, err := s.prog.start(s.profile.Namespaces, spec.Into)
	if child.PID == 0 {
		return err
	}
	unix.Close(child.PIDFD)
	var status unix.WaitStatus
	for {
		_, waitErr := unix.Wait4(child.PID, &status, 0, nil)
		if waitErr != unix.EINTR {
			break
		}
	}
	if err == nil && (!status.Exited() || status.ExitStatus() != 0) {
		err = &StepError{"live through it", unix.EPERM}
	}
	return err
}

// prepare writes the table. The order is what confines: each step removes the means to undo an
// earlier one.
func (s *Starter) prepare(spec Spec, dry bool) {
	p := s.prog
	p.reset()
	s.join(spec) // limits before anything else: all that follows is charged to the child
	s.enter(spec)
	p.add("setsid", unix.SYS_SETSID) // no controlling terminal, so no TIOCSTI
	ruleset, life := s.descriptors(spec)
	for _, l := range s.profile.Rlimits {
		p.add("prlimit", unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), p.words(uintptr(l.Max), uintptr(l.Max)), 0)
	}
	s.identity(spec)
	// A change of identity clears the parent-death signal: it comes after.
	p.add("parent-death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	if life >= 0 {
		// EAGAIN: the pipe is empty and its other end open, so the parent lives.
		p.expect(unix.EAGAIN, "parent alive", unix.SYS_READ, uintptr(life), p.words(0), 1)
	}
	p.add("no new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	if s.profile.Landlock && ruleset >= 0 {
		p.add("landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0)
	}
	argv := p.vector(append([]string{s.profile.Name}, spec.Args...))
	envp := p.vector(spec.Env)
	if s.profile.Filter != nil {
		// Last: from here on only what the filter allows, execveat of ExecFD among it.
		p.add("seccomp", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, s.filter())
	}
	if dry {
		p.add("exit", unix.SYS_EXIT_GROUP, 0)
		return
	}
	p.add("exec", unix.SYS_EXECVEAT, ExecFD, p.text(""), argv, envp, unix.AT_EMPTY_PATH)
}

// join puts the child into its v1 cgroups by writing "0", itself: moving another process takes a
// lock that an idle machine grants after 10 ms.
func (s *Starter) join(spec Spec) {
	if len(spec.Join) == 0 {
		return
	}
	zero := s.prog.text("0")
	for _, fd := range spec.Join {
		s.prog.add("join cgroup", unix.SYS_WRITE, uintptr(fd), zero, 1)
	}
}

// enter moves the child into its own root. The old one is detached: no path leads back to it.
func (s *Starter) enter(spec Spec) {
	p := s.prog
	if s.profile.Hostname != "" && s.profile.Namespaces&unix.CLONE_NEWUTS != 0 {
		p.add("hostname", unix.SYS_SETHOSTNAME, p.text(s.profile.Hostname), uintptr(len(s.profile.Hostname)))
	}
	if r := spec.Root; r != nil {
		empty, dot := p.text(""), p.text(".")
		p.add("private mounts", unix.SYS_MOUNT, 0, p.text("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
		// Any directory will do to hang the new root on: nothing is looked up by path after this.
		p.add("attach root", unix.SYS_MOVE_MOUNT, uintptr(r.fd), empty, atCWD, p.text("/proc"), unix.MOVE_MOUNT_F_EMPTY_PATH)
		for _, t := range r.trees {
			p.add("attach "+t.target, unix.SYS_MOVE_MOUNT, uintptr(t.fd), empty, uintptr(r.fd), p.text(t.target), unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		p.add("enter root", unix.SYS_FCHDIR, uintptr(r.fd))
		p.add("pivot root", unix.SYS_PIVOT_ROOT, dot, dot)
		p.add("detach old root", unix.SYS_UMOUNT2, dot, unix.MNT_DETACH)
	}
	if spec.Dir != "" {
		p.add("change directory", unix.SYS_CHDIR, p.text(spec.Dir))
	}
}

// descriptors puts the child's files into their places; everything else closes with the exec.
// A source may lie where a target is, so all are first copied above every descriptor that the
// table still needs. It gives the copies of the ruleset and of the life pipe.
func (s *Starter) descriptors(spec Spec) (ruleset, life int) {
	p := s.prog
	sources := append([]int{spec.Exe, spec.Ruleset, spec.Life}, spec.Files...)
	aside := max(ExecFD, slices.Max(sources)) + 1
	at := func(i int) int {
		if sources[i] < 0 {
			return -1
		}
		return aside + i
	}
	for i, fd := range sources {
		if fd >= 0 {
			p.add("set descriptors aside", unix.SYS_DUP3, uintptr(fd), uintptr(at(i)), unix.O_CLOEXEC)
		}
	}
	p.add("close descriptors", unix.SYS_CLOSE_RANGE, 0, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	p.add("place the program", unix.SYS_DUP3, uintptr(at(0)), ExecFD, unix.O_CLOEXEC)
	const first = 3 // of Files among the sources
	for i := range spec.Files {
		p.add("place descriptors", unix.SYS_DUP3, uintptr(at(first+i)), uintptr(i), 0)
	}
	return at(1), at(2)
}

// Secure bits: being root means nothing (NOROOT), identity changes clear capabilities as
// they always do (NO_SETUID_FIXUP and KEEP_CAPS stay off); all of it locked.
const (
	secureBits = 1<<0 | 1<<1 | 1<<3 | 1<<5
	noAmbient  = 1<<6 | 1<<7 // nor can a capability be made ambient, locked
)

// identity drops bounding set, groups, ids and capabilities.
func (s *Starter) identity(spec Spec) {
	p := s.prog
	var caps uint64
	for _, c := range s.profile.Caps {
		caps |= 1 << c
	}
	if s.profile.DropBounds {
		bits := uintptr(secureBits)
		if caps == 0 {
			bits |= noAmbient
		} else {
			// What is to be inherited must be so before the bounding set is gone.
			const setPCap = 1 << unix.CAP_SETPCAP
			s.capset(caps|setPCap, caps)
		}
		p.add("secure bits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, bits)
		for c := range s.caps {
			p.add("drop bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c))
		}
	}
	if s.profile.Identity {
		gid, uid := uintptr(spec.GID), uintptr(spec.UID)
		p.add("setgroups", unix.SYS_SETGROUPS, 0, 0)
		p.add("setresgid", unix.SYS_SETRESGID, gid, gid, gid)
		p.add("setresuid", unix.SYS_SETRESUID, uid, uid, uid)
	}
	s.capset(caps, caps)
	for _, c := range s.profile.Caps {
		// Ambient: the one set that survives an exec without file capabilities.
		p.add("keep capability", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c))
	}
}

// capset sets the effective and permitted sets, and the inheritable one.
func (s *Starter) capset(permitted, inheritable uint64) {
	const version3 = 0x20080522
	header := make([]byte, 8)
	nativeEndian.PutUint32(header, version3)
	data := make([]byte, 24) // low words: effective, permitted, inheritable; then the high ones
	for i, set := range []uint64{permitted, permitted, inheritable} {
		nativeEndian.PutUint32(data[4*i:], uint32(set))
		nativeEndian.PutUint32(data[12+4*i:], uint32(set>>32))
	}
	s.prog.add("capset", unix.SYS_CAPSET, s.prog.bytes(header), s.prog.bytes(data))
}

// filter gives the address of the kernel's struct sock_fprog.
func (s *Starter) filter() uintptr {
	const instruction = 8
	return s.prog.words(uintptr(len(s.profile.Filter)/instruction), s.prog.bytes(s.profile.Filter))
}

// atCWD is AT_FDCWD as an argument.
const atCWD = ^uintptr(99)

// capabilities counts those that this kernel knows, which may be more or fewer than this program does.
func capabilities() int {
	for c := range 64 {
		if _, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, uintptr(c), 0); errno != 0 {
			return c
		}
	}
	return 64
}

// Failed reports whether err is a step of the child's own that failed with one of errnos.
func Failed(err error, errnos ...syscall.Errno) bool {
	step, ok := err.(*StepError)
	if !ok {
		return false
	}
	for _, e := range errnos {
		if step.Errno == e {
			return true
		}
	}
	return len(errnos) == 0
}
