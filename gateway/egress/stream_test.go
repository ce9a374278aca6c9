package egress

import (
	"bytes"
	"context"
	"crypto/x509"
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

func TestBodiesBothWays(t *testing.T) {
	const size = 8 << 20
	echo := func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, " ", r.Trailer.Get("X-Sent"), r.Trailer.Get("Fgw-Secret")))
	}
	plain := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(plain.Close)
	tls2 := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	tls2.EnableHTTP2 = true
	tls2.StartTLS()
	t.Cleanup(tls2.Close)
	for _, s := range []*httptest.Server{plain, tls2} {
		w := newWorld(t, Config{AllowAddrs: loopback, Roots: rootsIf(s)}, "127.0.0.1:"+portOf(s))
		for _, known := range []bool{true, false} {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			r, _ := http.NewRequest("POST", s.URL, bytes.NewReader(body))
			want := fmt.Sprint(size)
			if !known {
				r.ContentLength = -1
				r.Trailer = http.Header{"X-Sent": {"all"}, "Fgw-Secret": {"no"}}
				want += " all"
			}
			before := w.counted()
			res, err := w.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s, known length %v: %d bytes came back: %v", s.URL, known, len(got), err)
			}
			if sum := res.Trailer.Get("X-Sum"); sum != want {
				t.Errorf("%s, known length %v: trailer %q, want %q", s.URL, known, sum, want)
			}
			res.Body.Close()
			if n := w.counted() - before; n < 2*size || n > 2*size+2000 {
				t.Errorf("counted %d bytes of %d", n, 2*size)
			}
		}
	}
}

func TestStreamsAsItComes(t *testing.T) {
	next := make(chan string)
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		rc.Flush()
		for s := range next {
			io.WriteString(w, s)
			rc.Flush()
		}
	})
	w := newWorld(t, Config{AllowAddrs: loopback}, "127.0.0.1:"+port)
	r, _ := http.NewRequest("GET", "http://127.0.0.1:"+port, nil)
	res, err := w.RoundTrip(r) // the head is here before the first event
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 3 {
		event := fmt.Sprintf("data: %d\n\n", i)
		next <- event
		got := make([]byte, len(event))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != event {
			t.Fatalf("%q, %v", got, err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestClientGone(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	w := newWorld(t, Config{AllowAddrs: loopback}, "127.0.0.1:"+port)
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:"+port, nil)
	res, err := w.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	cancel()
	within(t, "the server to be told", ended)
	res.Body.Close()
}

func TestServerBreaksOff(t *testing.T) {
	for _, length := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			c, _, _ := http.NewResponseController(w).Hijack()
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+length+"\r\n\r\n")
			io.WriteString(c, "3\r\nabc")
			c.Close()
		})
		w := newWorld(t, Config{AllowAddrs: loopback}, "127.0.0.1:"+port)
		w.server.Config.ErrorLog = discard()
		r, _ := http.NewRequest("GET", "http://127.0.0.1:"+port, nil)
		res, err := w.RoundTrip(r)
		if err != nil {
			continue // broken before the head was passed on
		}
		if body, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: a half answer %q looks whole", length, body)
		}
		res.Body.Close()
	}
}

func TestSlowServers(t *testing.T) {
	free := make(chan struct{})
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stall" {
			io.WriteString(w, "begun")
			http.NewResponseController(w).Flush()
		}
		select {
		case <-free:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(free) })
	w := newWorld(t, Config{AllowAddrs: loopback, HeadTimeout: 50 * time.Millisecond, StallTimeout: 100 * time.Millisecond, ConnectTimeout: time.Second}, "127.0.0.1:"+port)
	base := "http://127.0.0.1:" + port
	w.refused(base+"/silent", CodeTimeout, "awaiting response headers")

	r, _ := http.NewRequest("GET", base+"/stall", nil)
	res, err := w.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "begun" || err == nil {
		t.Errorf("a stalled answer: %q, %v", body, err)
	}
	res.Body.Close()

	// The facet's own body stalls.
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST "+base+"/unread HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nsome")
	answer, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(answer), CodeTimeout) || !strings.Contains(string(answer), "no byte of a body") {
		t.Errorf("a stalled upload: %s, %v", answer, err)
	}
}

func TestEarlyAnswer(t *testing.T) {
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(401)
		io.WriteString(w, "no")
	})
	w := newWorld(t, Config{AllowAddrs: loopback}, "127.0.0.1:"+port)
	c, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The rest of the body never comes; the answer does, and the connection ends with it.
	io.WriteString(c, "POST http://127.0.0.1:"+port+"/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nbegin")
	answer, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, net.ErrClosed) || !strings.HasPrefix(string(answer), "HTTP/1.1 401") || !strings.Contains(string(answer), "Connection: close") {
		t.Errorf("%s, %v", answer, err)
	}
}

func rootsIf(s *httptest.Server) *x509.CertPool {
	if s.TLS == nil || len(s.TLS.Certificates) == 0 {
		return nil
	}
	return rootsOf(s)
}

// within waits for c, which is closed by something that happens by itself.
func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}
