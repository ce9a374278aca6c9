package relay

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

func TestExchange(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			io.Copy(w, r.Body)
		case "/head":
			w.Header().Set("X-Seen", fmt.Sprint(r.Header))
			w.Header().Set("Connection", "X-Private")
			w.Header().Set("X-Private", "1")
			w.WriteHeader(http.StatusTeapot)
		case "/early":
			w.WriteHeader(http.StatusUnauthorized)
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Sum", "42")
			w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
		case "/request-trailer":
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, r.Trailer.Get("X-Up"))
		}
	})
	s := facet(t, h, nil)
	srv, _ := front(t, s, Options{})

	t.Run("bodies of every size come back whole", func(t *testing.T) {
		for _, n := range []int{0, 1, 64 << 10, 64<<10 + 1, 100_000, 3 << 20} {
			for _, length := range []bool{true, false} {
				body := make([]byte, n)
				rand.Read(body)
				var up io.Reader = bytes.NewReader(body)
				if !length {
					up = struct{ io.Reader }{up}
				}
				resp, err := http.Post(srv.URL+"/echo", "application/octet-stream", up)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, body) {
					t.Fatalf("%d bytes, length known %v: %d came back, %v", n, length, len(got), err)
				}
			}
		}
	})
	t.Run("connection headers stay here", func(t *testing.T) {
		req, _ := http.NewRequest("GET", srv.URL+"/head", nil)
		req.Header.Set("X-Request-Id", "forged")
		req.Header.Set("Fgw-Child", "forged")
		req.Header.Set("X-Kept", "1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		seen := resp.Header.Get("X-Seen")
		if resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Private") != "" || strings.Contains(seen, "forged") || !strings.Contains(seen, "X-Kept") || !strings.Contains(seen, "X-Request-Id:[7]") {
			t.Fatalf("%s %v", resp.Status, resp.Header)
		}
	})
	t.Run("an answer before the body is read", func(t *testing.T) {
		resp, err := http.Post(srv.URL+"/early", "", io.LimitReader(zeros{}, 50<<20))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Fatal(resp.Status)
			}
		}
	})
	t.Run("trailers both ways", func(t *testing.T) {
		resp, err := http.Get(srv.URL + "/trailer")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Late") != "yes" {
			t.Fatal(resp.Trailer)
		}
		req, _ := http.NewRequest("POST", srv.URL+"/request-trailer", struct{ io.Reader }{strings.NewReader("x")})
		req.Trailer = http.Header{"X-Up": {"seven"}}
		resp, err = http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != "seven" {
			t.Fatalf("%q", got)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		resp, err := http.Head(srv.URL + "/head")
		if err != nil || resp.StatusCode != http.StatusTeapot {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestStreamsAreReused(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), nil)
	srv, _ := front(t, s, Options{})
	for _, n := range []int{100_000, 0, 10} { // those whose body was streamed are not
		for range 5 {
			resp, err := http.Post(srv.URL, "", bytes.NewReader(make([]byte, n)))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for s.mux.NumStreams() > 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // streams close behind the answers
	}
	if n := s.mux.NumStreams(); n != 1 {
		t.Errorf("%d streams after requests one after another, wanted 1", n)
	}
	if n := s.budget.Open(); n != 1 {
		t.Errorf("%d streams in the budget, wanted 1", n)
	}
}

func TestInformationalAnswers(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "done")
	}), nil)
	srv, _ := front(t, s, Options{})
	var hints atomic.Int32
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints && h.Get("Link") != "" {
			hints.Add(1)
		}
		return nil
	}}
	req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", srv.URL, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if hints.Load() != 1 || resp.StatusCode != 200 {
		t.Fatalf("%d hints, %s", hints.Load(), resp.Status)
	}
}

func TestContinueIsTheFacetsToSay(t *testing.T) {
	read := make(chan bool, 1)
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if <-read {
			io.Copy(w, r.Body)
		} else {
			w.WriteHeader(http.StatusForbidden)
		}
	}), nil)
	srv, _ := front(t, s, Options{})
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		reads  bool
		status int
	}{{true, 200}, {false, 403}} {
		read <- c.reads
		req, _ := http.NewRequest("POST", srv.URL, strings.NewReader("body"))
		req.Header.Set("Expect", "100-continue")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || c.reads && string(got) != "body" {
			t.Fatalf("reads %v: %s %q", c.reads, resp.Status, got)
		}
	}
}

func TestEventsArriveAsTheyAreSent(t *testing.T) {
	next := make(chan struct{})
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			io.WriteString(w, "data: x\n\n")
			w.(http.Flusher).Flush()
			<-next
		}
	}), nil)
	srv, _ := front(t, s, Options{})
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	for range 3 {
		if line, err := br.ReadString('\n'); err != nil || line != "data: x\n" {
			t.Fatal(line, err)
		}
		br.ReadString('\n')
		next <- struct{}{} // the handler goes on only once the event is here
	}
}

