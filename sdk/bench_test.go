package sdk

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire"
)

const benchRequest = "GET /hello HTTP/1.1\r\nHost: app--obj--ns.localhost:8080\r\nX-Request-Id: 0123456789abcdef\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"

func sayHello(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\n") }

// BenchmarkRequest is a small request to a warm instance: over the wire, and, as the floor, to the
// same handler over a unix socket. Client and server share the process.
func BenchmarkRequest(b *testing.B) {
	g := startInstance(b, wire.Start{}, handle(sayHello)).ready()
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(sayHello)}
	go server.Serve(l)
	defer server.Close()
	for _, v := range []struct {
		name string
		dial func() net.Conn
	}{
		{"wire", func() net.Conn { return g.open(wire.StreamHTTP) }},
		{"unix socket", func() net.Conn {
			c, err := net.Dial("unix", socket)
			if err != nil {
				b.Fatal(err)
			}
			return c
		}},
	} {
		b.Run(v.name+"/1", func(b *testing.B) { repeat(b, 1, v.dial) })
		b.Run(v.name+"/32", func(b *testing.B) { repeat(b, 32, v.dial) })
	}
}

func repeat(b *testing.B, conns int, dial func() net.Conn) {
	b.ReportAllocs()
	var wg sync.WaitGroup
	for range conns {
		c := dial()
		wg.Go(func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for range max(1, b.N/conns) {
				io.WriteString(c, benchRequest)
				for got := 0; !bytes.HasSuffix(buf[:got], []byte("hello\n")); {
					n, err := c.Read(buf[got:])
					if err != nil {
						b.Error(err)
						return
					}
					got += n
				}
			}
		})
	}
	wg.Wait()
}
