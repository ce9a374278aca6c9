package wire

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// Operations of a facet's own calls (CALLS §1).
const (
	OpChild   = "child"
	OpWorker  = "worker"
	OpService = "service"
	OpEgress  = "egress"
	OpAbort   = "abort"
	OpDelete  = "delete"
	OpClone   = "clone"
	OpList    = "list"
	OpUsage   = "usage"
	OpCheck   = "check"
	OpAlarm   = "alarm_wake"
)

// Events (CALLS §2).
const (
	EventStart = "start"
	EventAlarm = "alarm"
)

// Headers between the gateway and a facet (CALLS §1, §3, §4). No client's request and no facet's
// answer carries any of them past the gateway.
const (
	HeaderError       = "Fgw-Error"
	HeaderService     = "Fgw-Service"
	HeaderCallerProps = "Fgw-Caller-Props"
	HeaderEgress      = "Fgw-Egress"
	HeaderHandover    = "Fgw-Handover"
	HeaderQuiet       = "Fgw-Quiet"
	HeaderChild       = "Fgw-Child"
	HeaderDepth       = "Fgw-Depth"
)

// StatusHandover is the informational status with which a facet hands a request over.
const StatusHandover = 199

// Limits of calls.
const (
	MaxStartAnswer = 2 << 20
	MaxSource      = 16 << 20
	MaxExecutable  = 512 << 20
	MaxListed      = 10_000
	MaxCallDepth   = 32 // calls of facets within one another
)

// Name is a name of any bytes that travels in JSON: a string where it is UTF-8, else base64 in a
// second field. Embed it in a message.
type Name struct {
	Text   string `json:"name,omitempty"`
	Base64 string `json:"name_b64,omitempty"`
}

// NewName returns the name's form in JSON.
func NewName(s string) Name {
	if utf8.ValidString(s) {
		return Name{Text: s}
	}
	return Name{Base64: base64.StdEncoding.EncodeToString([]byte(s))}
}

// Bytes returns the name.
func (n Name) Bytes() (string, error) {
	if n.Base64 == "" {
		return n.Text, nil
	}
	b, err := base64.StdEncoding.DecodeString(n.Base64)
	return string(b), err
}

// Call is the head of a facet's own call.
type Call struct {
	Op string `json:"op"`
	Name
	To     *Name  `json:"to,omitempty"`
	ID     string `json:"id,omitempty"`
	Start  uint64 `json:"start,omitempty"`
	IdleMS int64  `json:"idle_ms,omitempty"`
	Reason string `json:"reason,omitempty"`
	Code   *Code  `json:"code,omitempty"`
}

// Exchange reports whether an HTTP exchange follows the head, and not an answer to a question.
func (c *Call) Exchange() bool {
	switch c.Op {
	case OpChild, OpWorker, OpService, OpEgress:
		return true
	}
	return false
}

