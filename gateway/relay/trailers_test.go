package relay

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Trailers take up to 64 KiB, however many they are (SPEC §6), and the body before them is whole. More is a breach.
func TestTrailersOfAnAnswer(t *testing.T) {
	const all = wire.MaxHeadBytes - len("X-Long: \r\n\r\n")
	for _, c := range []struct {
		name    string
		trailer map[string]int // size by name
		ok      bool
	}{
		{"none", nil, true},
		{"short", map[string]int{"X-Long": 7 << 10}, true},
		{"as long as the buffer", map[string]int{"X-Long": headSize - len("X-Long: \r\n\r\n")}, true},
		{"a byte more than the buffer", map[string]int{"X-Long": headSize - len("X-Long: \r\n\r\n") + 1}, true},
		{"many", map[string]int{"X-1": 9 << 10, "X-2": 9 << 10, "X-3": 9 << 10, "X-4": 9 << 10, "X-5": 9 << 10, "X-6": 9 << 10}, true},
		{"as long as they may be", map[string]int{"X-Long": all}, true},
		{"a byte more", map[string]int{"X-Long": all + 1}, false},
		{"too many", map[string]int{"X-1": 33 << 10, "X-2": 33 << 10}, false},
		{"very long", map[string]int{"X-Long": 1 << 20}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				io.WriteString(w, strings.Repeat("body", 10_000))
				for name, size := range c.trailer {
					w.Header().Set(http.TrailerPrefix+name, strings.Repeat("x", size))
				}
			}), nil)
			srv, failed := front(t, s, Options{})
			client := &http.Client{Transport: &http.Transport{ReadBufferSize: 128 << 10}} // or it would take less itself
			defer client.CloseIdleConnections()
			for range 2 { // and the next request finds a stream in order
				resp, err := client.Get(srv.URL)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !c.ok {
					if err == nil {
						t.Error("it came whole")
					}
					if err := <-failed; !errors.Is(err, ErrProtocol) || !errors.Is(err, ErrCut) || !strings.Contains(err.Error(), "trailers of more than 65536 bytes") {
						t.Errorf("it is told %v", err)
					}
					return
				}
				got := map[string]int{}
				for name := range resp.Trailer {
					got[name] = len(resp.Trailer.Get(name))
				}
				if err != nil || len(body) != 40_000 || len(got) != len(c.trailer) || len(got) > 0 && fmt.Sprint(got) != fmt.Sprint(c.trailer) {
					t.Errorf("%d bytes, trailers %v, %v", len(body), got, err)
				}
			}
		})
	}
}

// Trailers that break off, or are none, are no end of an answer.
func TestBrokenTrailers(t *testing.T) {
	long := "X-Long: " + strings.Repeat("x", 20<<10)
	for name, c := range map[string]struct {
		end  string
		want error
	}{
		"break off":                   {"0\r\n" + long, ErrFacetGone},
		"are none":                    {"0\r\n" + strings.Repeat("x", 20<<10) + "\r\n\r\n", ErrProtocol},
		"a chunk that looks like one": {long + "\r\n\r\n", ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"+c.end)
				conn.Close()
			}), nil)
			srv, failed := front(t, s, Options{})
			resp, err := http.Get(srv.URL)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Error("it came whole")
			}
			if err := <-failed; !errors.Is(err, c.want) || !errors.Is(err, ErrCut) {
				t.Errorf("it is told %v", err)
			}
		})
	}
}
