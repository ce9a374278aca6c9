package e2e_test

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// All that HTTP can do reaches a child that a supervisor handed the request to.
func TestHandover(t *testing.T) {
	s := staged(t)
	s.expect("a", "/count", "0")
	for _, test := range []struct {
		name string
		run  func(*testing.T, *stage)
	}{
		{"both directions at once", handoverEcho}, {"upgrade", handoverUpgrade}, {"events", handoverEvents}, {"head", handoverHead},
		{"trailers", handoverTrailers}, {"a large body passes the supervisor by", handoverLarge}, {"location", handoverLocation},
		{"headers", handoverHeaders}, {"the request as the child sees it", handoverRequest}, {"round trip", roundTrip}, {"an answer that is cut", handoverCut},
		{"client gone", handoverGone}, {"many on one connection", handoverMany},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s.at(t, "studio")) })
	}
	if d := s.Inspect(s.address()); d.Usage.Starts != 1 || d.LastExit != nil {
		t.Errorf("the supervisor: %+v", d)
	}
	if d := s.Inspect(s.address("a")); d.Usage.Starts != 1 || d.LastExit != nil {
		t.Errorf("the child: %+v", d)
	}
}

func handoverEcho(t *testing.T, s *stage) {
	c := s.Dial("POST " + s.path("on", "a", "/echo") + " HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n")
	var body *bufio.Reader
	for i, text := range []string{"ping", "pong", strings.Repeat("long ", 20_000)} {
		c.Send(fmt.Sprintf("%x\n", len(text)))
		if _, err := io.WriteString(c, text+"\r\n"); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			resp := c.Answer("POST")
			if resp.StatusCode != 200 {
				t.Fatalf("answered %d", resp.StatusCode)
			}
			body = bufio.NewReader(resp.Body)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(body, got); err != nil || string(got) != text {
			t.Fatalf("turn %d: %d bytes, %v", i, len(got), err)
		}
	}
	c.Send("0\n\n")
	if rest, err := io.ReadAll(body); err != nil || len(rest) != 0 {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

func handoverUpgrade(t *testing.T, s *stage) {
	for _, verb := range []string{"on", "header"} {
		c := s.Dial("GET " + s.path(verb, "a", "/upgrade") + " HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: shout\n\n")
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
		c.Close()
	}
}

func handoverEvents(t *testing.T, s *stage) {
	c := s.Dial("GET " + s.path("on", "a", "/events?door=events") + " HTTP/1.1\nHost: localhost\nAccept: text/event-stream\n\n")
	resp := c.Answer("GET")
	events := bufio.NewReader(resp.Body)
	if first, err := events.ReadString('\n'); err != nil || first != "data: first\n" || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%q %v %v", first, err, resp.Header)
	}
	s.on("a", "/open?door=events")
	if rest, err := io.ReadAll(events); err != nil || string(rest) != "\ndata: second\n\n" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

func handoverHead(t *testing.T, s *stage) {
	c := s.Dial("HEAD " + s.path("on", "a", "/bytes?n=1000") + " HTTP/1.1\nHost: localhost\n\n")
	if resp := c.Answer("HEAD"); resp.StatusCode != 200 || resp.Header.Get("Content-Length") != "1000" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	c.Send("GET " + s.path("on", "a", "/bytes?n=3") + " HTTP/1.1\nHost: localhost\n\n")
	if _, body := c.Whole("GET"); string(body) != "xxx" {
		t.Errorf("the next answer is %q", body)
	}
}

func handoverTrailers(t *testing.T, s *stage) {
	c := s.Dial("POST " + s.path("on", "a", "/trailers") + " HTTP/1.1\nHost: localhost\nTE: trailers\nTransfer-Encoding: chunked\nTrailer: X-Mine\n\n5\nhello\n0\nX-Mine: yours\n\n")
	resp, body := c.Whole("POST")
	if string(body) != "got yours" || resp.Trailer.Get("X-Sum") != "5" {
		t.Errorf("%q, trailers %v", body, resp.Trailer)
	}
}

// rchar is how many bytes a process has read, sockets included.
func rchar(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func handoverLarge(t *testing.T, s *stage) {
	const size = 60 << 20
	pid := s.Inspect(s.address()).PID
	before := rchar(t, pid)
	h := sha256.New()
	a := s.Do("POST", s.path("on", "a", "/hash"), io.TeeReader(io.LimitReader(rand.Reader, size), h))
	if want := fmt.Sprintf("%q\n", fmt.Sprint(size, " ", hex.EncodeToString(h.Sum(nil)))); string(a.Body) != want {
		t.Errorf("%d %s, wanted %s", a.Status, a.Body, want)
	}
	got := s.Do("GET", s.path("on", "a", "/bytes?n="+strconv.Itoa(size)), nil)
	if len(got.Body) != size {
		t.Errorf("%d bytes came back", len(got.Body))
	}
	if read := rchar(t, pid) - before; read > 1<<20 {
		t.Errorf("the supervisor read %d bytes of it", read)
	}
	// The other way they do pass through it.
	if a := s.Do("GET", s.path("loud", "a", "/bytes?n="+strconv.Itoa(4<<20)), nil); len(a.Body) != 4<<20 || rchar(t, pid)-before < 4<<20 {
		t.Errorf("%d bytes passed through", len(a.Body))
	}
}

func handoverLocation(t *testing.T, s *stage) {
	prefix := s.path("on", "a", "")
	for to, want := range map[string]string{"/after?x=1": prefix + "/after?x=1", "after": "after", "//elsewhere.test/": "//elsewhere.test/", "https://elsewhere.test/x": "https://elsewhere.test/x"} {
		a := s.Do("GET", s.path("on", "a", "/redirect?to="+escape(to)), nil)
		if a.Status != 303 || a.Header.Get("Location") != want {
			t.Errorf("%q became %q", to, a.Header.Get("Location"))
		}
	}
}

func handoverHeaders(t *testing.T, s *stage) {
	a := s.Do("GET", s.path("header", "a", "/who"), nil, "X-Taken", "away", "X-Kept", "yes", "Fgw-Service", "desk", "Fgw-Egress", "1")
	var k kid
	if err := json.Unmarshal(a.Body, &k); err != nil {
		t.Fatalf("%v in %s", err, a.Body)
	}
	for name, want := range map[string]string{"X-Added": "by the director", "X-Taken": "", "X-Kept": "yes", "Fgw-Service": "", "Fgw-Egress": "", "X-Forwarded-Prefix": s.path("header", "a", "")} {
		if got := k.Headers.Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if id := k.Headers.Get("X-Request-Id"); id == "" || id != a.Header.Get("X-Request-Id") {
		t.Errorf("request ids %q and %q", id, a.Header.Get("X-Request-Id"))
	}
	if a := s.Do("GET", s.path("on", "a", "/who"), nil); a.Header.Get("X-Director") == "" || a.Header.Get("Fgw-Handover") != "" {
		t.Errorf("the answer's headers %v", a.Header)
	}
}

func handoverRequest(t *testing.T, s *stage) {
	for _, method := range []string{"GET", "PUT", "DELETE", "PROPFIND"} {
		var k kid
		a := s.Do(method, s.path("on", "a", "/who")+"?a=1&b=%2F", nil)
		if err := json.Unmarshal(a.Body, &k); err != nil {
			t.Fatal(err)
		}
		if k.Method != method || k.Path != "/who" || k.Query != "a=1&b=%2F" || k.Host != s.Addr {
			t.Errorf("%+v", k)
		}
	}
}

func roundTrip(t *testing.T, s *stage) {
	a := s.Do("GET", s.path("loud", "a", "/who"), nil)
	if !strings.Contains(string(a.Body), `"NAME":"A"`) || a.Header.Get("X-Loud") != "application/json" {
		t.Errorf("%d %v %s", a.Status, a.Header, a.Body)
	}
	a = s.Do("POST", s.path("loud", "a", "/echo"), strings.NewReader(strings.Repeat("abc", 100_000)))
	if string(a.Body) != strings.Repeat("ABC", 100_000) {
		t.Errorf("%d bytes came back", len(a.Body))
	}
}

func handoverCut(t *testing.T, s *stage) {
	a, err := s.Try("GET", s.path("on", "a", "/cut"), nil)
	if err == nil {
		t.Errorf("half an answer looked whole: %d %q", a.Status, a.Body)
	}
	if f := faultIn(t, s.Do("GET", s.path("loud", "a", "/cut"), nil)); f == nil {
		t.Error("half an answer looked whole to the supervisor")
	}
	s.expect("a", "/shared", "1")
}

func handoverGone(t *testing.T, s *stage) {
	c := s.Dial("GET " + s.path("on", "a", "/wait?begin&door=never") + " HTTP/1.1\nHost: localhost\n\n")
	if resp := c.Answer("GET"); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode)
	}
	c.Close()
	rig.Eventually(t, rawWait, "neither has it in flight", func() bool {
		for _, a := range []string{s.address(), s.address("a")} {
			before := s.Inspect(a)
			if again := s.Inspect(a); before.Usage.Requests != again.Usage.Requests || before.State != "running" {
				return false
			}
		}
		return true
	})
	s.expect("a", "/shared", "2")
}

func handoverMany(t *testing.T, s *stage) {
	c := s.Dial("")
	for i := range 200 {
		c.Send(fmt.Sprintf("POST %s HTTP/1.1\nHost: localhost\nContent-Length: 4\n\nbody", s.path("on", "a", "/echo")))
		if resp, body := c.Whole("POST"); resp.StatusCode != 200 || string(body) != "body" {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, body)
		}
	}
}
