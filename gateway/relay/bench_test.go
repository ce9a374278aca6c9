package relay

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"testing"

	"context"
)

// BenchmarkRelay compares a warm small request through the relay with the same through
// httputil.ReverseProxy to a unix socket, in one process each, at 32 connections.
func BenchmarkRelay(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\n") })
	b.Run("relay", func(b *testing.B) {
		s := facet(b, hello, nil)
		srv, _ := front(b, s, Options{})
		load(b, srv)
	})
	b.Run("ReverseProxy", func(b *testing.B) {
		sock := filepath.Join(b.TempDir(), "s")
		ln, err := net.Listen("unix", sock)
		if err != nil {
			b.Fatal(err)
		}
		back := &http.Server{Handler: hello}
		go back.Serve(ln)
		b.Cleanup(func() { back.Close() })
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "x"})
		proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", sock)
		}}
		srv := httptest.NewServer(proxy)
		b.Cleanup(srv.Close)
		load(b, srv)
	})
}

func load(b *testing.B, srv *httptest.Server) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.Cleanup(client.CloseIdleConnections)
	b.SetParallelism(16) // 32 connections on two cores
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := client.Get(srv.URL)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
