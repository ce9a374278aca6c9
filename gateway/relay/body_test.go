package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
)

func TestBodyLimit(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }), nil)
	srv, failed := front(t, s, Options{BodyLimit: 100_000})
	for _, length := range []bool{true, false} {
		var up io.Reader = bytes.NewReader(make([]byte, 200_000))
		if !length {
			up = struct{ io.Reader }{up}
		}
		resp, err := http.Post(srv.URL, "", up)
		if err == nil {
			resp.Body.Close()
		}
		if err := <-failed; !errors.Is(err, ErrBodyTooLarge) {
			t.Errorf("length known %v: %v", length, err)
		}
	}
}

// A body that is not framed as it should be is told apart from a client that left in its midst.
func TestMalformedBody(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }), nil)
	srv, failed := front(t, s, Options{BodyLimit: 100_000})
	for body, want := range map[string]error{
		"zz\r\nabc\r\n0\r\n\r\n":              ErrBadBody,
		"3\r\nabcX\r\n0\r\n\r\n":              ErrBadBody,
		"FFFFFFFFFFFFFFFFF\r\nabc":            ErrBadBody,
		"3\nabc\n0\n\n":                       ErrBadBody,
		"3\r\nabc\r\n0\r\nno trailer\r\n\r\n": ErrBadBody,
		"5\r\nabc":                            ErrClientGone,
		"":                                    ErrClientGone,
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
		conn.(*net.TCPConn).CloseWrite()
		if err := <-failed; !errors.Is(err, want) || errors.Is(err, ErrBadBody) && errors.Is(err, ErrClientGone) {
			t.Errorf("%q: %v, want %v", body, err, want)
		}
		conn.Close()
	}
}
