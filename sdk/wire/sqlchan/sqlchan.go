// Package sqlchan is the codec of the SQL channel between a facet and a SQL
// worker. SPEC.md beside it fixes every byte. The package has no goroutine: the facet's driver and the worker
// each bring their own; both speak over a Socket.
//
// Both ends decode what an untrusted or restarted peer sent, so every length is
// checked against what is there before anything is allocated by it.
package sqlchan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Limits of the channel (SPEC §1, §2).
const (
	MaxPacket   = 64 << 10
	HeaderSize  = 12
	MaxMessage  = 8 << 20
	MaxSessions = 16
	MaxPipeline = 8
	MaxArgs     = 32766
	MaxColumns  = 2000
)

// Type is the kind of a message.
type Type byte

// Requests (SPEC §2).
const (
	Exec     Type = 1
	Query    Type = 2
	Prepare  Type = 3
	Begin    Type = 4
	Commit   Type = 5
	Rollback Type = 6
	Credit   Type = 7
	Cancel   Type = 8
	Close    Type = 9
	Builtin  Type = 10

	// BatchRequests is BATCH from the client: several messages in one packet (SPEC §1).
	BatchRequests Type = 11
)

// Answers (SPEC §3).
const (
	Done     Type = 129
	Columns  Type = 130
	Rows     Type = 131
	Prepared Type = 132
	Error    Type = 133
	Reset    Type = 134

	// WholeResult is RESULT: Columns, one Rows and Done in one packet. (Result is the payload of Done.)
	WholeResult Type = 135

	// BatchAnswers is BATCH from the server.
	BatchAnswers Type = 136
)

// Modes of Begin.
const (
	Immediate byte = 0
	ReadOnly  byte = 1
)

// Numbers of the built-in statements (SPEC §5).
const (
	KVGet       = 1
	KVPut       = 2
	KVDelete    = 3
	KVList      = 4
	AlarmSet    = 5
	AlarmGet    = 6
	AlarmDelete = 7
)

// Flags of a header.
const (
	// More says that the payload goes on in another packet.
	More = 1
	// BeginImmediate and BeginReadOnly, with Exec, Query or Builtin, begin a transaction first,
	// as Begin does in those modes; each packet of the message has the flag.
	BeginImmediate = 4
	BeginReadOnly  = 8
)

// Error codes (SPEC §4).
const (
	CodeSQL              = "sql_error"
	CodeConstraint       = "constraint"
	CodeDenied           = "denied"
	CodeStatementTimeout = "statement_timeout"
	CodeCancelled        = "cancelled"
	CodeBusy             = "busy"
	CodeMemoryLimit      = "memory_limit"
	CodeResultLimit      = "result_limit"
	CodeSizeLimit        = "size_limit"
	CodeStorageQuota     = "storage_quota"
	CodeDiskFull         = "disk_full"
	CodeTooManySessions  = "too_many_sessions"
	CodeTooManyRequests  = "too_many_requests"
	CodeTxIdle           = "tx_idle"
	CodeCommitUnknown    = "commit_unknown"
	CodeCorrupt          = "corrupt"
	CodeNoDatabase       = "no_database"
	CodeProtocol         = "protocol"
	CodeInternal         = "internal"
)

// ErrMalformed is wrapped by every decoding error.
var ErrMalformed = errors.New("malformed SQL channel message")

// Header begins every packet.
type Header struct {
	Type    Type
	Flags   byte
	Session uint16
	Request uint32
	Epoch   uint32
}

// Append appends the header's 12 bytes.
func (h Header) Append(b []byte) []byte {
	b = append(b, byte(h.Type), h.Flags)
	b = binary.LittleEndian.AppendUint16(b, h.Session)
	b = binary.LittleEndian.AppendUint32(b, h.Request)
	return binary.LittleEndian.AppendUint32(b, h.Epoch)
}

