package relay

import (
	"fmt"
	"io"
	"net/http"
	"time"

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

// dropTime is how long that answer may take once the facet was told that the other is through.
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
	x.st.readBefore(time.Now().Add(dropTime))
	x.st.limitHead()
	final, rerr := http.ReadResponse(x.st.br, x.r)
	x.st.unlimit()
	if rerr != nil {
		return false, nil // the client has its answer; only the stream is lost
	}
	n, rerr := io.CopyN(io.Discard, final.Body, maxDropped)
	x.st.readBefore(time.Time{})
	return rerr == io.EOF && n < maxDropped && !final.Close && final.StatusCode >= 200, nil
}