func TestUpgrade(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, brw)
	}), nil)
	srv, _ := front(t, s, Options{})
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "first" {
		t.Fatalf("%q %v", got, err)
	}
	io.WriteString(conn, "again")
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "again" {
		t.Fatalf("%q %v", got, err)
	}
	conn.Close()
	waitFor(t, func() bool { return s.budget.Open() == 0 })
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("did not come true in 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestClientGoneClosesTheStream(t *testing.T) {
	for name, request := range map[string]string{
		"without a body":      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"with a small body":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"in the midst of one": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			started, gone := make(chan struct{}), make(chan struct{})
			s := raw(t, func(c net.Conn) {
				var once atomic.Bool
				wc := wire.NewConn(c.(*wire.Conn).Conn, nil, func(uint32) {
					if once.CompareAndSwap(false, true) {
						close(gone)
					}
				})
				mux, err := yamux.Server(wc, wire.Config(8, time.Minute))
				if err != nil {
					return
				}
				st, err := kinds{mux}.Accept()
				if err != nil {
					return
				}
				http.ReadRequest(bufio.NewReader(st))
				close(started)
				<-mux.CloseChan()
			}, nil)
			srv, failed := front(t, s, Options{})
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, request)
			<-started
			conn.Close()
			select {
			case <-gone:
			case <-time.After(10 * time.Second):
				t.Fatal("the facet was not told")
			}
			if err := <-failed; !errors.Is(err, ErrClientGone) {
				t.Fatal(err)
			}
		})
	}
}

func TestHeadTimeout(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), nil)
	srv, failed := front(t, s, Options{HeadTimeout: 50 * time.Millisecond})
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-failed; !errors.Is(err, ErrHeadTimeout) {
		t.Fatal(err)
	}
}

// TestHostileAnswers: what a facet may not say is a breach, told as such, and bounded.
func TestHostileAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(io.Writer)
		want   error
	}{
		{"no HTTP", func(w io.Writer) { io.WriteString(w, "hello\r\n\r\n") }, ErrProtocol},
		{"a head without end", func(w io.Writer) {
			io.WriteString(w, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(w, "X-A: "+strings.Repeat("a", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, ErrProtocol},
		{"one line without end", func(w io.Writer) {
			for {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}, ErrProtocol},
		{"informational answers without end", func(w io.Writer) {
			for {
				if _, err := io.WriteString(w, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"); err != nil {
					return
				}
			}
		}, ErrProtocol},
		{"an upgrade nobody asked for", func(w io.Writer) {
			io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		}, ErrProtocol},
		{"status 099", func(w io.Writer) { io.WriteString(w, "HTTP/1.1 099 No\r\n\r\n") }, ErrProtocol},
		{"a bad length", func(w io.Writer) { io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n") }, ErrProtocol},
		{"two lengths", func(w io.Writer) {
			io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
		}, ErrProtocol},
		{"nothing", func(w io.Writer) { w.(io.Closer).Close() }, ErrFacetGone},
		{"a short body", func(w io.Writer) {
			io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
			w.(io.Closer).Close()
		}, ErrCut},
		{"a bad chunk", func(w io.Writer) {
			io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		}, ErrCut},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := raw(t, func(conn net.Conn) {
				mux, err := yamux.Server(conn, wire.Config(8, time.Minute))
				if err != nil {
					return
				}
				st, err := kinds{mux}.Accept()
				if err != nil {
					return
				}
				http.ReadRequest(bufio.NewReader(st))
				c.answer(st)
				<-mux.CloseChan()
			}, nil)
			srv, failed := front(t, s, Options{})
			resp, err := http.Get(srv.URL)
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if err := <-failed; !errors.Is(err, c.want) {
				t.Fatalf("%v, wanted %v", err, c.want)
			}
			waitFor(t, func() bool { return s.budget.Open() == 0 })
		})
	}
}

// TestGate: not a byte passes before the gate opens, and none after it failed.
func TestGate(t *testing.T) {
	t.Run("waits", func(t *testing.T) {
		open := make(chan struct{})
		s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), func() error { <-open; return nil })
		srv, _ := front(t, s, Options{})
		done := make(chan error, 1)
		go func() {
			resp, err := http.Get(srv.URL)
			if err == nil {
				resp.Body.Close()
			}
			done <- err
		}()
		select {
		case <-done:
			t.Fatal("answered before the gate opened")
		case <-time.After(50 * time.Millisecond):
		}
		close(open)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("fails", func(t *testing.T) {
		s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secret") }), func() error { return errors.New("disk") })
		srv, failed := front(t, s, Options{})
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err := <-failed; !errors.Is(err, ErrOutput) || len(got) > 0 {
			t.Fatal(err, string(got))
		}
	})
}

func TestBudget(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), nil)
	s.budget = NewBudget(0)
	srv, failed := front(t, s, Options{})
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-failed; !errors.Is(err, ErrOverloaded) {
		t.Fatal(err)
	}
}
