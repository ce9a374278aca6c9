package relay

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// HandedOver wraps an error of the facet that a request was handed over to: what it says of a
// facet is said of that one, and is explained already.
type HandedOver struct{ Err error }

func (e *HandedOver) Error() string { return e.Err.Error() }
func (e *HandedOver) Unwrap() error { return e.Err }

// maxDropped is how much of the answer of a facet that handed its request over is
// read and dropped before its stream is given up instead.
const maxDropped = 64 << 10

// dropTime is how long that answer may take to begin once the facet was told that the other is through, and to end.
const dropTime = 5 * time.Second

// handover serves the request from the facet that this one names. Its body, unless
// there is none, has not been asked for, and goes to the other untouched.
func (x *exchange) handover(resp *http.Response) (again bool, err error) {
	if x.up != nil && !x.up.abandon() {
		return false, fmt.Errorf("%w: it hands a request over whose body it has begun to read", ErrProtocol)
	}
	extra := http.Header{}
	copyHeader(extra, resp.Header)
	if err = x.o.Handover(x.w, x.r, resp.Header.Get(wire.HeaderHandover), extra); err != nil {
		err = &HandedOver{err}
	}
	// Whatever came of it, the facet's handler waits for this byte.
	if _, werr := x.st.raw.Write([]byte{0}); werr != nil || err != nil {
		return false, err
	}
	// Its answer is of no use to anybody: it is dropped when the stream is wanted again.
	x.st.owes, x.st.asked = time.Now(), &http.Request{Method: x.r.Method}
	return true, nil
}

// paid reads and drops the answer that a facet which handed its request over still owes. It reports whether the stream
// can carry another request; where the answer has not even begun, it says so by an error, and that can be asked again.
func (st *stream) paid() (bool, error) {
	late := time.Since(st.owes) > dropTime
	st.readBefore(time.Now())
	_, err := st.br.Peek(1)
	if errors.Is(err, yamux.ErrTimeout) && !late {
		return false, errOwes
	}
	if err != nil {
		return false, nil // the client has its answer; only the stream is lost
	}
	st.readBefore(time.Now().Add(dropTime))
	st.limitHead()
	final, err := http.ReadResponse(st.br, st.asked)
	st.unlimit()
	if err != nil {
		return false, nil
	}
	n, err := io.CopyN(io.Discard, final.Body, maxDropped)
	st.readBefore(time.Time{})
	st.owes = time.Time{}
	return err == io.EOF && n < maxDropped && !final.Close && final.StatusCode >= 200 && st.br.Buffered() == 0, nil
}

// errOwes means that an answer that is owed has not begun yet.
var errOwes = errors.New("the facet has not answered yet")
