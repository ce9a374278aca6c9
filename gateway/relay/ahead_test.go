package relay

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

// A head that a handler sends ahead of its body reaches the client at once: an event stream is open then.
func TestHeadAheadOfItsBody(t *testing.T) {
	for name, length := range map[string]string{"of unknown length": "", "of known length": "5"} {
		t.Run(name, func(t *testing.T) {
			more := make(chan struct{})
			s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				<-more
				io.WriteString(w, "later")
			}), nil)
			srv, _ := front(t, s, Options{})
			client := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: 10 * time.Second}}
			defer client.CloseIdleConnections()
			resp, err := client.Get(srv.URL)
			close(more)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); string(got) != "later" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A client that goes, or sends too much, while an answer streams: neither is the facet's breach of the protocol, for which it would die.
func TestClientFailsWhileTheAnswerStreams(t *testing.T) {
	for _, test := range []struct {
		name string
		body io.Reader
		gone bool
	}{
		{"it goes", nil, true},
		{"it goes in the midst of its body", half(), true},
		{"it sends too much", io.LimitReader(zeros{}, 10<<20), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			over := make(chan struct{}) // not the request's context: an answer that ends in time is no failure
			t.Cleanup(func() { close(over) })
			s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				io.Copy(io.Discard, r.Body)
				<-over
			}), nil)
			srv, failed := front(t, s, Options{BodyLimit: 1 << 20})
			client := &http.Client{Transport: &http.Transport{}}
			resp, err := client.Post(srv.URL, "", test.body)
			if err != nil && test.gone {
				t.Fatal(err)
			}
			if err == nil {
				if !test.gone {
					io.Copy(io.Discard, resp.Body)
				}
				resp.Body.Close()
			}
			if err := <-failed; !errors.Is(err, ErrCut) || !errors.Is(err, ErrClientGone) || errors.Is(err, ErrProtocol) {
				t.Errorf("it is told %v", err)
			}
		})
	}
}

// half is a body that begins and never ends by itself.
func half() io.Reader {
	r, w := io.Pipe()
	go io.WriteString(w, "half of it")
	return r
}
