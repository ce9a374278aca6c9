// Package launcher is the process that starts facets. It is single-purpose: it
// lives in the empty namespaces that all facets share, as the init of their pid namespace, holds
// three capabilities and no file, and answers one request: start this program with these
// descriptors as that user. sandboxd alone can ask it.
//
// Why a process of its own: what forks must stay small and simple, must be inside
// the facets' namespaces, and is the parent whose death ends them all.
package launcher

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// Name is argv[0] of the launcher's process.
const Name = "fgw-launcher"

// RequestBytes is the size of every request.
const RequestBytes = 40

// Request starts one facet. Beside it travel the descriptors: the program,
// wire, SQL channel, output, then the cgroups: `tasks` files of v1, or one directory of v2.
type Request struct {
	ID       uint64
	UID, GID uint32
	Threads  uint32 // GOMAXPROCS
	Joins    uint16 // how many v1 cgroups
	Into     bool   // a v2 cgroup
	Memory   int64  // the soft limit told to Go's garbage collector
}

// requestFiles are the descriptors before the cgroups'.
const requestFiles = 4

var errMessage = errors.New("malformed message")

// Append writes r's bytes behind b.
func (r Request) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, r.ID)
	b = binary.LittleEndian.AppendUint32(b, r.UID)
	b = binary.LittleEndian.AppendUint32(b, r.GID)
	b = binary.LittleEndian.AppendUint32(b, r.Threads)
	b = binary.LittleEndian.AppendUint16(b, r.Joins)
	var into uint16
	if r.Into {
		into = 1
	}
	b = binary.LittleEndian.AppendUint16(b, into)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Memory))
	return binary.LittleEndian.AppendUint64(b, 0)
}

func parseRequest(b []byte) (r Request, err error) {
	if len(b) != RequestBytes {
		return r, fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	r.ID = binary.LittleEndian.Uint64(b)
	r.UID = binary.LittleEndian.Uint32(b[8:])
	r.GID = binary.LittleEndian.Uint32(b[12:])
	r.Threads = binary.LittleEndian.Uint32(b[16:])
	r.Joins = binary.LittleEndian.Uint16(b[20:])
	r.Into = binary.LittleEndian.Uint16(b[22:]) != 0
	r.Memory = int64(binary.LittleEndian.Uint64(b[24:]))
	return r, nil
}

// descriptors is how many a request brings.
func (r Request) descriptors() int {
	n := requestFiles + int(r.Joins)
	if r.Into {
		n++
	}
	return n
}

// EventBytes is the size of what the launcher sends.
const EventBytes = 104

const stepBytes = 64

// Event is an answer to a request or the end of a facet.
type Event struct {
	ID uint64
	// Exited: the facet has ended and is reaped. Otherwise this answers the request: with Step empty
	// it runs, and a pidfd comes along, with the sender's credentials carrying the pid.
	Exited bool
	Status syscall.WaitStatus
	CPU    time.Duration
	Step   string // which step failed
	Errno  syscall.Errno
	Child  bool // a child exists (and will be reported as exited), though a step failed
}

// Append writes the bytes of e behind b.
func (e Event) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.ID)
	var flags uint32
	if e.Exited {
		flags |= 1
	}
	if e.Child {
		flags |= 2
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Status))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.CPU))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Errno))
	b = append(b, e.Step[:min(len(e.Step), stepBytes)]...)
	return append(b, make([]byte, EventBytes-len(b))...)
}

// ParseEvent reads what the launcher sent.
func ParseEvent(b []byte) (e Event, err error) {
	if len(b) != EventBytes {
		return e, fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	e.ID = binary.LittleEndian.Uint64(b)
	flags := binary.LittleEndian.Uint32(b[8:])
	e.Exited, e.Child = flags&1 != 0, flags&2 != 0
	e.Status = syscall.WaitStatus(binary.LittleEndian.Uint32(b[12:]))
	e.CPU = time.Duration(binary.LittleEndian.Uint64(b[16:]))
	e.Errno = syscall.Errno(binary.LittleEndian.Uint64(b[24:]))
	e.Step = strings.TrimRight(string(b[32:32+stepBytes]), "\x00")
	return e, nil
}

// Options are the layers that the launcher applies, as its command line.
type Options struct {
	LandlockABI int  // 0: none
	Seccomp     bool // the filter
	Namespaces  bool // a pid namespace per facet
	Identity    bool // a user per facet
}

// Args is the command line that says so.
func (o Options) Args() []string {
	return []string{fmt.Sprintf("%d,%t,%t,%t", o.LandlockABI, o.Seccomp, o.Namespaces, o.Identity)}
}

func parseOptions(args []string) (o Options, err error) {
	if len(args) != 1 {
		return o, errMessage
	}
	part := strings.Split(args[0], ",")
	if len(part) != 4 {
		return o, errMessage
	}
	_, err = fmt.Sscanf(part[0], "%d", &o.LandlockABI)
	o.Seccomp, o.Namespaces, o.Identity = part[1] == "true", part[2] == "true", part[3] == "true"
	return o, err
}
