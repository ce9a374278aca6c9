package bundle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// Why a file can't run as a facet.
var (
	ErrNotExecutable = errors.New("not an executable for this machine")
	ErrDynamic       = errors.New("the executable needs a dynamic loader")
)

// Numbers of the ELF format that Check looks at.
const (
	elfHeaderSize  = 64
	progHeaderSize = 56
	maxProgHeaders = 128 // a Go program has about ten
	typeExec       = 2
	typeDyn        = 3
	progLoad       = 1
	progInterp     = 3
)

// machines maps Go's architectures to ELF's numbers.
var machines = map[string]uint16{"386": 3, "arm": 40, "amd64": 62, "arm64": 183, "riscv64": 243, "ppc64le": 21, "s390x": 22, "loong64": 258}

// CheckFile is Check of the file at path.
func CheckFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check executable: %w", err)
	}
	defer f.Close()
	return Check(f)
}

// Check tells whether a file is a static 64-bit executable for this machine. It
// reads the headers alone: the file comes from outside, and everything else in
// it is the confined process's own affair.
func Check(r io.ReaderAt) error {
	return checkFor(r, runtime.GOARCH)
}

func checkFor(r io.ReaderAt, arch string) error {
	var h [elfHeaderSize]byte
	n, err := r.ReadAt(h[:], 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("check executable: %w", err)
	}
	if what := kindOf(h[:n]); what != "" {
		return fmt.Errorf("%w: it is %s", ErrNotExecutable, what)
	}
	// Class 2 is 64-bit, data 1 little-endian.
	if h[4] != 2 || h[5] != 1 {
		return fmt.Errorf("%w: it is not a 64-bit little-endian one (GOARCH=%s)", ErrNotExecutable, arch)
	}
	if m := binary.LittleEndian.Uint16(h[18:]); m != machines[arch] {
		return fmt.Errorf("%w: it was built for %s, this machine is %s: build it with GOOS=linux GOARCH=%s", ErrNotExecutable, machineName(m), arch, arch)
	}
	if t := binary.LittleEndian.Uint16(h[16:]); t != typeExec && t != typeDyn {
		return fmt.Errorf("%w: it is an object file or a core dump", ErrNotExecutable)
	}
	return checkSegments(r, h[:])
}

// checkSegments looks for something to load and for an interpreter. A static
// position-independent executable is of type DYN, has a dynamic section and no
// interpreter; so has a shared library, but that has no entry point.
func checkSegments(r io.ReaderAt, h []byte) error {
	entry := binary.LittleEndian.Uint64(h[24:])
	offset := binary.LittleEndian.Uint64(h[32:])
	size := int(binary.LittleEndian.Uint16(h[54:]))
	count := int(binary.LittleEndian.Uint16(h[56:]))
	if entry == 0 {
		return fmt.Errorf("%w: it is a library", ErrNotExecutable)
	}
	if size != progHeaderSize || count == 0 || count > maxProgHeaders || offset > 1<<62 {
		return fmt.Errorf("%w: its program headers are damaged", ErrNotExecutable)
	}
	headers := make([]byte, count*progHeaderSize)
	if _, err := r.ReadAt(headers, int64(offset)); err != nil {
		return fmt.Errorf("%w: it is cut short", ErrNotExecutable)
	}
	loads := 0
	for ; len(headers) > 0; headers = headers[progHeaderSize:] {
		switch binary.LittleEndian.Uint32(headers) {
		case progLoad:
			loads++
			at, n := binary.LittleEndian.Uint64(headers[8:]), binary.LittleEndian.Uint64(headers[32:])
			if n > 0 && !holds(r, at, n) {
				return fmt.Errorf("%w: it is cut short", ErrNotExecutable)
			}
		case progInterp:
			return fmt.Errorf("%w, which a sandbox does not have: build it with CGO_ENABLED=0", ErrDynamic)
		}
	}
	if loads == 0 {
		return fmt.Errorf("%w: it has nothing to load", ErrNotExecutable)
	}
	return nil
}

// holds tells whether the file has n bytes at an offset.
func holds(r io.ReaderAt, at, n uint64) bool {
	last := at + n - 1
	if last < at || last > 1<<62 {
		return false
	}
	var b [1]byte
	got, _ := r.ReadAt(b[:], int64(last))
	return got == 1
}

// kindOf tells what a file is that is no ELF file; empty for one that is.
func kindOf(h []byte) string {
	switch {
	case len(h) == 0:
		return "an empty file"
	case bytes.HasPrefix(h, []byte("#!")):
		return "a script"
	case bytes.HasPrefix(h, []byte("MZ")):
		return "a Windows executable: build it with GOOS=linux"
	case bytes.HasPrefix(h, []byte("\xcf\xfa\xed\xfe")), bytes.HasPrefix(h, []byte("\xca\xfe\xba\xbe")):
		return "a macOS executable: build it with GOOS=linux"
	case !bytes.HasPrefix(h, []byte("\x7fELF")):
		return "no ELF file"
	case len(h) < elfHeaderSize:
		return "an ELF file that is cut short"
	}
	return ""
}

func machineName(m uint16) string {
	for name, n := range machines {
		if n == m {
			return name
		}
	}
	return fmt.Sprintf("ELF machine %d", m)
}
