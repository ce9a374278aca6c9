package egress

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// upload is a request's body on its way out. net/http's transport reads it in a goroutine of its
// own, which may outlive the exchange; the body is the facet's connection, which must be left alone
// by then. So reads end with cut.
type upload struct {
	src     io.Reader
	moved   func(n int64, end bool) // told after each read
	trailer func()                  // called at the body's end

	mu    sync.Mutex
	stop  bool          // no further read; guarded by mu
	busy  bool          // in a read; guarded by mu
	ended bool          // read to its end; guarded by mu
	quiet chan struct{} // closed by the read that was busy when end came; guarded by mu
	err   error         // what a read failed with; guarded by mu
}

var errCut = errors.New("the exchange is over")

func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	if u.stop || u.ended {
		defer u.mu.Unlock()
		if u.ended {
			return 0, io.EOF
		}
		return 0, errCut
	}
	u.busy = true
	u.mu.Unlock()

	n, err := u.src.Read(p)

	if err == io.EOF {
		u.trailer()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy = false
	switch {
	case err == io.EOF:
		u.ended = true
	case err != nil && !u.stop:
		u.err = err
	}
	if u.quiet != nil {
		close(u.quiet)
		u.quiet = nil
	}
	u.moved(int64(n), err == io.EOF)
	return n, err
}

// Close is the transport's; the body itself is closed by the server that made it.
func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stop = true
	return nil
}

func (u *upload) complete() bool {
	if u == nil {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ended
}

func (u *upload) failure() error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// lastRead is how long a read may still take once the exchange is over; the body's end
// is usually there already.
const lastRead = 50 * time.Millisecond

// maxDrain is how much of a body is read for nothing, so that the connection can carry
// another request.
const maxDrain = 64 << 10

// past is a deadline that ends a read or write under way.
var past = time.Unix(1, 0)

// end lets no further read begin. Where one is under way it waits for it as long as lastRead, and
// returns the channel that the read will close if it is still there.
func (u *upload) end() (ended bool, busy chan struct{}) {
	u.mu.Lock()
	u.stop = true
	if u.busy {
		if u.quiet == nil {
			u.quiet = make(chan struct{})
		}
		busy = u.quiet
	}
	u.mu.Unlock()
	if busy != nil {
		timer := time.NewTimer(lastRead)
		defer timer.Stop()
		select {
		case <-busy:
			busy = nil
		case <-timer.C:
		}
	}
	return u.complete(), busy
}

// cut ends the reads, and returns when none is under way. One that waits for the facet is ended by
// a deadline, which stays: the server, too, would wait for the rest of the body before it closes.
func (u *upload) cut(control *http.ResponseController) {
	if u == nil {
		return
	}
	ended, busy := u.end()
	if ended {
		return
	}
	// Where there are no deadlines the writer is no connection, and a read can't wait for one.
	if err := control.SetReadDeadline(past); err == nil && busy != nil {
		<-busy
	}
}

// drain reads what is left of a short body that nobody wants, if it is there.
func (u *upload) drain(control *http.ResponseController) {
	if u == nil {
		return
	}
	if ended, busy := u.end(); ended || busy != nil {
		return
	}
	if err := control.SetReadDeadline(time.Now().Add(lastRead)); err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, u.src, maxDrain); err != io.EOF {
		return // the deadline stays for cut
	}
	u.mu.Lock()
	u.ended = true
	u.mu.Unlock()
	control.SetReadDeadline(time.Time{})
}
