package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// upload sends a request's body to the facet while the answer is being read.
type upload struct {
	x      *exchange
	ctx    context.Context
	held   bool          // wait for ask before the first byte
	ask    chan struct{} // closed when the facet asks for the body
	leave  chan struct{} // closed when the body is another's to read
	done   chan struct{} // closed when run has returned
	cancel func()        // ends the exchange: the client's side failed
	began  bool          // the body is being sent; set before done is closed
	err    error         // likewise
	quiet  chan struct{} // closed when a read that was under way at the cut has returned
	whole  atomic.Bool   // the body was read to its end

	writing atomic.Bool // what was read is being sent
	looks   *time.Timer // for whether the client is there

	mu      sync.Mutex
	stop    bool // no further read of the body; guarded by mu
	reading bool // in a read of the body; guarded by mu
}

// lastRead is how long a body's end may take to arrive once the answer is complete. It
// is usually there already; a client that is in the midst of its body gets its answer that much later.
const lastRead = 50 * time.Millisecond

// cut ends the upload once the answer is complete, and says what is wrong with it: errLeft where body was
// left over. When it returns, the body is not read any more; what was read may still wait for a facet that takes nothing.
//
// A read that waits for the client is ended by a deadline. One that could still end
// by itself must not meet it: net/http would take the deadline for the connection's end.
func (u *upload) cut(rc *http.ResponseController, st *stream) error {
	select {
	case <-u.done:
		return u.err
	default:
	}
	u.mu.Lock()
	u.stop = true
	reading := u.reading
	u.mu.Unlock()
	if reading {
		select {
		case <-u.done:
			return u.err
		case <-u.quiet:
			reading = false
		case <-time.After(lastRead):
		}
	}
	u.cancel()
	st.close()
	if reading {
		rc.SetReadDeadline(time.Now())
		<-u.quiet
		rc.SetReadDeadline(time.Time{})
	}
	return errLeft
}

// errLeft means that the answer was complete before the body.
var errLeft = errors.New("the answer was complete before the request's body")

// abandon leaves a body that was not asked for to someone else, and reports whether it could.
func (u *upload) abandon() bool {
	select {
	case <-u.ask:
		return false
	default:
	}
	if !u.held {
		return false
	}
	close(u.leave)
	<-u.done
	return true
}

// read reads from the body unless the upload was cut.
func (u *upload) read(p []byte) (int, error) {
	u.mu.Lock()
	if u.stop {
		u.mu.Unlock()
		return 0, errLeft
	}
	u.reading = true
	u.mu.Unlock()
	n, err := u.x.r.Body.Read(p)
	if err == io.EOF {
		u.whole.Store(true)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.reading = false
	if u.stop {
		close(u.quiet)
		return 0, errLeft
	}
	return n, err
}

func (u *upload) run() {
	failed := false
	defer func() {
		close(u.done)
		if failed {
			u.cancel() // which ends the answer, too; by then it can be told why
		}
	}()
	if u.held {
		select {
		case <-u.ask:
		case <-u.leave:
			return
		case <-u.ctx.Done():
			u.err = errLeft
			if u.x.r.Context().Err() != nil {
				u.err = ErrClientGone
			}
			return
		case <-u.x.session.mux.CloseChan():
			u.err = ErrFacetGone
			return
		}
	}
	u.began = true
	u.looks = time.AfterFunc(time.Hour, u.look) // which needs looks
	u.looks.Reset(lookAfter)
	defer u.looks.Stop()
	u.err = u.send()
	failed = u.err != nil && !errors.Is(u.err, ErrFacetGone)
}

// send copies the body, in chunks where its length is unknown.
func (u *upload) send() error {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	buf := (*bp)[:cap(*bp)]
	facet := u.x.session.Writer(u.ctx, u.x.st.raw)
	chunked := u.x.r.ContentLength < 0
	var sent int64
	for {
		n, err := u.read(buf[chunkRoom : len(buf)-2])
		if sent += int64(n); sent > u.x.o.BodyLimit {
			return ErrBodyTooLarge
		}
		if n > 0 {
			out := buf[chunkRoom : chunkRoom+n]
			if chunked {
				out = frameChunk(buf, n)
			}
			u.writing.Store(true)
			_, werr := facet.Write(out)
			u.writing.Store(false)
			if werr != nil {
				return facetError(werr)
			}
			if t := u.x.o.HeadTimeout; t > 0 {
				u.x.st.extend(time.Now().Add(t))
			}
		}
		if err == io.EOF {
			break
		}
		if err == errLeft {
			return err
		}
		if err != nil {
			return bodyError(err)
		}
	}
	if !chunked {
		return nil
	}
	if _, err := facet.Write(appendTrailers([]byte("0\r\n"), u.x.r.Trailer)); err != nil {
		return facetError(err)
	}
	return nil
}

// bodyError tells a client that sends nonsense, and waits for the answer, from one that left. Of the latter the connection
// tells, or the body's early end; net/http has no sentinels for the former.
func bodyError(err error) error {
	kind := ErrBadBody
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled) || errors.Is(err, http.ErrBodyReadAfterClose) {
		kind = ErrClientGone
	}
	return fmt.Errorf("%w: read its request: %w", kind, err)
}

// chunkRoom is kept free before a chunk's bytes for its size line: eight hexadecimal digits
// and a line's end. Two more bytes are kept behind.
const chunkRoom = 10

// frameChunk puts the size line in front of the n bytes at buf[chunkRoom:] and the line's end behind.
func frameChunk(buf []byte, n int) []byte {
	var size [chunkRoom]byte
	line := append(strconv.AppendInt(size[:0], int64(n), 16), "\r\n"...)
	start := chunkRoom - len(line)
	copy(buf[start:], line)
	copy(buf[chunkRoom+n:], "\r\n")
	return buf[start : chunkRoom+n+2]
}

func appendTrailers(b []byte, trailer http.Header) []byte {
	for name, values := range trailer {
		for _, v := range values {
			b = appendLine(b, name, v)
		}
	}
	return append(b, "\r\n"...)
}
