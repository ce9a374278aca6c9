// Package wire is the protocol between the gateway and a facet: descriptors,
// handshake, stream kinds, control and log frames, and the framing of yamux on
// the socket. SPEC.md fixes every byte; both ends use this package, so it
// trusts nothing it reads and sizes nothing by what a peer says without a bound.
package wire

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Descriptors that a facet starts with (SPEC §1).
const (
	FDWire = 3
	FDSQL  = 4
)

// EnvWire is set to "1" in the environment of a process that runs inside a gateway.
const EnvWire = "FGW_WIRE"

// Versions that this package speaks.
const (
	MinVersion = 1
	MaxVersion = 1
)

// Limits of the wire (SPEC §2, §5–§7, §9).
const (
	MaxStartBytes   = 1<<20 + 64<<10 // env and secrets of 1 MiB, and room for the rest
	MaxFrameBytes   = 64 << 10       // a control or log frame, a call's head
	MaxHeadBytes    = 64 << 10       // an HTTP head
	MaxInformal     = 8              // 1xx answers to one request
	Window          = 256 << 10      // yamux's floor for a stream's window
	MaxStreams      = 256            // open streams of one facet, both directions
	MaxOwnStreams   = 32             // streams a facet without children may open
	MaxOwnStreamsUp = 192            // and one with children
	MaxSessions     = 16             // SQL sessions of one facet
	maxRefusal      = 1024           // the text with which a facet refuses the versions offered
)

// StreamKind is the first byte of every stream.
type StreamKind byte

// The kinds of streams (SPEC §4).
const (
	StreamControl StreamKind = 1
	StreamHTTP    StreamKind = 2
	StreamEvent   StreamKind = 4
	StreamLog     StreamKind = 0x81
	StreamOut     StreamKind = 0x82
)

// FrameType is the type of a control frame (SPEC §5).
type FrameType byte

// The control frames.
const (
	FrameReady   FrameType = 1
	FrameFailed  FrameType = 2
	FrameStopped FrameType = 3
	FrameStop    FrameType = 16
)

// Start tells a new process which facet it is (SPEC §3). Names are bytes.
type Start struct {
	Namespace   string            `json:"namespace"`
	Object      string            `json:"object"`
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	App         string            `json:"app,omitempty"`
	Version     int               `json:"version,omitempty"`
	Bundle      string            `json:"bundle,omitempty"`
	Entry       string            `json:"entry,omitempty"`
	Props       json.RawMessage   `json:"props,omitempty"`
	Env         map[string]string `json:"env,omitempty"`
	Secrets     map[string]string `json:"secrets,omitempty"`
	Services    []string          `json:"services,omitempty"`
	Egress      bool              `json:"egress,omitempty"`
	Database    bool              `json:"database"`
	Children    bool              `json:"children,omitempty"`
	Root        bool              `json:"root,omitempty"`
	MaxStreams  int               `json:"max_streams"`
	MaxSessions int               `json:"max_sessions"`
	Limits      Limits            `json:"limits,omitzero"`
}

// Failed is the body of FrameFailed: why start did not return a handler.
type Failed struct {
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
	Panic   bool   `json:"panic,omitempty"`
}

// Stop is the body of FrameStop.
type Stop struct {
	Reason  string `json:"reason"`
	GraceMS int    `json:"grace_ms"`
}

