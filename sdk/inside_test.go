package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

func TestServesOverTheWire(t *testing.T) {
	g := startInstance(t, wire.Start{}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, f.Namespace()+"/"+f.Object()+"/"+f.Name()+" "+r.URL.Path)
		}), nil
	}).ready()
	for range 3 {
		resp, body := g.do("GET", "/hello", nil, nil)
		if resp.StatusCode != 200 || body != "ns/obj/app /hello" {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
	}
	if n := g.session.NumStreams(); n != 2 {
		t.Errorf("%d streams after three requests one after another, wanted control and one", n)
	}
}

func TestStartFails(t *testing.T) {
	for name, c := range map[string]struct {
		start StartFunc
		says  string
		panic bool
	}{
		"error":   {func(context.Context, *Facet) (http.Handler, error) { return nil, os.ErrNotExist }, os.ErrNotExist.Error(), false},
		"nothing": {func(context.Context, *Facet) (http.Handler, error) { return nil, nil }, "neither a handler nor an error", false},
		"panic":   {func(context.Context, *Facet) (http.Handler, error) { panic("my words") }, "my words", true},
		"long":    {func(context.Context, *Facet) (http.Handler, error) { panic(strings.Repeat("\x01", 1<<20)) }, "\x01", true},
	} {
		t.Run(name, func(t *testing.T) {
			g := startInstance(t, wire.Start{}, c.start)
			kind, body := g.frame()
			var f wire.Failed
			if err := json.Unmarshal(body, &f); err != nil || kind != wire.FrameFailed {
				t.Fatalf("frame %d %.200s %v", kind, body, err)
			}
			if !strings.Contains(f.Message, c.says) || f.Panic != c.panic || f.Panic != strings.Contains(f.Stack, "inside_test.go") {
				t.Errorf("%.300q %.300q", f.Message, f.Stack)
			}
			if g.end() == nil {
				t.Error("ended as if all were well")
			}
		})
	}
}

func TestStop(t *testing.T) {
	said := make(chan string, 4)
	g := startInstance(t, wire.Start{}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		f.OnStop(func(ctx context.Context) {
			if _, ok := ctx.Deadline(); !ok {
				said <- "no deadline"
			}
			said <- "first registered"
		})
		f.OnStop(func(ctx context.Context) { said <- "second registered"; panic("on the way out") })
		return http.NotFoundHandler(), nil
	}).ready()
	if err := wire.WriteControl(g.control, 200, struct{}{}); err != nil { // a later version's
		t.Fatal(err)
	}
	// The instance may be gone before this returns, and yamux then calls that an error.
	wire.WriteControl(g.control, wire.FrameStop, wire.Stop{Reason: "idle", GraceMS: 1000})
	if kind, _ := g.frame(); kind != wire.FrameStopped {
		t.Errorf("frame %d", kind)
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
	if a, b := <-said, <-said; a != "second registered" || b != "first registered" {
		t.Error(a, b)
	}
	r := <-g.logs
	if r["message"] != "panic in OnStop" {
		t.Errorf("log %v", r)
	}
}

func TestStopDoesNotWaitLongerThanItsGrace(t *testing.T) {
	g := startInstance(t, wire.Start{}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		f.OnStop(func(context.Context) { select {} })
		return http.NotFoundHandler(), nil
	}).ready()
	wire.WriteControl(g.control, wire.FrameStop, wire.Stop{GraceMS: 20})
	if kind, _ := g.frame(); kind != wire.FrameStopped {
		t.Errorf("frame %d", kind)
	}
}

func TestRequestIDAndLogs(t *testing.T) {
	g := startInstance(t, wire.Start{}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.Logger().With("a", 1).WithGroup("g").InfoContext(r.Context(), "said", "b", "x")
		}), nil
	}).ready()
	g.do("GET", "/", nil, http.Header{"X-Request-Id": {`i"d`}})
	r := <-g.logs
	if _, err := time.Parse(time.RFC3339Nano, r["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(r, "time")
	got, _ := json.Marshal(r)
	want := `{"attrs":{"a":1,"g":{"b":"x"}},"level":"INFO","message":"said","request_id":"i\"d"}`
	if string(got) != want {
		t.Errorf("record %s, wanted %s", got, want)
	}
}

// The client's going away must end the request's context though the handler has not read the body.
func TestClosedStreamCancelsTheRequest(t *testing.T) {
	entered, gone := make(chan bool), make(chan error, 1)
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-r.Context().Done()
		gone <- r.Context().Err()
	})).ready()
	for name, head := range map[string]string{
		"unread body": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"part of it":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\nabc",
		"no body":     "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		s := g.open(wire.StreamHTTP)
		if _, err := s.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		<-entered
		s.Close()
		select {
		case <-gone:
		case <-time.After(patience):
			t.Fatalf("%s: the context did not end", name)
		}
	}
	// closed in the same breath as it was opened
	s := g.open(wire.StreamHTTP)
	s.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	s.Close()
	<-entered
	<-gone
}

func TestFullDuplexEcho(t *testing.T) {
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })).ready()
	for _, size := range []int{0, 1, 4096, 100_000, 3 << 20} {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		if _, got := g.do("POST", "/", bytes.NewReader(body), nil); got != string(body) {
			t.Errorf("an echo of %d bytes came back with %d", size, len(got))
		}
	}
}

