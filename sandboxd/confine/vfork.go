package confine

import (
	"syscall"
	_ "unsafe" // for linkname
)

// call is one system call of the table: numbers alone. A pointer among them
// points into a Program's arena, which the garbage collector does not know.
type call struct {
	nr   uintptr
	a    [6]uintptr
	want syscall.Errno // what the call must end with; mostly 0
	end  bool          // no call: the table ends here
}

// maxCalls bounds the table: the launcher's own start, with 41 capabilities to drop, takes about 80.
const maxCalls = 128

// table, failure and clone are used by one child at a time, under syscall.ForkLock.
var (
	table   [maxCalls]call
	failure struct {
		step  uintptr // 1 + index of the call that failed; 0 is none
		errno uintptr
	}
	clone cloneArgs
)

// cloneArgs is struct clone_args of linux/sched.h.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal   uint64
	stack, stackSize, tls, setTID, setTIDSize, cgrp uint64
}

// exitFailed is the exit status of a child whose table failed.
const exitFailed = 127

func vforkClone3(args *cloneArgs) (pid, errno uintptr)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// window makes the child and, in the child, carries out the table. The child
// shares the parent's memory and stands on this very stack frame while the
// calling thread is suspended, so from vforkClone3 on it must not allocate, grow the
// stack, take a lock, or call anything but raw system calls and the runtime's
// hooks. TestWindow disassembles this function and holds it to that. The parent
// does nothing in this frame but return.
//
//go:noinline
//go:norace
//go:nocheckptr
func window() (pid, errno uintptr) {
	var (
		i int
		c *call
		e syscall.Errno
	)
	beforeFork()
	pid, errno = vforkClone3(&clone)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	afterForkInChild()
	for i = 0; i < len(table); i++ {
		c = &table[i]
		if c.end {
			break
		}
		_, _, e = syscall.RawSyscall6(c.nr, c.a[0], c.a[1], c.a[2], c.a[3], c.a[4], c.a[5])
		if e != c.want {
			failure.step, failure.errno = uintptr(i)+1, uintptr(e)
			break
		}
	}
	for {
		syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, exitFailed, 0, 0, 0, 0, 0)
	}
}
