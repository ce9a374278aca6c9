package relay

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Trailers are read by net/http's parser, and so may take what its reader holds: 8 KiB (SPEC §6). More is a breach.
func TestTrailersOfAnAnswer(t *testing.T) {
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Long")
		io.WriteString(w, "body")
		size := 7 << 10
		if r.URL.Path == "/more" {
			size = 9 << 10
		}
		w.Header().Set("X-Long", strings.Repeat("x", size))
	}), nil)
	srv, failed := front(t, s, Options{})
	client := &http.Client{Transport: &http.Transport{ReadBufferSize: 64 << 10}} // or it would take less itself
	defer client.CloseIdleConnections()
	for path, size := range map[string]int{"/": 7 << 10, "/more": 0} {
		resp, err := client.Get(srv.URL + path)
		got := 0
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			got = len(resp.Trailer.Get("X-Long"))
		}
		if got != size || (err == nil) != (size > 0) {
			t.Errorf("%s: a trailer of %d bytes, %v", path, got, err)
		}
	}
	if err := <-failed; !errors.Is(err, ErrProtocol) || !errors.Is(err, ErrCut) {
		t.Errorf("it is told %v", err)
	}
}
