package confine

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// arenaBytes holds the strings and structures that one program's calls point to:
// the filter (about 2 kB), the environment, paths.
const arenaBytes = 64 << 10

// program is a table being prepared: the calls, their names, and the memory that
// they point into. It is not used by two goroutines at once.
type program struct {
	calls []call
	names []string
	arena []byte // mapped, so that it never moves and no write barrier knows it
	used  int
	err   error
}

func newProgram() (*program, error) {
	arena, err := unix.Mmap(-1, 0, arenaBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map a program's memory: %w", err)
	}
	return &program{arena: arena, calls: make([]call, 0, maxCalls), names: make([]string, 0, maxCalls)}, nil
}

// reset forgets calls and memory.
func (p *program) reset() {
	p.calls, p.names, p.used, p.err = p.calls[:0], p.names[:0], 0, nil
}

func (p *program) close() { unix.Munmap(p.arena) }

// add appends a call that must succeed.
func (p *program) add(name string, nr uintptr, args ...uintptr) { p.expect(0, name, nr, args...) }

// expect appends a call that must end with errno want.
func (p *program) expect(want syscall.Errno, name string, nr uintptr, args ...uintptr) {
	c := call{nr: nr, want: want}
	copy(c.a[:], args)
	p.calls, p.names = append(p.calls, c), append(p.names, name)
}

// take reserves n bytes, aligned for any structure.
func (p *program) take(n int) []byte {
	start := (p.used + 15) &^ 15
	if start+n > len(p.arena) {
		p.err = fmt.Errorf("a program's arguments pass %d bytes", len(p.arena))
		return make([]byte, n)
	}
	p.used = start + n
	return p.arena[start:p.used:p.used]
}

// bytes copies b and gives its address.
func (p *program) bytes(b []byte) uintptr {
	m := p.take(max(len(b), 1))
	copy(m, b)
	return address(m)
}

// text copies s with a NUL behind it.
func (p *program) text(s string) uintptr { return p.bytes(append([]byte(s), 0)) }

// words copies numbers, as the structures of the kernel's interface hold them.
func (p *program) words(w ...uintptr) uintptr {
	m := p.take(8 * len(w))
	for i, v := range w {
		nativeEndian.PutUint64(m[8*i:], uint64(v))
	}
	return address(m)
}

// vector copies strings and an array of pointers to them, as exec wants it.
func (p *program) vector(list []string) uintptr {
	w := make([]uintptr, 0, len(list)+1)
	for _, s := range list {
		w = append(w, p.text(s))
	}
	return p.words(append(w, 0)...)
}

func address(m []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(m))) }

// StepError says which step of a child's confinement failed. Nothing of the child is left but
// an exit status to reap.
type StepError struct {
	Step  string
	Errno syscall.Errno
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Errno) }

// Unwrap gives the error number to errors.Is.
func (e *StepError) Unwrap() error { return e.Errno }

// start makes a child that carries out the program. Where the error is a *StepError other than
// "clone", the child exists and must be reaped.
func (p *program) start(flags uint64, cgroup int) (Child, error) {
	if p.err != nil {
		return Child{}, p.err
	}
	if len(p.calls) >= maxCalls {
		return Child{}, fmt.Errorf("a program of %d calls, at most %d fit", len(p.calls), maxCalls-1)
	}
	pidfd := p.take(8)
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	copy(table[:], p.calls)
	table[len(p.calls)].end = true
	failure.step, failure.errno = 0, 0
	clone = cloneArgs{
		flags: flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD,
		pidfd: uint64(address(pidfd)), exitSignal: uint64(syscall.SIGCHLD),
	}
	if cgroup >= 0 {
		clone.flags |= unix.CLONE_INTO_CGROUP
		clone.cgrp = uint64(cgroup)
	}
	pid, errno := window()
	if errno != 0 {
		return Child{}, &StepError{"clone", syscall.Errno(errno)}
	}
	child := Child{PID: int(pid), PIDFD: int(nativeEndian.Uint32(pidfd))}
	if failure.step > 0 {
		return child, &StepError{p.names[failure.step-1], syscall.Errno(failure.errno)}
	}
	return child, nil
}