// ParseHeader splits a packet into its header and payload.
func ParseHeader(p []byte) (Header, []byte, error) {
	if len(p) < HeaderSize || len(p) > MaxPacket {
		return Header{}, nil, fmt.Errorf("packet of %d bytes: %w", len(p), ErrMalformed)
	}
	h := Header{Type(p[0]), p[1], binary.LittleEndian.Uint16(p[2:]), binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint32(p[8:])}
	switch h.Flags &^ More {
	case 0:
	case BeginImmediate, BeginReadOnly:
		if h.Type == Exec || h.Type == Query || h.Type == Builtin {
			break
		}
		fallthrough
	default:
		return Header{}, nil, fmt.Errorf("flags %#x of type %d: %w", h.Flags, h.Type, ErrMalformed)
	}
	return h, p[HeaderSize:], nil
}

// AppendPart appends a packet to a batch's payload.
func AppendPart(b []byte, packet []byte) []byte { return AppendText(b, packet) }

// CutPart splits the first message off a batch's payload, which is not empty.
func CutPart(payload []byte) (h Header, message, rest []byte, err error) {
	r := Reader{b: payload}
	packet := r.Bytes()
	if r.err != nil {
		return Header{}, nil, nil, r.err
	}
	if h, message, err = ParseHeader(packet); err != nil {
		return Header{}, nil, nil, err
	}
	if h.Flags&More != 0 || h.Type == BatchRequests || h.Type == BatchAnswers || h.Type == Reset {
		return Header{}, nil, nil, fmt.Errorf("type %d with flags %#x in a batch: %w", h.Type, h.Flags, ErrMalformed)
	}
	return h, message, r.b, nil
}

// Split calls send with each packet of the message, with More where it is due; the slice is valid during the call only.
// buf is scratch space, at least MaxPacket of capacity to avoid allocation.
func Split(h Header, payload, buf []byte, send func(packet []byte) error) error {
	if len(payload) > MaxMessage {
		return fmt.Errorf("message of %d bytes (at most %d): %w", len(payload), MaxMessage, ErrMalformed)
	}
	for {
		n := min(len(payload), MaxPacket-HeaderSize)
		h.Flags &^= More
		if n < len(payload) {
			h.Flags |= More
		}
		if err := send(append(h.Append(buf[:0]), payload[:n]...)); err != nil {
			return err
		}
		payload = payload[n:]
		if h.Flags&More == 0 {
			return nil
		}
	}
}

// ValueKind is the first byte of a value.
type ValueKind byte

// The kinds of values, SQLite's five.
const (
	Null    ValueKind = 0
	Integer ValueKind = 1
	Real    ValueKind = 2
	Text    ValueKind = 3
	Blob    ValueKind = 4
)

// Arg is an argument of a statement. Value is nil, int64, float64, string or []byte.
type Arg struct {
	Name  string
	Value any
}

// AppendText appends a length and the bytes.
func AppendText[T ~string | ~[]byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// AppendValue appends v, which must be nil, int64, float64, string or []byte.
func AppendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, byte(Null)), nil
	case int64:
		return AppendInteger(b, v), nil
	case float64:
		return AppendReal(b, v), nil
	case string:
		return AppendText(append(b, byte(Text)), v), nil
	case []byte:
		return AppendText(append(b, byte(Blob)), v), nil
	}
	return b, fmt.Errorf("a %T is no SQL value", v)
}

// AppendInteger appends an INTEGER.
func AppendInteger(b []byte, v int64) []byte {
	return binary.AppendVarint(append(b, byte(Integer)), v)
}

// AppendReal appends a REAL.
func AppendReal(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(append(b, byte(Real)), math.Float64bits(v))
}

// AppendArgs appends the arguments of a statement.
func AppendArgs(b []byte, args []Arg) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(args)))
	for i, a := range args {
		b = AppendText(b, a.Name)
		var err error
		if b, err = AppendValue(b, a.Value); err != nil {
			return b, fmt.Errorf("argument %d: %w", i+1, err)
		}
	}
	return b, nil
}

// Reader decodes a payload. After the first error every method returns zero
// values and Err tells it.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads payload, which it does not copy: texts and blobs taken with Bytes share its memory.
func NewReader(payload []byte) *Reader { return &Reader{b: payload} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// End returns the first error, or one if bytes are left over.
func (r *Reader) End() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes left over")
	}
	return r.err
}

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.b) }

