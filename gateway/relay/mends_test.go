package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// slowWriter is a client that takes the first bytes and then waits.
type slowWriter struct {
	*httptest.ResponseRecorder
	began, goOn chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.Body.Len() == 0 {
		close(w.began)
		<-w.goOn
	}
	return w.ResponseRecorder.Write(p)
}

// A stream whose answer is read to its end after the session was closed is not kept for ever.
func TestCloseBeforeTheAnswersEnd(t *testing.T) {
	const size = 200 << 10
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Write(make([]byte, size))
	}), nil)
	w := &slowWriter{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(w, httptest.NewRequest("GET", "/", nil), &Request{Target: "/"}, &Options{HeadTimeout: time.Minute})
	}()
	<-w.began
	s.Close() // nothing is idle
	close(w.goOn)
	if err := <-done; err != nil || w.Body.Len() != size {
		t.Fatalf("%d bytes, %v", w.Body.Len(), err)
	}
	waitFor(t, func() bool { return s.budget.Open() == 0 })
}

// A facet that takes no streams keeps nobody waiting longer than they want to.
func TestStreamsThatAreNotTaken(t *testing.T) {
	s := raw(t, func(c net.Conn) { io.Copy(io.Discard, c) }, nil) // four streams wait to be taken
	gone, leave := context.WithCancel(t.Context())
	done := make(chan error)
	for i := range 8 {
		r, o := httptest.NewRequest("GET", "/", nil), &Options{HeadTimeout: 50 * time.Millisecond}
		if i%2 == 1 {
			r, o = r.WithContext(gone), &Options{HeadTimeout: time.Hour}
		}
		go func() { done <- s.Serve(httptest.NewRecorder(), r, &Request{Target: "/"}, o) }()
	}
	for range 4 {
		if err := <-done; !errors.Is(err, ErrHeadTimeout) || !strings.Contains(err.Error(), "50ms") {
			t.Error(err)
		}
	}
	leave()
	for range 4 {
		if err := <-done; !errors.Is(err, ErrClientGone) {
			t.Error(err)
		}
	}
}

// An owed answer that has begun and goes no further makes nobody wait.
func TestHandoverOwedInPart(t *testing.T) {
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	streams := make(chan io.Writer, 2)
	up := byHand(t, func(st io.Writer, br *bufio.Reader, r *http.Request) {
		io.WriteString(st, "HTTP/1.1 199 Handover\r\nFgw-Handover: child\r\n\r\n")
		br.ReadByte()
		io.WriteString(st, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nla")
		streams <- st
		<-block
	})
	for range 2 {
		err := up.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), &Request{Target: "/"}, &Options{HeadTimeout: time.Minute,
			Handover: func(http.ResponseWriter, *http.Request, string, http.Header) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
	}
	if <-streams == <-streams {
		t.Error("the stream was used again")
	}
}

// A client that offers several protocols gets the one that the facet picks, and one that it did not offer from nobody.
func TestUpgradeToOneOfSeveral(t *testing.T) {
	for list, ok := range map[string]bool{"shout, h2c": true, "h2c,SHOUT": true, "h2c": false, "shouting": false} {
		if offered(list, "shout") != ok {
			t.Errorf("%q offers shout: %v", list, !ok)
		}
	}
	if offered("h2c, ", "") {
		t.Error("nothing is offered")
	}
}
