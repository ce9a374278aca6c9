package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// ear is a facet's end of the wire that can stop to read.
type ear struct {
	net.Conn
	mu   sync.RWMutex
	deaf chan struct{} // closed when it reads again; nil while it does; guarded by mu
}

func (e *ear) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	e.mu.RLock()
	deaf := e.deaf
	e.mu.RUnlock()
	if deaf != nil {
		<-deaf
	}
	return n, err
}

func (e *ear) stop() (again func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	deaf := make(chan struct{})
	e.deaf = deaf
	return sync.OnceFunc(func() {
		e.mu.Lock()
		e.deaf = nil
		e.mu.Unlock()
		close(deaf)
	})
}

// listener serves a facet that echoes, and gives its ear. Its streams are open, and kept, when listener returns.
func listener(t *testing.T, streams int) (*Session, *ear) {
	t.Helper()
	ears := make(chan *ear, 1)
	var met sync.WaitGroup
	met.Add(streams)
	s := raw(t, func(c net.Conn) {
		e := &ear{Conn: c}
		ears <- e
		mux, err := yamux.Server(e, wire.Config(wire.MaxStreams, time.Minute))
		if err != nil {
			return
		}
		http.Serve(kinds{mux}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/meet" {
				met.Done()
				met.Wait()
			}
			http.NewResponseController(w).EnableFullDuplex()
			io.Copy(w, r.Body)
		}))
	}, nil)
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			if err := post(t.Context(), s, "/meet", nil, 10*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return s, <-ears
}

func post(ctx context.Context, s *Session, path string, body []byte, timeout time.Duration) error {
	r := httptest.NewRequestWithContext(ctx, "POST", path, bytes.NewReader(body))
	w := httptest.NewRecorder()
	err := s.Serve(w, r, &Request{Target: path}, &Options{HeadTimeout: timeout, BodyLimit: 1 << 20})
	if err == nil && !bytes.Equal(w.Body.Bytes(), body) {
		err = errors.New("another answer")
	}
	return err
}

// A request to a facet that does not read ends in its own time, and with its client, on a stream that is open already, too;
// the facet's others go on once it reads again, and what waited for it counts in the budget until then.
func TestFacetThatStopsReading(t *testing.T) {
	const streams = 12 // with bodies of 60 KiB, more than a socket holds
	body := bytes.Repeat([]byte("x"), 60<<10)
	s, e := listener(t, streams)
	again := e.stop()
	defer again()
	ctx, leave := context.WithCancel(t.Context())
	errs := make(chan error, streams)
	start := time.Now()
	for i := range streams {
		go func() {
			if i%2 == 0 {
				errs <- post(ctx, s, "/", body, time.Minute)
			} else {
				errs <- post(t.Context(), s, "/", body, 200*time.Millisecond)
			}
		}()
	}
	for range streams / 2 {
		if err := <-errs; !errors.Is(err, ErrHeadTimeout) {
			t.Errorf("in its time: %v", err)
		}
	}
	// Behind those a request waits outside, and so does its body.
	if err := post(t.Context(), s, "/", body, 200*time.Millisecond); !errors.Is(err, ErrHeadTimeout) {
		t.Errorf("behind them: %v", err)
	}
	leave()
	for range streams / 2 {
		if err := <-errs; !errors.Is(err, ErrClientGone) {
			t.Errorf("its client left: %v", err)
		}
	}
	if took := time.Since(start); took > 3*time.Second { // the wire of these tests is given up after 5
		t.Errorf("took %s", took)
	}
	if open := s.budget.Open(); open < streams {
		t.Errorf("%d streams count while what was sent on %d waits", open, streams)
	}
	again()
	waitFor(t, func() bool { return s.budget.Open() == 0 })
	if err := post(t.Context(), s, "/", body, 10*time.Second); err != nil {
		t.Errorf("once it reads again: %v", err)
	}
}
