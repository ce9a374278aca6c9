package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// HandedOver wraps an error of the facet that a request was handed over to: what it says of a
// facet is said of that one, and is explained already.
type HandedOver struct{ Err error }

func (e *HandedOver) Error() string { return e.Err.Error() }
func (e *HandedOver) Unwrap() error { return e.Err }

// dropTime is how long a facet's own answer may take once it was told that the other is through.
const dropTime = 5 * time.Second

// handover serves the request from the facet that this one names. Its body, unless
// there is none, has not been asked for, and goes to the other untouched.
func (x *exchange) handover(resp *http.Response) (again bool, err error) {
	if x.up != nil && !x.up.abandon() {
		return false, fmt.Errorf("%w: it hands a request over whose body it has begun to read", ErrProtocol)
	}
	quiet := x.up == nil && resp.Header.Get(wire.HeaderQuiet) != ""
	extra := http.Header{}
	copyHeader(extra, resp.Header)
	if err = x.o.Handover(x.w, x.r, resp.Header.Get(wire.HeaderHandover), extra); err != nil {
		err = &HandedOver{err}
	}
	// Whatever came of it, the facet's handler waits for this byte.
	until := time.Now().Add(dropTime)
	x.st.raw.SetWriteDeadline(until)
	defer x.st.raw.SetWriteDeadline(time.Time{})
	if _, werr := x.session.send(context.WithoutCancel(x.r.Context()), until, x.st.raw, []byte{0}); werr != nil || err != nil {
		return false, err
	}
	if quiet {
		return true, nil
	}
	// Its answer is of no use to anybody: it is dropped when the stream is wanted again.
	x.st.owes, x.st.asked = time.Now(), &http.Request{Method: x.r.Method}
	return true, nil
}

// paid drops the answer that a facet which handed its request over still owes, and reports whether the stream can carry another
// request. Nobody waits for it: where it has not come as a whole, paid says so by an error, and can be asked again.
func (st *stream) paid() (bool, error) {
	st.readBefore(time.Now()) // which is past by the time anything is waited for
	come, err := st.br.Peek(headSize)
	if err == nil || !errors.Is(err, yamux.ErrTimeout) {
		return false, nil // too long, or lost: the client has its answer, so only the stream goes
	}
	st.readBefore(time.Time{})
	src := bytes.NewReader(come)
	r := droppers.Get().(*bufio.Reader)
	defer droppers.Put(r)
	r.Reset(src)
	answer, err := http.ReadResponse(r, st.asked)
	if err == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if time.Since(st.owes) > dropTime {
			return false, nil
		}
		return false, errOwes
	case err != nil || answer.Close || answer.StatusCode < 200 || r.Buffered()+src.Len() > 0:
		return false, nil
	}
	st.br.Discard(len(come))
	st.owes, st.asked = time.Time{}, nil
	return true, nil
}

var droppers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 512) }}

// errOwes means that an answer that is owed has not begun yet.
var errOwes = errors.New("the facet has not answered yet")
