package relay

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// TestHandover: a facet that hands a request over never sees its body, the other facet gets it whole, and
// the stream carries the next request.
func TestHandover(t *testing.T) {
	var stood atomic.Int32
	child := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "DELETE" {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Child", r.URL.Path)
		io.Copy(w, r.Body)
	}), nil)
	up := byHand(t, func(st io.Writer, br *bufio.Reader, r *http.Request) {
		if r.URL.Path == "/own" {
			io.WriteString(st, "HTTP/1.1 100 Continue\r\n\r\n")
			io.Copy(io.Discard, r.Body)
			io.WriteString(st, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
			return
		}
		io.WriteString(st, "HTTP/1.1 199 Handover\r\nFgw-Handover: child\r\nX-Added: 1\r\n\r\n")
		if b, err := br.ReadByte(); err == nil && b != 0 {
			t.Errorf("waited for the other's end, got %d", b)
		}
		stood.Add(1)
		io.WriteString(st, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	failed := make(chan error, 8)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &Options{BodyLimit: 1 << 30}
		o.Handover = func(w http.ResponseWriter, r *http.Request, head string, extra http.Header) error {
			if head != "child" {
				t.Errorf("head %q", head)
			}
			return child.Serve(w, r, &Request{Target: "/child"}, &Options{BodyLimit: 1 << 30, Answer: func(_ string, h http.Header) { h["X-Added"] = extra["X-Added"] }})
		}
		if err := up.Serve(w, r, &Request{Target: r.URL.Path, Hold: true}, o); err != nil {
			failed <- err
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(front.Close)
	for i, n := range []int{0, 10, 100_000, 5 << 20} {
		body := make([]byte, n)
		rand.Read(body)
		resp, err := http.Post(front.URL+"/run", "", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, body) || resp.Header.Get("X-Child") != "/child" || resp.Header.Get("X-Added") != "1" || resp.Header.Get(wire.HeaderHandover) != "" {
			t.Fatalf("%d bytes: %d came back, %v, %v", n, len(got), resp.Header, err)
		}
		waitFor(t, func() bool { return int(stood.Load()) == i+1 })
	}
	resp, err := http.Post(front.URL+"/own", "", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(got) != "mine" {
		t.Fatalf("%q", got)
	}
	// The other's failure is the other's: it is told as such, and not the supervisor's fault.
	req, _ := http.NewRequest("DELETE", front.URL+"/run", nil)
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	var h *HandedOver
	if err := <-failed; !errors.As(err, &h) || !errors.Is(err, ErrFacetGone) {
		t.Fatal(err)
	}
}

// TestQuietHandover: after a facet that ends no answer of its own the stream carries the next request at once, if that one
// had no body.
func TestQuietHandover(t *testing.T) {
	child := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.Method)
	}), nil)
	var mu sync.Mutex
	streams := map[*bufio.Reader]int{}
	up := byHand(t, func(st io.Writer, br *bufio.Reader, r *http.Request) {
		mu.Lock()
		streams[br]++
		mu.Unlock()
		io.WriteString(st, "HTTP/1.1 199 Handover\r\nFgw-Handover: child\r\nFgw-Quiet: 1\r\n\r\n")
		br.ReadByte()
	})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &Options{BodyLimit: 1 << 20, Handover: func(w http.ResponseWriter, r *http.Request, _ string, extra http.Header) error {
			if len(extra) > 0 {
				t.Errorf("the child's answer gets %v", extra)
			}
			return child.Serve(w, r, &Request{Target: "/"}, &Options{BodyLimit: 1 << 20})
		}}
		if err := up.Serve(w, r, &Request{Target: "/", Hold: r.ContentLength > 0}, o); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(front.Close)
	for i, c := range []struct{ method, body string }{{"GET", ""}, {"GET", ""}, {"POST", "held"}, {"GET", ""}} {
		req, err := http.NewRequest(c.method, front.URL, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != c.method {
			t.Errorf("request %d: %q, %v", i, got, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	most := 0
	for _, n := range streams {
		most = max(most, n)
	}
	if most < 3 {
		t.Errorf("no stream carried three of the requests: %v", streams)
	}
}

// byHand is a facet that speaks the protocol without net/http's server, on each stream that is opened.
func byHand(t *testing.T, answer func(st io.Writer, br *bufio.Reader, r *http.Request)) *Session {
	return raw(t, func(c net.Conn) {
		mux, err := yamux.Server(c, wire.Config(8, time.Minute))
		if err != nil {
			return
		}
		for {
			st, err := kinds{mux}.Accept()
			if err != nil {
				return
			}
			go func() {
				defer st.Close()
				br := bufio.NewReader(st)
				for {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					answer(st, br, r)
				}
			}()
		}
	}, nil)
}

// TestHandoverAfterReading: once a facet has asked for the body it can't hand the request over.
func TestHandoverAfterReading(t *testing.T) {
	up := byHand(t, func(st io.Writer, br *bufio.Reader, r *http.Request) {
		io.WriteString(st, "HTTP/1.1 100 Continue\r\n\r\n")
		io.Copy(io.Discard, r.Body)
		io.WriteString(st, "HTTP/1.1 199 Handover\r\nFgw-Handover: child\r\n\r\n")
	})
	failed := make(chan error, 1)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &Options{BodyLimit: 1 << 30, Handover: func(http.ResponseWriter, *http.Request, string, http.Header) error {
			t.Error("handed over")
			return nil
		}}
		failed <- up.Serve(w, r, &Request{Target: "/", Hold: true}, o)
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(front.Close)
	resp, err := http.Post(front.URL, "", strings.NewReader("body"))
	if err == nil {
		resp.Body.Close()
	}
	if err := <-failed; !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
}

// Nobody waits for the answer that a facet still owes after it has handed its request over: not the client, nor the next
// request, which gets another stream; and once it has come, the stream carries requests again.
func TestHandoverOwed(t *testing.T) {
	child := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "child") }), nil)
	streams := make(chan io.Writer, 8)
	pay := make(chan struct{})
	up := byHand(t, func(st io.Writer, br *bufio.Reader, r *http.Request) {
		streams <- st
		io.WriteString(st, "HTTP/1.1 199 Handover\r\nFgw-Handover: child\r\n\r\n")
		br.ReadByte()
		<-pay
		io.WriteString(st, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
	})
	ask := func() io.Writer {
		t.Helper()
		w := httptest.NewRecorder()
		err := up.Serve(w, httptest.NewRequest("GET", "/", nil), &Request{Target: "/", Hold: true}, &Options{
			Handover: func(w http.ResponseWriter, r *http.Request, _ string, _ http.Header) error {
				return child.Serve(w, r, &Request{Target: "/"}, &Options{})
			}})
		if err != nil || w.Body.String() != "child" {
			t.Fatalf("%q, %v", w.Body, err)
		}
		return <-streams
	}
	first, second := ask(), ask()
	if first == second {
		t.Fatal("the stream carried a second request before the first was answered")
	}
	close(pay)
	used := map[io.Writer]bool{}
	waitFor(t, func() bool { used[ask()] = true; return used[first] && used[second] })
	if len(used) > 3 { // the third, where neither of them had been paid yet
		t.Errorf("%d streams were opened", len(used))
	}
}
