package e2e_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// All the ways in which HTTP carries bytes, through the gateway to a facet and back.
func TestStreams(t *testing.T) {
	g := probes(t)
	g.Text("GET", "/t/a/probe/hello", "")
	for _, test := range []struct {
		name string
		run  func(*testing.T, *rig.Gateway)
	}{
		{"upgrade", tryUpgrade}, {"events", tryEvents}, {"head", tryHead}, {"trailers", tryTrailers}, {"early hints", tryHints},
		{"100-continue", tryContinue}, {"100-continue refused", tryContinueRefused},
		{"client gone", tryGone}, {"large upload", tryUpload}, {"echo", tryEcho}, {"early answers", tryEarly}, {"pipelining", tryPipeline}, {"many small requests", tryMany},
	} {
		t.Run(test.name, func(t *testing.T) { g.T = t; test.run(t, g) })
	}
	g.T = t
	if d := g.Inspect("t/a/probe"); d.Usage.Starts != 1 || d.LastExit != nil {
		t.Errorf("the facet started %d times: %+v", d.Usage.Starts, d.LastExit)
	}
}

func tryUpgrade(t *testing.T, g *rig.Gateway) {
	c := g.Dial("GET /t/a/probe/upgrade HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: shout\n\n")
	resp := c.Answer("GET")
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "shout" || !strings.EqualFold(resp.Header.Get("Connection"), "upgrade") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	for _, line := range []string{"hello\n", strings.Repeat("long ", 50_000) + "\n", "again\n"} {
		go io.WriteString(c, line)
		if got, err := c.R.ReadString('\n'); err != nil || got != strings.ToUpper(line) {
			t.Fatalf("%d bytes came back as %d, %v", len(line), len(got), err)
		}
	}
}

func tryEvents(t *testing.T, g *rig.Gateway) {
	c := g.Dial("GET /t/a/probe/events?door=events HTTP/1.1\nHost: localhost\nAccept: text/event-stream\n\n")
	resp := c.Answer("GET")
	events := bufio.NewReader(resp.Body)
	if first, err := events.ReadString('\n'); err != nil || first != "data: first\n" || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%q %v %v", first, err, resp.Header)
	}
	g.Text("GET", "/t/a/probe/open?door=events", "")
	if rest, err := io.ReadAll(events); err != nil || string(rest) != "\ndata: second\n\n" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

func tryHead(t *testing.T, g *rig.Gateway) {
	c := g.Dial("HEAD /t/a/probe/bytes?n=1000 HTTP/1.1\nHost: localhost\n\n")
	if resp := c.Answer("HEAD"); resp.StatusCode != 200 || resp.Header.Get("Content-Length") != "1000" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	c.Send("GET /t/a/probe/hello HTTP/1.1\nHost: localhost\n\n") // nothing of a body may stand before this answer
	if _, body := c.Whole("GET"); string(body) != "hello\n" {
		t.Errorf("the next answer is %q", body)
	}
}

func tryTrailers(t *testing.T, g *rig.Gateway) {
	c := g.Dial("POST /t/a/probe/trailers HTTP/1.1\nHost: localhost\nTE: trailers\nTransfer-Encoding: chunked\nTrailer: X-Mine\n\n5\nhello\n0\nX-Mine: yours\n\n")
	resp, body := c.Whole("POST")
	if string(body) != "got yours" || resp.Trailer.Get("X-Sum") != "5" {
		t.Errorf("%q, trailers %v", body, resp.Trailer)
	}
}

func tryHints(t *testing.T, g *rig.Gateway) {
	c := g.Dial("GET /t/a/probe/early HTTP/1.1\nHost: localhost\n\n")
	if hint := c.Answer("GET"); hint.StatusCode != 103 || !strings.Contains(hint.Header.Get("Link"), "style.css") {
		t.Errorf("%d %v", hint.StatusCode, hint.Header)
	}
	if resp, body := c.Whole("GET"); resp.StatusCode != 200 || string(body) != "later\n" || resp.Header.Get("Link") != "" {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
	}
}

