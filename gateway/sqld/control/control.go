// Package control is what the gateway and a SQL worker say to each other: JSON
// messages over a SOCK_SEQPACKET socketpair, with a descriptor where a channel
// is handed over, and a page of shared memory with a slot for each live database.
// Both ends are the gateway's own; nothing that a facet sends is in it.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ops of a message. Configure is the first, once; the worker answers Attach,
// Detach, SetAudit, Remove and Clone with Reply; Ended, Broken and Audit are its own.
const (
	Configure = "configure"
	Attach    = "attach"
	Detach    = "detach"
	SetAudit  = "set_audit"
	Remove    = "remove"
	Clone     = "clone"
	Reply     = "reply"
	Ended     = "ended"
	Broken    = "broken"
	Audit     = "audit"
)

// Message is any message; which fields count depends on Op.
type Message struct {
	Op      string `json:"op"`
	ID      uint64 `json:"id,omitempty"`      // of a request and its reply
	Channel uint64 `json:"channel,omitempty"` // Attach, Detach, SetAudit, Ended, Broken, Audit
	Error   string `json:"error,omitempty"`   // Reply, Ended, Broken
	Code    string `json:"code,omitempty"`    // Reply with an error: one of the SQL channel's codes, where it has one

	Memory int64 `json:"memory,omitempty"` // Configure: bytes of SQLite's memory in all
	Idle   int64 `json:"idle,omitempty"`   // Configure: bytes that idle databases may keep

	Slot     int      `json:"slot,omitempty"`
	File     string   `json:"file,omitempty"`
	Epoch    uint32   `json:"epoch,omitempty"`
	Reason   string   `json:"reason,omitempty"` // Attach with an epoch: why the channel was reset
	Limits   *Limits  `json:"limits,omitempty"`
	Audited  bool     `json:"audited,omitempty"` // Attach, SetAudit
	ReadOnly bool     `json:"read_only,omitempty"`
	Files    []string `json:"files,omitempty"`  // Remove; Clone: the sources
	Copies   []string `json:"copies,omitempty"` // Clone: what each is copied to

	Record *Record `json:"record,omitempty"` // Audit
}

// Limits bound what one database's statements may use. All but Object and Rows must be set.
type Limits struct {
	Storage          int64         `json:"storage"`
	Object           int64         `json:"object,omitempty"` // bytes that all databases of its directory may take together; 0: no bound
	Memory           int64         `json:"memory"`
	Result           int64         `json:"result"`
	Rows             int64         `json:"rows,omitempty"` // of one statement's result; 0: as many as Result allows
	StatementTimeout time.Duration `json:"statement_timeout"`
	TxIdle           time.Duration `json:"tx_idle"`
}

// Record is one audited statement.
type Record struct {
	Time     time.Time     `json:"time"`
	SQL      string        `json:"sql"` // its first MaxAuditSQL bytes
	Rows     int64         `json:"rows"`
	Bytes    int64         `json:"bytes"`
	Duration time.Duration `json:"duration"`
	Code     string        `json:"code,omitempty"`    // of its error
	Dropped  int64         `json:"dropped,omitempty"` // records of this worker that were lost before it
}

// MaxAuditSQL is how much of a statement's text an audit record holds.
const MaxAuditSQL = 4 << 10

// maxMessage is the longest message: the longest list of files to remove.
const maxMessage = 60 << 10

// ErrTooLong says that a message does not fit.
var ErrTooLong = errors.New("control message too long")

// Conn is one end of the control socket. Receive is called by one goroutine, Send by any.
type Conn struct {
	f    *os.File
	raw  syscall.RawConn
	send sync.Mutex // one message at a time
	buf  []byte
}

// NewConn takes the socket over.
func NewConn(f *os.File) (*Conn, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate the control socket: %w", err)
	}
	f.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	f = os.NewFile(uintptr(fd), "control")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &Conn{f: f, raw: raw, buf: make([]byte, maxMessage)}, nil
}

// Close closes the socket; a Receive that waits ends.
func (c *Conn) Close() error { return c.f.Close() }

// Send sends a message, with a descriptor unless file is nil, which stays the caller's.
func (c *Conn) Send(m *Message, file *os.File) error { return c.sendMessage(m, file, true) }

// TrySend sends a message if the peer has room for it, and tells whether it did.
func (c *Conn) TrySend(m *Message) bool { return c.sendMessage(m, nil, false) == nil }

func (c *Conn) sendMessage(m *Message, file *os.File, wait bool) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	if len(b) > maxMessage {
		return ErrTooLong
	}
	c.send.Lock()
	defer c.send.Unlock()
	var opErr error
	emit := func(oob []byte) error {
		err := c.raw.Write(func(fd uintptr) bool {
			opErr = unix.Sendmsg(int(fd), b, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
			return !wait || opErr != unix.EAGAIN
		})
		if err == nil {
			err = opErr
		}
		return err
	}
	if file == nil {
		err = emit(nil)
	} else {
		err = control(file, func(fd int) error { return emit(unix.UnixRights(fd)) })
	}
	if err != nil {
		return fmt.Errorf("send control message: %w", err)
	}
	return nil
}

// control calls fn with the file's descriptor without changing its mode.
func control(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// Receive waits for the next message. It returns io.EOF when the peer has gone.
func (c *Conn) Receive() (*Message, *os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	var opErr error
	err := c.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, opErr = unix.Recvmsg(int(fd), c.buf, oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		return opErr != unix.EAGAIN && opErr != unix.EINTR
	})
	if err == nil {
		err = opErr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("receive control message: %w", err)
	}
	if n == 0 {
		return nil, nil, io.EOF
	}
	var file *os.File
	if oobn > 0 {
		if file, err = receivedFile(oob[:oobn]); err != nil {
			return nil, nil, err
		}
	}
	m := new(Message)
	if err := json.Unmarshal(c.buf[:n], m); err != nil {
		if file != nil {
			file.Close()
		}
		return nil, nil, fmt.Errorf("control message: %w", err)
	}
	return m, file, nil
}

func receivedFile(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("control message: %d parts of ancillary data: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("control message: %d descriptors: %w", len(fds), err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, fmt.Errorf("control message: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "channel"), nil
}