// LogRecord is one structured record of a facet (SPEC §7). Attrs keeps its order.
type LogRecord struct {
	Time      string          `json:"time"`
	Level     string          `json:"level"`
	Message   string          `json:"message"`
	Attrs     json.RawMessage `json:"attrs,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
}

// Errors of the handshake and of frames.
var (
	// ErrNotFacet means that the peer's first bytes are not this protocol's.
	ErrNotFacet = errors.New("the process does not speak the facet wire: is it an app that calls sdk.Serve?")
	// ErrVersion means that no version is spoken by both ends.
	ErrVersion = errors.New("no common version of the facet wire")
	// ErrTooLarge means that a frame or message is over its limit.
	ErrTooLarge = errors.New("frame over its limit")
)

var (
	magicGateway = [4]byte{'F', 'G', 'W', 1}
	magicFacet   = [4]byte{'F', 'G', 'W', 2}
)

// startJSON carries what Start cannot say in JSON: names that are not UTF-8.
type startJSON struct {
	*startAlias
	ObjectB64 string `json:"object_b64,omitempty"`
	NameB64   string `json:"name_b64,omitempty"`
	IDB64     string `json:"id_b64,omitempty"`
}

type startAlias Start

// AppendStart appends the gateway's side of the handshake to b.
func AppendStart(b []byte, s *Start) ([]byte, error) {
	a := startAlias(*s)
	j := startJSON{startAlias: &a}
	for _, f := range []struct{ plain, b64 *string }{{&a.Object, &j.ObjectB64}, {&a.Name, &j.NameB64}, {&a.ID, &j.IDB64}} {
		if !utf8.ValidString(*f.plain) {
			*f.b64, *f.plain = base64.StdEncoding.EncodeToString([]byte(*f.plain)), ""
		}
	}
	body, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("encode the start message: %w", err)
	}
	if len(body) > MaxStartBytes {
		return nil, fmt.Errorf("start message of %d bytes (at most %d): %w", len(body), MaxStartBytes, ErrTooLarge)
	}
	b = append(b, magicGateway[:]...)
	b = binary.BigEndian.AppendUint16(b, MinVersion)
	b = binary.BigEndian.AppendUint16(b, MaxVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...), nil
}

// ReadStart reads the gateway's side of the handshake and chooses a version.
// Where there is none in common it returns ErrVersion, for RefuseStart to tell.
func ReadStart(r io.Reader) (*Start, int, error) {
	var h [12]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, 0, fmt.Errorf("read the start message: %w", err)
	}
	if [4]byte(h[:4]) != magicGateway {
		return nil, 0, errors.New("read the start message: this is not a gateway")
	}
	low, high := int(binary.BigEndian.Uint16(h[4:])), int(binary.BigEndian.Uint16(h[6:]))
	n := binary.BigEndian.Uint32(h[8:])
	if n > MaxStartBytes {
		return nil, 0, fmt.Errorf("start message of %d bytes: %w", n, ErrTooLarge)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, 0, fmt.Errorf("read the start message: %w", err)
	}
	version := min(high, MaxVersion)
	if version < low || version < MinVersion {
		return nil, 0, fmt.Errorf("the gateway speaks %d to %d, this SDK %d to %d: %w", low, high, MinVersion, MaxVersion, ErrVersion)
	}
	var a startAlias
	j := startJSON{startAlias: &a}
	if err := json.Unmarshal(body, &j); err != nil {
		return nil, 0, fmt.Errorf("decode the start message: %w", err)
	}
	for _, f := range []struct{ plain, b64 *string }{{&a.Object, &j.ObjectB64}, {&a.Name, &j.NameB64}, {&a.ID, &j.IDB64}} {
		if *f.b64 != "" {
			raw, err := base64.StdEncoding.DecodeString(*f.b64)
			if err != nil {
				return nil, 0, fmt.Errorf("decode the start message: %w", err)
			}
			*f.plain = string(raw)
		}
	}
	return (*Start)(&a), version, nil
}

// WriteAnswer writes the facet's side of the handshake: the version it chose, or
// 0 and why.
func WriteAnswer(w io.Writer, version int, refusal string) error {
	if version != 0 {
		refusal = ""
	}
	if len(refusal) > maxRefusal {
		refusal = refusal[:maxRefusal]
	}
	b := append([]byte(nil), magicFacet[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint16(b, uint16(len(refusal)))
	_, err := w.Write(append(b, refusal...))
	return err
}

// ReadAnswer reads the facet's side of the handshake. It reads not a byte more,
// since yamux follows. Set a deadline on r: a facet may say nothing.
func ReadAnswer(r io.Reader) (int, error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, ErrNotFacet
		}
		return 0, err
	}
	if [4]byte(h[:4]) != magicFacet {
		return 0, ErrNotFacet
	}
	version, n := int(binary.BigEndian.Uint16(h[4:])), int(binary.BigEndian.Uint16(h[6:]))
	if n > maxRefusal || version != 0 && n != 0 {
		return 0, ErrNotFacet
	}
	if version == 0 {
		why := make([]byte, n)
		if _, err := io.ReadFull(r, why); err != nil {
			return 0, ErrNotFacet
		}
		return 0, fmt.Errorf("%w: %s", ErrVersion, why)
	}
	if version < MinVersion || version > MaxVersion {
		return 0, ErrNotFacet
	}
	return version, nil
}

// WriteKind begins a stream.
func WriteKind(w io.Writer, kind StreamKind) error {
	_, err := w.Write([]byte{byte(kind), 0, 0, 0})
	return err
}

// ReadKind reads how a stream begins; the reserved bytes must be zero.
func ReadKind(r io.Reader) (StreamKind, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	if b[1]|b[2]|b[3] != 0 {
		return 0, fmt.Errorf("stream kind %d with reserved bytes set", b[0])
	}
	return StreamKind(b[0]), nil
}

// WriteControl writes one control frame with v as its JSON.
func WriteControl(w io.Writer, t FrameType, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFrame(w, t, body)
}

func writeFrame(w io.Writer, t FrameType, body []byte) error {
	if len(body) > MaxFrameBytes {
		return fmt.Errorf("control frame of %d bytes: %w", len(body), ErrTooLarge)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(t)<<24|uint32(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// ReadControl reads one control frame, at most MaxFrameBytes of it.
func ReadControl(r io.Reader) (FrameType, []byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[:]) & 0xffffff
	body, err := readBody(r, n)
	return FrameType(h[0]), body, err
}

// WriteMessage writes v as JSON behind its length: a log record, a call's head or answer.
func WriteMessage(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > MaxFrameBytes {
		return fmt.Errorf("message of %d bytes: %w", len(body), ErrTooLarge)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// ReadMessage reads the JSON that WriteMessage wrote, at most MaxFrameBytes of it.
func ReadMessage(r io.Reader) ([]byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	return readBody(r, binary.BigEndian.Uint32(h[:]))
}

func readBody(r io.Reader, n uint32) ([]byte, error) {
	if n > MaxFrameBytes {
		return nil, fmt.Errorf("frame of %d bytes: %w", n, ErrTooLarge)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read a frame: %w", err)
	}
	return body, nil
}
