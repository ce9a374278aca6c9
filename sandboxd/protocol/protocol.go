// Package protocol is what the gateway may ask of sandboxd: to start a facet or
// a SQL worker, to kill one, to change its limits, to say how it fares. Requests
// have a fixed size and travel over a SOCK_SEQPACKET socketpair with descriptors
// beside them, so that the privileged side parses nothing of variable length.
//
// The gateway imports this package; it must stay free of heavy imports.
package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Op says what a message is.
type Op uint32

// Requests, from the gateway.
const (
	OpSpawnFacet  Op = 1 // Process: its supervisor, or 0; Args: memory, processes, cpu; descriptors: exe, wire, output, and sql where HasSQL
	OpSpawnSQLD   Op = 2 // Args[0]: the worker's index; descriptors: control, shared memory
	OpKill        Op = 3 // Process
	OpLimits      Op = 4 // Process; Args: memory, processes, cpu
	OpStats       Op = 5 // Process
	OpConfinement Op = 6 // Process; the answer's text is JSON
	OpReady       Op = 7 // the gateway serves
	OpSpawnBuild  Op = 8 // Args: memory, processes, cpu, number of the module tree; descriptors: job, output
)

// What sandboxd sends.
const (
	OpReply Op = 16 // answers the request of the same ID
	OpExit  Op = 17 // Process has ended, is reaped, and its cgroup is empty
	OpDrain Op = 18 // stop taking requests, finish those under way, exit
)

// Flags of a message.
const (
	HasSQL     = 1 << 0 // SPAWN_FACET: a fourth descriptor is the SQL channel
	Refused    = 1 << 1 // REPLY: Text says which step failed and why
	Gone       = 1 << 2 // REPLY: no such process (any more)
	OOM        = 1 << 3 // EXIT
	SIGSYS     = 1 << 4 // EXIT: killed by its system call filter
	Warm       = 1 << 5 // SPAWN_BUILD: the builder fills the shared cache
	Supervisor = 1 << 6 // SPAWN_FACET: it may have children; its limits hold for it and all below it together
	Full       = 1 << 7 // REPLY: refused, since the supervisor's limit of processes is used up
)

// HeadBytes is the size of every request and of the fixed part of every answer.
const HeadBytes = 72

// MaxText bounds the text behind an answer's fixed part. Requests carry none.
const MaxText = 8 << 10

// MaxDescriptors is how many descriptors any one message carries.
const MaxDescriptors = 8

// ErrMessage is wrapped where a message is not one of this protocol.
var ErrMessage = errors.New("malformed message")

// Message is one message in either direction. What Args hold depends on Op.
type Message struct {
	Op      Op
	Flags   uint32
	ID      uint64 // pairs a request with its answer
	Process uint64 // given by sandboxd when it starts one, never reused
	Args    [6]int64
	Text    string
}

// Append writes m's bytes behind b.
func (m *Message) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(m.Op))
	b = binary.LittleEndian.AppendUint32(b, m.Flags)
	b = binary.LittleEndian.AppendUint64(b, m.ID)
	b = binary.LittleEndian.AppendUint64(b, m.Process)
	for _, a := range m.Args {
		b = binary.LittleEndian.AppendUint64(b, uint64(a))
	}
	return append(b, m.Text[:min(len(m.Text), MaxText)]...)
}

// Parse reads a message; a request (text false) has exactly HeadBytes.
func Parse(b []byte, text bool) (m Message, err error) {
	if len(b) < HeadBytes || len(b) > HeadBytes && !text || len(b) > HeadBytes+MaxText {
		return m, fmt.Errorf("%w: %d bytes", ErrMessage, len(b))
	}
	m.Op = Op(binary.LittleEndian.Uint32(b))
	m.Flags = binary.LittleEndian.Uint32(b[4:])
	m.ID = binary.LittleEndian.Uint64(b[8:])
	m.Process = binary.LittleEndian.Uint64(b[16:])
	for i := range m.Args {
		m.Args[i] = int64(binary.LittleEndian.Uint64(b[24+8*i:]))
	}
	m.Text = string(b[HeadBytes:])
	return m, nil
}

// Limits bound one facet. Zero values ask for sandboxd's maxima, CPUMilli 0 for no quota below them.
type Limits struct {
	MemoryBytes int64
	Processes   int64 // processes and threads
	CPUMilli    int64 // thousandths of a core
}

// Stats is what a running process has used.
type Stats struct {
	CPU         time.Duration
	MemoryBytes int64
	MemoryPeak  int64
	Processes   int64
}

// Confinement is how a running process is confined, as the kernel tells it.
type Confinement struct {
	UID          int               `json:"uid"`
	Namespaces   []string          `json:"namespaces"` // those that are not sandboxd's own
	Cgroups      map[string]string `json:"cgroups"`    // controller → path
	Seccomp      string            `json:"seccomp"`    // "filter" or "disabled"
	NoNewPrivs   bool              `json:"no_new_privs"`
	Capabilities string            `json:"capabilities"` // hexadecimal, all five sets joined; "0" is none
	Landlock     bool              `json:"landlock"`     // applied by sandboxd at start: the kernel has no way to ask
}
