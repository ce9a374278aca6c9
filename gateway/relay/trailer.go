package relay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"

	"github.com/facetgateway/fgw/sdk/wire"
)

// longTrailers reads the trailers of an answer whose body ended with err because they are longer than the stream's buffer, which is
// what net/http takes, and reports whether they are whole. A buffer of 64 KiB for each stream, of which few have trailers
// at all, is not worth having; and what net/http left of them in the buffer is parsed by what it would have parsed it by.
// The stream carries no other request afterwards.
func (x *exchange) longTrailers(resp *http.Response, err error) error {
	br := x.st.br
	if br.Buffered() < br.Size() {
		return err
	}
	// A body that broke off before its end tells the same again; one whose trailers could not be read takes itself for closed.
	if _, after := resp.Body.Read(make([]byte, 1)); !errors.Is(after, http.ErrBodyReadAfterClose) {
		return err
	}
	come, _ := br.Peek(br.Size())
	x.st.left = wire.MaxHeadBytes - len(come)
	trailers, err := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(come), x.st))).ReadMIMEHeader()
	spent := x.st.left == 0
	x.st.unlimit()
	switch {
	case err != nil && spent: // however the parser took the end
		return fmt.Errorf("%w: trailers of more than %d bytes", ErrProtocol, wire.MaxHeadBytes)
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	}
	if resp.Trailer == nil {
		resp.Trailer = http.Header{}
	}
	for name, values := range trailers {
		resp.Trailer[name] = values
	}
	return nil
}
