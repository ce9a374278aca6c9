package egress

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
)

// TestOverYamux is what a facet's connection really is: a stream, whose deadlines must end a read
// or a write that waits for the facet.
func TestOverYamux(t *testing.T) {
	_, port := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			http.NewResponseController(w).EnableFullDuplex()
			io.WriteString(w, "no")
			return
		}
		for { // more than the facet's window
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	here, there := net.Pipe()
	facet, err := yamux.Client(here, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer facet.Close()
	gateway, err := yamux.Server(there, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()

	p, _ := ParsePolicy([]string{"127.0.0.1:" + port})
	defer p.Close()
	e := New(Config{AllowAddrs: loopback, StallTimeout: 100 * time.Millisecond})
	over := make(chan struct{}, 1)
	s := &httptest.Server{Listener: gateway, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { over <- struct{}{} }()
		e.Serve(w, r, p, nil)
	})}}
	s.Start()
	defer s.Close()

	for path, want := range map[string]string{"/early": "\r\n\r\nno", "/unread": "200 OK"} {
		st, err := facet.Open()
		if err != nil {
			t.Fatal(err)
		}
		head := "POST http://127.0.0.1:" + port + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nbegin"
		if path == "/unread" {
			head = "GET http://127.0.0.1:" + port + path + " HTTP/1.1\r\nHost: h\r\n\r\n"
		}
		io.WriteString(st, head)
		within(t, path+" to end", over)
		st.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(st)
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %.200q, %v", path, got, err)
		}
		if whole := strings.HasSuffix(string(got), "0\r\n\r\n"); path == "/unread" && whole {
			t.Error("an answer that broke off looks whole")
		}
		st.Close()
	}
}