func tryContinue(t *testing.T, g *rig.Gateway) {
	c := g.Dial("POST /t/a/probe/hash HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 5\n\n")
	if resp := c.Answer("POST"); resp.StatusCode != 100 {
		t.Fatalf("the body was asked for with %d", resp.StatusCode)
	}
	c.Send("hello")
	if resp, body := c.Whole("POST"); resp.StatusCode != 200 || string(body) != "5 "+sum("hello") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func tryContinueRefused(t *testing.T, g *rig.Gateway) {
	c := g.Dial("POST /t/a/probe/refuse HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 1000000000\n\n")
	if resp := c.Answer("POST"); resp.StatusCode != 403 {
		t.Errorf("a body that nobody wants was answered %d", resp.StatusCode)
	}
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// The handler's context ends when its client goes, in whatever state the request is.
func tryGone(t *testing.T, g *rig.Gateway) {
	g.Text("GET", "/t/gone/probe/hello", "") // it runs
	for i, request := range []string{
		"GET /t/gone/probe/wait?door=x HTTP/1.1\nHost: localhost\n\n",
		"POST /t/gone/probe/wait?door=x HTTP/1.1\nHost: localhost\nContent-Length: 3\n\nabc",
		"POST /t/gone/probe/wait?door=x HTTP/1.1\nHost: localhost\nContent-Length: 300000\n\nabc",                              // most of it never comes
		"POST /t/gone/probe/wait?door=x HTTP/1.1\nHost: localhost\nContent-Length: 1000000\n\n" + strings.Repeat("x", 320<<10), // more than the facet has room for
		"POST /t/gone/probe/wait?door=x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n3\nabc\n",
		"GET /t/gone/probe/events?door=x HTTP/1.1\nHost: localhost\n\n",
	} {
		before := requests(g, "t/gone/probe")
		c := g.Dial(request)
		rig.Eventually(t, 10*time.Second, "the request runs", func() bool { return requests(g, "t/gone/probe") > before })
		c.Close()
		rig.Eventually(t, 10*time.Second, fmt.Sprintf("handler %d is told", i), func() bool { return g.Text("GET", "/t/gone/probe/gone", "") == fmt.Sprint(i+1) })
	}
}

// requests counts what a facet was asked so far, 0 for one that never was.
func requests(g *rig.Gateway, address string) int64 {
	var d rig.Detail
	if o := g.Run("facets", "inspect", address, "--output", "json"); o.Code == 0 {
		json.Unmarshal([]byte(o.Stdout), &d)
	}
	return d.Requests
}

func tryUpload(t *testing.T, g *rig.Gateway) {
	const size = 200 << 20
	h := sha256.New()
	want := make(chan string, 1)
	r, w := io.Pipe()
	go func() {
		io.CopyN(io.MultiWriter(w, h), rig.Zeros(size), size)
		want <- fmt.Sprintf("%d %s", size, hex.EncodeToString(h.Sum(nil)))
		w.Close()
	}()
	a := g.Do("POST", "/t/a/probe/hash", r)
	if got := <-want; a.Status != 200 || string(a.Body) != got {
		t.Errorf("%d %s, wanted %s", a.Status, a.Body, got)
	}
	if peak := g.PeakRSS(); peak > maxGateway {
		t.Errorf("the gateway held %d MB", peak>>20)
	}
	t.Logf("%d MB in %s", size>>20, a.Took)
}

// An answer that is written while its request is read: both flow.
func tryEcho(t *testing.T, g *rig.Gateway) {
	for _, size := range []int{0, 1, 65_535, 65_536, 65_537, 1 << 20, 5 << 20} {
		c := g.Dial(fmt.Sprintf("POST /t/a/probe/echo HTTP/1.1\nHost: localhost\nContent-Length: %d\n\n", size))
		text := strings.Repeat("0123456789abcde\x00", size/16+1)[:size]
		go io.WriteString(c, text)
		if _, body := c.Whole("POST"); string(body) != text {
			t.Errorf("%d bytes came back as %d", size, len(body))
		}
	}
}

// A handler that answers without having read the body: the answer arrives, and so do the next ones.
func tryEarly(t *testing.T, g *rig.Gateway) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 25 {
				size := []int64{1, 1000, 60 << 10, 200 << 10}[i%4]
				a, err := g.Try("POST", "/t/a/probe/refuse", rig.Zeros(size)) // of unknown length
				if err == nil && (a.Status != 403 || string(a.Body) != "not wanted\n") {
					t.Errorf("%d bytes: %d %q", size, a.Status, a.Body)
				}
				if err != nil && size <= 1000 {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
		})
	}
	wg.Wait()
}

func tryPipeline(t *testing.T, g *rig.Gateway) {
	var text strings.Builder
	for i := range 20 {
		body := strings.Repeat("b", i)
		fmt.Fprintf(&text, "POST /t/a/probe/echo HTTP/1.1\nHost: localhost\nContent-Length: %d\n\n%s", len(body), body)
	}
	c := g.Dial(text.String())
	for i := range 20 {
		if resp, body := c.Whole("POST"); resp.StatusCode != 200 || len(body) != i {
			t.Fatalf("answer %d: %d, %d bytes", i, resp.StatusCode, len(body))
		}
	}
}

func tryMany(t *testing.T, g *rig.Gateway) {
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 32 {
				want := fmt.Sprintf("%d of %d", j, i)
				a, err := g.Try("POST", "/t/a/probe/echo", strings.NewReader(want))
				if err != nil || a.Status != http.StatusOK || string(a.Body) != want {
					t.Errorf("%s: %v %v", want, a, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
