package rig

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Answer is a whole answer.
type Answer struct {
	Status  int
	Header  http.Header
	Trailer http.Header
	Body    []byte
	Took    time.Duration
}

// Problem is an error of the gateway's own.
type Problem struct {
	Code, Message, Hint string
	RequestID           string `json:"request_id"`
}

// Problem decodes the answer's error; its code is "" where the answer is none of the gateway's errors.
func (a *Answer) Problem() Problem {
	var body struct{ Error Problem }
	json.Unmarshal(a.Body, &body)
	return body.Error
}

// client follows no redirect, keeps its connections, and waits long: each test bounds what it
// measures. Accept-Encoding is left out, so that bodies arrive as they were sent.
var client = &http.Client{
	Timeout:       2 * time.Minute,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, ExpectContinueTimeout: time.Minute},
}

// Try sends a request and reads the whole answer. headers are name, value, name, value….
func (g *Gateway) Try(method, path string, body io.Reader, headers ...string) (*Answer, error) {
	return try(method, "http://"+g.Addr+path, body, headers...)
}

// Post is Try at an address of its own: of a gateway that another goroutine may start again meanwhile.
func Post(url, body string) (*Answer, error) { return try("POST", url, strings.NewReader(body)) }

func try(method, url string, body io.Reader, headers ...string) (*Answer, error) {
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	began := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(resp.Body)
	a.Trailer, a.Took = resp.Trailer, time.Since(began)
	return a, err
}

// Do is Try for a request whose answer has to be whole.
func (g *Gateway) Do(method, path string, body io.Reader, headers ...string) *Answer {
	g.T.Helper()
	a, err := g.Try(method, path, body, headers...)
	if err != nil {
		g.T.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// Text is Do for a request that has to succeed; it gives the body.
func (g *Gateway) Text(method, path, body string, headers ...string) string {
	g.T.Helper()
	a := g.Do(method, path, strings.NewReader(body), headers...)
	if a.Status != http.StatusOK {
		g.T.Fatalf("%s %s: %d %.500s", method, path, a.Status, a.Body)
	}
	return string(a.Body)
}

// Get reads JSON.
func (g *Gateway) Get(path string, into any, headers ...string) {
	g.T.Helper()
	text := g.Text("GET", path, "", headers...)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		g.T.Fatalf("GET %s: %v in %q", path, err, text)
	}
}

// Refused sends a request that the gateway itself has to answer with this status and code.
func (g *Gateway) Refused(status int, code, method, path string, body io.Reader, headers ...string) Problem {
	g.T.Helper()
	a := g.Do(method, path, body, headers...)
	p := a.Problem()
	if a.Status != status || p.Code != code {
		g.T.Fatalf("%s %s: %d %.300s, wanted %d %s", method, path, a.Status, a.Body, status, code)
	}
	if p.Message == "" || p.RequestID == "" || p.RequestID != a.Header.Get("X-Request-Id") || a.Header.Get("Content-Type") != "application/json" {
		g.T.Errorf("%s %s: the error is not whole: %v %s", method, path, a.Header, a.Body)
	}
	return p
}

// Conn is a connection on which a test speaks HTTP by hand.
type Conn struct {
	net.Conn
	R *bufio.Reader
	t testing.TB
}

// rawTime bounds everything that happens on a connection by hand.
const rawTime = 30 * time.Second

// Dial opens one and sends text with its line ends made CRLF.
func (g *Gateway) Dial(text string) *Conn {
	g.T.Helper()
	c, err := net.Dial("tcp", g.Addr)
	if err != nil {
		g.T.Fatal(err)
	}
	g.T.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(rawTime))
	conn := &Conn{Conn: c, R: bufio.NewReader(c), t: g.T}
	conn.Send(text)
	return conn
}

// Send sends text with its line ends made CRLF.
func (c *Conn) Send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		c.t.Fatal(err)
	}
}

// Answer reads one answer's head; its body is read by the caller.
func (c *Conn) Answer(method string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.R, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read the answer: %v", err)
	}
	return resp
}

// Whole reads one answer and its body.
func (c *Conn) Whole(method string) (*http.Response, []byte) {
	c.t.Helper()
	resp := c.Answer(method)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read the answer's body: %v", err)
	}
	return resp, body
}

// Zeros is n bytes of nothing, for bodies whose content does not matter.
func Zeros(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Repeat is text n times over.
func Repeat(text string, n int) io.Reader { return bytes.NewReader(bytes.Repeat([]byte(text), n)) }
