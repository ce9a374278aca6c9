package relay

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"
)

// A facet that goes on sending when its client is gone, and closes nothing, makes the gateway hold none of it.
func TestClosedStreamsHoldNothing(t *testing.T) {
	const streams, each = 100, 200 << 10 // within the stream's window
	sent := make(chan struct{}, streams)
	s := raw(t, func(c net.Conn) {
		head := make([]byte, 12)
		for {
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			id := slices.Clone(head[4:8])
			send := func(b []byte) {
				c.Write(slices.Concat([]byte{0, 0, 0, 0}, id, binary.BigEndian.AppendUint32(nil, uint32(len(b)))))
				c.Write(b)
			}
			switch {
			case head[1] == 0:
				data := make([]byte, binary.BigEndian.Uint32(head[8:]))
				io.ReadFull(c, data)
				if bytes.Contains(data, []byte("GET /")) {
					send([]byte("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"))
				}
			case head[3]&4 != 0: // FIN: the gateway has closed it
				send(make([]byte, each))
				sent <- struct{}{}
			case head[3]&1 != 0: // SYN
				c.Write(slices.Concat([]byte{0, 1, 0, 2}, id, make([]byte, 4)))
			}
		}
	}, nil)
	srv, _ := front(t, s, Options{})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range streams {
		resp, err := client.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("answered %d", resp.StatusCode)
		}
		select {
		case <-sent:
		case <-time.After(10 * time.Second):
			t.Fatal("the stream is not closed")
		}
	}
	var m runtime.MemStats
	runtime.GC()
	if runtime.ReadMemStats(&m); m.HeapAlloc > streams*each/2 {
		t.Errorf("%d MiB are held", m.HeapAlloc>>20)
	}
	if n := s.mux.NumStreams(); n != streams {
		t.Errorf("%d streams are there, of which nothing is to be held", n)
	}
}
