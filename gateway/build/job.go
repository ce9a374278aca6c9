package build

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A job goes to a builder as a head in JSON behind its length, and then the files' contents, one behind
// the other. The answer has the same form, with the executable behind its head.

// Bounds of what either side reads.
const (
	maxHead   = 1 << 20
	maxOutput = 128 << 10 // of the toolchain's words, in an answer: JSON may make six bytes of one
)

// file is a source file.
type file struct{ name, text string }

type fileHead struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// jobHead says what to do.
type jobHead struct {
	Warm     bool       `json:"warm,omitempty"`
	Seed     bool       `json:"seed,omitempty"`     // what the administrator's own go command has compiled already is copied
	Packages []string   `json:"packages,omitempty"` // to compile when warming
	Files    []fileHead `json:"files"`
}

type job struct {
	head  jobHead
	files []file
}

// answer is what a builder says. Nothing of it is believed without a check: see (*Builder).run.
type answer struct {
	Built  bool   `json:"built"`
	Killed bool   `json:"killed,omitempty"` // the kernel killed one of the toolchain's processes
	Output string `json:"output,omitempty"` // what the toolchain said
	Error  string `json:"error,omitempty"`  // why the builder itself failed
	Size   int64  `json:"size,omitempty"`   // of the executable that follows
}

var errHead = errors.New("malformed message")

// writeHead writes v behind its length.
func writeHead(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxHead {
		return fmt.Errorf("%w: a head of %d bytes", errHead, len(text))
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}

// readHead reads what writeHead wrote.
func readHead(r io.Reader, v any) error {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > maxHead {
		return fmt.Errorf("%w: a head of %d bytes", errHead, n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %w", errHead, err)
	}
	return nil
}

// write sends the job.
func (j *job) write(w io.Writer) error {
	for _, f := range j.files {
		j.head.Files = append(j.head.Files, fileHead{f.name, int64(len(f.text))})
	}
	if err := writeHead(w, j.head); err != nil {
		return err
	}
	for _, f := range j.files {
		if _, err := io.WriteString(w, f.text); err != nil {
			return err
		}
	}
	return nil
}