func TestPanicInHandler(t *testing.T) {
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			w.(http.Flusher).Flush()
		}
		if r.URL.Path == "/buffered" {
			io.WriteString(w, "half an answer")
		}
		panic("in a handler")
	})).ready()
	for _, path := range []string{"/", "/buffered"} {
		if resp, body := g.do("GET", path, nil, nil); resp.StatusCode != 500 || !strings.Contains(body, "panicked") {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
	req, _ := http.NewRequest("GET", "http://app/late", nil)
	resp, err := g.client.Do(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("an answer that broke off looks whole")
	}
}

func TestUpgradeIsATunnel(t *testing.T) {
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		one := make([]byte, 1) // the length of net/http's own read ahead
		for {
			if _, err := io.ReadFull(conn, one); err != nil {
				return
			}
			conn.Write(one)
		}
	})).ready()
	s := g.open(wire.StreamHTTP)
	io.WriteString(s, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	head := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"))
	if _, err := io.ReadFull(s, head); err != nil {
		t.Fatal(err)
	}
	s.SetReadDeadline(time.Now().Add(patience))
	for _, c := range "hello" {
		s.Write([]byte(string(c)))
		got := make([]byte, 1)
		if _, err := io.ReadFull(s, got); err != nil || got[0] != byte(c) {
			t.Fatalf("%q %v", got, err)
		}
	}
}

func TestUnknownStreamsAreClosed(t *testing.T) {
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {})).ready()
	for _, kind := range []wire.StreamKind{3, 5, 99} {
		s := g.open(kind)
		s.SetReadDeadline(time.Now().Add(patience))
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("kind %d: %v, wanted the end", kind, err)
		}
	}
	g.do("GET", "/", nil, nil)
}

func TestWireLostEndsTheInstance(t *testing.T) {
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {})).ready()
	g.conn.Close()
	if g.end() == nil {
		t.Error("ended as if all were well")
	}
}

// A handler may leave its body unread; the next request must not suffer for it.
func TestUnreadBodies(t *testing.T) {
	var said bytes.Buffer
	log.SetOutput(&said) // where net/http tells of panics, which a facet's log would be full of
	defer func() {
		log.SetOutput(os.Stderr)
		if said.Len() > 0 {
			t.Errorf("it is said:\n%.1000s", &said)
		}
	}()
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/some" {
			io.ReadFull(r.Body, make([]byte, 10))
		}
		io.WriteString(w, "answered")
		if r.URL.Path == "/flushed" {
			w.(http.Flusher).Flush()
		}
	})).ready()
	for _, size := range []int{1, 100, 60_000, 2 << 20} {
		for _, path := range []string{"/none", "/some", "/flushed", "/none"} {
			// A stream whose body was left unread ends, maybe while the client sends its next request there: that one is sent again.
			again := http.Header{"Idempotency-Key": {"a"}}
			if resp, body := g.do("POST", path, bytes.NewReader(make([]byte, size)), again); resp.StatusCode != 200 || body != "answered" {
				t.Errorf("%s with %d bytes: %d %q", path, size, resp.StatusCode, body)
			}
		}
	}
	// a body of which nothing comes holds nothing up
	s := g.open(wire.StreamHTTP)
	defer s.Close()
	io.WriteString(s, "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	s.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(s); err != nil || !bytes.HasSuffix(b, []byte("answered")) {
		t.Errorf("%q %v", b, err)
	}
}

func TestTrailersReachTheHandler(t *testing.T) {
	got := make(chan string, 2)
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		io.Copy(w, r.Body)
		w.Header().Set("Sum", "out")
		got <- r.Trailer.Get("Check")
	})).ready()
	for _, declared := range []string{"", "Trailer: Check\r\n"} {
		s := g.open(wire.StreamHTTP)
		io.WriteString(s, "POST / HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nConnection: close\r\n"+declared+"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nCheck: in\r\n\r\n")
		b, _ := io.ReadAll(s)
		if in := <-got; in != "in" && declared != "" || !bytes.Contains(b, []byte("Sum: out")) {
			t.Errorf("declared %q: trailer %q; answer %q", declared, in, b)
		}
	}
}

// The gateway holds a body back until it is asked for; a handler that does not want it never asks.
func TestExpectContinue(t *testing.T) {
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		io.Copy(w, r.Body)
	})).ready()
	exchange := func(path string) (*yamux.Stream, *bufio.Reader) {
		s := g.open(wire.StreamHTTP)
		s.SetReadDeadline(time.Now().Add(patience))
		io.WriteString(s, "POST "+path+" HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		return s, bufio.NewReader(s)
	}
	s, r := exchange("/take")
	defer s.Close()
	if line, _ := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q", line)
	}
	r.ReadString('\n')
	io.WriteString(s, "hello")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 || resp.Close {
		t.Fatalf("%v %v", resp, err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "hello" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	s, r = exchange("/refuse")
	defer s.Close()
	resp, err = http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
		t.Errorf("%v %v", resp, err)
	}
}

func TestEarlyHintsAndHead(t *testing.T) {
	g := startInstance(t, wire.Start{}, handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hello")
	})).ready()
	s := g.open(wire.StreamHTTP)
	defer s.Close()
	s.SetReadDeadline(time.Now().Add(patience))
	for range 2 { // on one stream
		io.WriteString(s, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
		r := bufio.NewReader(s)
		for _, want := range []int{http.StatusEarlyHints, 200} {
			resp, err := http.ReadResponse(r, &http.Request{Method: "HEAD"})
			if err != nil || resp.StatusCode != want || want == 200 && resp.ContentLength != 5 {
				t.Fatalf("%v %v, wanted %d", resp, err, want)
			}
		}
		if r.Buffered() != 0 {
			t.Error("a body follows")
		}
	}
}

// A question that the gateway does not answer ends with its context.
func TestQuestionsAreCancelled(t *testing.T) {
	asked := make(chan error, 1)
	startInstance(t, wire.Start{Children: true, MaxStreams: wire.MaxOwnStreams}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err := f.Facets().List(ctx)
		asked <- err
		return http.NotFoundHandler(), nil
	})
	select {
	case err := <-asked:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Error("it waits on")
	}
}
