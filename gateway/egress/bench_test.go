package egress

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") }

// BenchmarkSmallGet compares a request through egress, on a facet's kept connection, with the
// same request by a client of one's own.
func BenchmarkSmallGet(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(hello))
	defer s.Close()

	b.Run("direct", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		for b.Loop() {
			res, err := c.Get(s.URL)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
	b.Run("egress", func(b *testing.B) {
		w := newWorld(b, Config{AllowAddrs: loopback}, "127.0.0.1:"+portOf(s))
		c, err := net.Dial("tcp", w.server.Listener.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		br := bufio.NewReader(c)
		r, _ := http.NewRequest("GET", s.URL, nil)
		for b.Loop() {
			r.WriteProxy(c)
			res, err := http.ReadResponse(br, r)
			if err != nil || res.StatusCode != 200 {
				b.Fatal(res, err)
			}
			io.Copy(io.Discard, res.Body)
		}
	})
	// What egress itself adds to the transport's work, without a facet's connection.
	b.Run("in place", func(b *testing.B) {
		p, _ := ParsePolicy([]string{"127.0.0.1:" + portOf(s)})
		defer p.Close()
		e := New(Config{AllowAddrs: loopback})
		for b.Loop() {
			w := httptest.NewRecorder()
			e.Serve(w, httptest.NewRequest("GET", s.URL, nil), p, nil)
			if w.Code != 200 {
				b.Fatal(w.Code)
			}
		}
	})
}