// Event is the head of an event.
type Event struct {
	Event   string `json:"event"`
	Start   uint64 `json:"start,omitempty"`
	At      int64  `json:"at,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
}

// Problem is an error as it travels.
type Problem struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
}

// Answer answers a question; which fields are set depends on the operation.
type Answer struct {
	Error       *Problem     `json:"error,omitempty"`
	Facets      []Listed     `json:"facets,omitempty"`
	Usage       *Used        `json:"usage,omitempty"`
	Diagnostics []Diagnostic `json:"diagnostics,omitempty"`
}

// Listed is a child in a listing.
type Listed struct {
	Name
	State        string `json:"state"`
	StorageBytes int64  `json:"storage_bytes"`
	Requests     int64  `json:"requests"`
}

// Used is what a facet has used.
type Used struct {
	State           string  `json:"state"`
	CPUSeconds      float64 `json:"cpu_seconds"`
	MemoryBytes     int64   `json:"memory_bytes"`
	MemoryPeakBytes int64   `json:"memory_peak_bytes"`
	RowsRead        int64   `json:"rows_read"`
	RowsWritten     int64   `json:"rows_written"`
	StorageBytes    int64   `json:"storage_bytes"`
	Requests        int64   `json:"requests"`
	Errors          int64   `json:"errors"`
	Starts          int64   `json:"starts"`
	EgressBytes     int64   `json:"egress_bytes"`
}

// Diagnostic is one thing that is wrong with a source.
type Diagnostic struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// Code says which code a child runs; Size bytes follow the message.
type Code struct {
	Kind    string `json:"kind"` // source, executable, app
	App     string `json:"app,omitempty"`
	Version int    `json:"version,omitempty"`
	Size    int64  `json:"size,omitempty"`
}

// The kinds of code.
const (
	CodeSource     = "source"
	CodeExecutable = "executable"
	CodeApp        = "app"
)

// Binding is a service with its props.
type Binding struct {
	Service string          `json:"service"`
	Props   json.RawMessage `json:"props,omitempty"`
}

// Egress is what a child may send out.
type Egress struct {
	Hosts []string `json:"hosts,omitempty"`
	Via   *Binding `json:"via,omitempty"`
}

// Limits are those of an instance in its start message. In a start answer they are the child's, where 0 is its parent's own.
type Limits struct {
	Memory      int64 `json:"memory,omitempty"`
	CPUMilli    int64 `json:"cpu_milli,omitempty"`
	Storage     int64 `json:"storage,omitempty"`
	Processes   int64 `json:"processes,omitempty"`
	StatementMS int64 `json:"statement_ms,omitempty"`
	RequestMS   int64 `json:"request_ms,omitempty"`
	InFlight    int64 `json:"in_flight,omitempty"`
	Rows        int64 `json:"rows,omitempty"`
}

// StartAnswer is what a start function returned.
type StartAnswer struct {
	Error    *Problem           `json:"error,omitempty"`
	Code     Code               `json:"code"`
	ID       string             `json:"id,omitempty"`
	Props    json.RawMessage    `json:"props,omitempty"`
	Env      map[string]string  `json:"env,omitempty"`
	Secrets  map[string]string  `json:"secrets,omitempty"`
	Services map[string]Binding `json:"services,omitempty"`
	Limits   Limits             `json:"limits"`
	Egress   *Egress            `json:"egress,omitempty"`
	Children bool               `json:"children,omitempty"`
}

// Handover is a request as the child shall see it.
type Handover struct {
	Name
	Start  uint64              `json:"start"`
	Worker *Worker             `json:"worker,omitempty"`
	Method string              `json:"method"`
	Target string              `json:"target"`
	Header map[string][]string `json:"header,omitempty"`
	// Same says that the headers are those that the facet was sent, in place of Header: to take them apart and put
	// them together twice would cost more than all the rest.
	Same bool `json:"same,omitempty"`
}

// Worker is a dynamic worker's id and idle time.
type Worker struct {
	ID     string `json:"id,omitempty"`
	IdleMS int64  `json:"idle_ms,omitempty"`
}

// WriteStartAnswer writes a start answer; the code's bytes follow it.
func WriteStartAnswer(w io.Writer, a *StartAnswer) error {
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if len(body) > MaxStartAnswer {
		return fmt.Errorf("start answer of %d bytes (at most %d): %w", len(body), MaxStartAnswer, ErrTooLarge)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// ReadStartAnswer reads what WriteStartAnswer wrote.
func ReadStartAnswer(r io.Reader) (*StartAnswer, error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n > MaxStartAnswer {
		return nil, fmt.Errorf("start answer of %d bytes: %w", n, ErrTooLarge)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read a start answer: %w", err)
	}
	a := new(StartAnswer)
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("decode a start answer: %w", err)
	}
	return a, nil
}

// ReadAnswerMessage reads a message of up to most bytes: the answer to a question.
func ReadAnswerMessage(r io.Reader, most int) ([]byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if uint64(n) > uint64(most) {
		return nil, fmt.Errorf("answer of %d bytes: %w", n, ErrTooLarge)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}