func (r *Reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	r.b = nil
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.fail("short message")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// Uvarint reads an unsigned number.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Varint reads a signed number.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Bytes reads a text without copying it.
func (r *Reader) Bytes() []byte {
	n := r.Uvarint()
	if n > uint64(len(r.b)) {
		r.fail("length past the end")
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// Text reads a text.
func (r *Reader) Text() string { return string(r.Bytes()) }

// Value reads a value; a BLOB is copied, so that it may outlive the message.
func (r *Reader) Value() any {
	switch kind := ValueKind(r.Byte()); kind {
	case Null:
		return nil
	case Integer:
		return r.Varint()
	case Real:
		if len(r.b) < 8 {
			r.fail("short number")
			return nil
		}
		v := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
		r.b = r.b[8:]
		return v
	case Text:
		return r.Text()
	case Blob:
		return append([]byte{}, r.Bytes()...)
	default:
		r.fail(fmt.Sprintf("value of kind %d", kind))
		return nil
	}
}

// Args reads the arguments of a statement.
func (r *Reader) Args() []Arg {
	n := r.Uvarint()
	if n > MaxArgs || n > uint64(len(r.b)) { // each takes two bytes at least
		r.fail("too many arguments")
		return nil
	}
	if n == 0 {
		return nil
	}
	args := make([]Arg, 0, n)
	for range n {
		args = append(args, Arg{Name: r.Text(), Value: r.Value()})
		if r.err != nil {
			return nil
		}
	}
	return args
}

// Column is a result column: its name and the type it was declared with ("" for an expression).
type Column struct{ Name, DeclType string }

// AppendColumns appends a result's columns.
func AppendColumns(b []byte, cols []Column) []byte {
	b = binary.AppendUvarint(b, uint64(len(cols)))
	for _, c := range cols {
		b = AppendText(AppendText(b, c.Name), c.DeclType)
	}
	return b
}

// Columns reads a result's columns.
func (r *Reader) Columns() []Column {
	n := r.Uvarint()
	if n > MaxColumns || n > uint64(len(r.b)) {
		r.fail("too many columns")
		return nil
	}
	cols := make([]Column, 0, n)
	for range n {
		cols = append(cols, Column{r.Text(), r.Text()})
	}
	return cols
}

// Failure is the payload of an Error message, and the error that a client returns.
type Failure struct {
	InTx    bool   // the session's transaction is still open
	Code    string // SPEC §4
	SQLite  int    // the extended result code, 0 where SQLite had no part
	Offset  int    // of the error in the SQL text, -1 unknown
	Message string
}

func (f *Failure) Error() string { return f.Message }

// AppendFailure appends an Error's payload.
func AppendFailure(b []byte, f *Failure) []byte {
	b = append(b, boolByte(f.InTx))
	b = AppendText(b, f.Code)
	b = binary.AppendVarint(b, int64(f.SQLite))
	b = binary.AppendVarint(b, int64(f.Offset))
	return AppendText(b, f.Message)
}

// Failure reads an Error's payload.
func (r *Reader) Failure() *Failure {
	return &Failure{InTx: r.Byte() != 0, Code: r.Text(), SQLite: int(r.Varint()), Offset: int(r.Varint()), Message: r.Text()}
}

// Result is the payload of Done.
type Result struct {
	InTx         bool
	RowsAffected int64
	LastInsertID int64
}

// AppendResult appends Done's payload.
func AppendResult(b []byte, d Result) []byte {
	b = append(b, boolByte(d.InTx))
	b = binary.AppendVarint(b, d.RowsAffected)
	return binary.AppendVarint(b, d.LastInsertID)
}

// Result reads Done's payload.
func (r *Reader) Result() Result {
	return Result{r.Byte() != 0, r.Varint(), r.Varint()}
}

// AppendWholeResult appends a whole result's payload, of the payloads of Columns and Rows. A result without rows
// has rows of one zero byte.
func AppendWholeResult(b []byte, d Result, columns, rows []byte) []byte {
	return append(AppendText(AppendResult(b, d), columns), rows...)
}

// WholeResult reads a whole result: what Done tells and the payload of Columns, not copied. The payload of
// Rows is what the reader reads next.
func (r *Reader) WholeResult() (d Result, columns []byte) {
	return r.Result(), r.Bytes()
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
