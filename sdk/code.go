package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Code is what a facet runs: made by Source, Executable or App.
type Code struct {
	head wire.Code
	body func() (io.Reader, int64, error) // nil: none
}

// Source is code as text: file names, with slashes, and their contents. One file, main.go, is enough: a go.mod is made
// where there is none, and the SDK is there. Imports are the standard library, the SDK, and modules that the
// administrator allowed. At most 1,000 files and 16 MiB in all. The gateway builds it in a sandbox, once for the same text, and keeps the result.
func Source(files map[string]string) Code {
	return Code{wire.Code{Kind: wire.CodeSource}, func() (io.Reader, int64, error) {
		size := 0
		for name, text := range files {
			size += len(name) + len(text)
		}
		if size > wire.MaxSource { // before it is copied: this process has its own limit of memory
			return nil, 0, tooLarge(size)
		}
		text, err := json.Marshal(files)
		if err != nil {
			return nil, 0, err
		}
		if len(text) > wire.MaxSource {
			return nil, 0, tooLarge(len(text))
		}
		return bytes.NewReader(text), int64(len(text)), nil
	}}
}

// codeBuildFailed is the code of an error for a source that its author has to mend.
const codeBuildFailed = "build_failed"

func tooLarge(size int) error {
	return &FacetError{Code: codeBuildFailed, Message: fmt.Sprintf("a source of %d bytes; at most %d are allowed", size, wire.MaxSource)}
}

// Executable is code that was built elsewhere: a static executable for the gateway's kind of machine, made with
// CGO_ENABLED=0, of at most 512 MiB. It is read once, when an instance starts; a reader that can say how much is left (Len, or Seek) is
// streamed, any other is read into memory first.
func Executable(r io.Reader) Code {
	return Code{wire.Code{Kind: wire.CodeExecutable}, func() (io.Reader, int64, error) {
		n, err := left(r)
		if err == nil && n >= 0 {
			return r, n, nil
		}
		b, err := io.ReadAll(io.LimitReader(r, wire.MaxExecutable+1))
		if err != nil {
			return nil, 0, fmt.Errorf("read the executable: %w", err)
		}
		if len(b) > wire.MaxExecutable {
			return nil, 0, &FacetError{Code: "body_too_large", Message: fmt.Sprintf("an executable of more than %d bytes", wire.MaxExecutable)}
		}
		return bytes.NewReader(b), int64(len(b)), nil
	}}
}

// left is how many bytes a reader still has, -1 where it can't tell.
func left(r io.Reader) (int64, error) {
	switch r := r.(type) {
	case interface{ Len() int }:
		return int64(r.Len()), nil
	case io.Seeker:
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return -1, err
		}
		end, err := r.Seek(0, io.SeekEnd)
		if err != nil {
			return -1, err
		}
		_, err = r.Seek(at, io.SeekStart)
		return end - at, err
	}
	return -1, nil
}

// App is the code of an app that was deployed to the namespace: its version, 0 for the one that is live.
func App(name string, version int) Code {
	return Code{head: wire.Code{Kind: wire.CodeApp, App: name, Version: version}}
}

// open gives the code as it travels.
func (c Code) open() (wire.Code, io.Reader, error) {
	if c.head.Kind == "" {
		return c.head, nil, errors.New("no code: Start.Code is one of Source, Executable and App")
	}
	if c.body == nil {
		return c.head, nil, nil
	}
	r, n, err := c.body()
	head := c.head
	head.Size = n
	return head, r, err
}
