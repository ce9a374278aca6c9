package protocol

import (
	"fmt"
	"syscall"
	"time"
)

// Exit is how a process ended.
type Exit struct {
	Code       int  // exit status, where Signal is 0
	Signal     int  // the signal that killed it
	OOM        bool // the kernel killed it for reaching its memory limit
	Seccomp    bool // its system call filter killed it
	CPU        time.Duration
	MemoryPeak int64
	Limit      int64 // the memory limit that held at the end; where OOM, the one that was reached; 0: none of the facet's
	Whose      Whose // the limit is
}

// Whose says whom the limit of memory bounds that a process reached.
type Whose int

// The owners of limits.
const (
	OfProcess    Whose = iota // itself
	OfTree                    // itself and its children together
	OfSupervisor              // a supervisor of its and all below that together
	OfMachine                 // everybody: the machine, or the group in which the gateway runs, is short
)

// String says it in words, for a person who wonders why an app stopped.
func (e Exit) String() string {
	switch {
	case e.OOM && e.Whose == OfMachine:
		return "killed because the machine is out of memory"
	case e.OOM:
		return fmt.Sprintf("out of memory (limit %s%s)", size(e.Limit),
			[...]string{"", " for it and its children", " for its supervisor and all below it"}[e.Whose])
	case e.Seccomp:
		return "killed for a forbidden system call"
	case e.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%v)", e.Signal, syscall.Signal(e.Signal))
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// size writes n bytes in the largest unit that divides it, else in MiB.
func size(n int64) string {
	switch {
	case n <= 0:
		return "unknown"
	case n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0 && n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 1<<20:
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// ExitMessage is sandboxd's event for the end of a process.
func ExitMessage(process uint64, e Exit) Message {
	m := Message{Op: OpExit, Process: process, Args: [6]int64{
		int64(e.Code), int64(e.Signal), int64(e.CPU), e.MemoryPeak, e.Limit, int64(e.Whose),
	}}
	if e.OOM {
		m.Flags |= OOM
	}
	if e.Seccomp {
		m.Flags |= SIGSYS
	}
	return m
}

func exitOf(m Message) Exit {
	return Exit{
		Code: int(m.Args[0]), Signal: int(m.Args[1]), CPU: time.Duration(m.Args[2]),
		MemoryPeak: m.Args[3], Limit: m.Args[4], Whose: Whose(m.Args[5]),
		OOM: m.Flags&OOM != 0, Seccomp: m.Flags&SIGSYS != 0,
	}
}
