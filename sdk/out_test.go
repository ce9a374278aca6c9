package sdk

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire"
)

// answering gives calls whose other end takes so many bytes of the code and then answers a.
func answering(t *testing.T, bytes int64, a *wire.Answer) *outside {
	return newOutside(func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { ours.Close(); theirs.Close() })
		go func() {
			if _, err := wire.ReadKind(theirs); err != nil {
				return
			}
			if _, err := wire.ReadMessage(theirs); err != nil {
				return
			}
			io.CopyN(io.Discard, theirs, bytes)
			body, _ := json.Marshal(a)
			theirs.Write(append([]byte{0, 0, byte(len(body) >> 8), byte(len(body))}, body...))
		}()
		return ours, nil
	}, 3)
}

// A refusal that comes before the code was taken is told; so is a code that can't be read.
func TestAnswerBeforeTheCodeIsTaken(t *testing.T) {
	c := &wire.Call{Op: wire.OpCheck, Code: &wire.Code{Kind: wire.CodeSource, Size: 1 << 20}}
	refused := answering(t, 1000, &wire.Answer{Error: &wire.Problem{Code: "overloaded", Message: "no room"}})
	var f *FacetError
	if _, err := refused.ask(t.Context(), c, strings.NewReader(strings.Repeat("x", 1<<20))); !errors.As(err, &f) || f.Code != "overloaded" || !errors.Is(err, ErrLimit) {
		t.Errorf("refused: %v", err)
	}
	taken := answering(t, 1<<20, &wire.Answer{})
	if _, err := taken.ask(t.Context(), c, strings.NewReader(strings.Repeat("x", 1<<20))); err != nil {
		t.Errorf("taken: %v", err)
	}
	broken := errors.New("broken")
	if _, err := taken.ask(t.Context(), c, io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) { return 0, broken }))); !errors.Is(err, broken) {
		t.Errorf("a code that can't be read: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
