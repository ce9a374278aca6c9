package front

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/facetgateway/fgw/gateway/facet"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
)

// hasty answers after the first byte of a body.
type hasty struct{}

func (hasty) Serve(w http.ResponseWriter, r *http.Request, _ *facet.Target, _ *relay.Request, _ *relay.Options) error {
	http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("Connection", "close")
	io.ReadFull(r.Body, make([]byte, 1))
	w.WriteHeader(http.StatusRequestEntityTooLarge)
	return nil
}

// TestAnswerBeforeTheBodysEnd: a client that first sends some of its body and then reads finds the answer, and no reset.
func TestAnswerBeforeTheBodysEnd(t *testing.T) {
	ns := spaces{"t": {Name: "t", Access: "local", Limits: registry.DefaultLimits()}}
	srv := httptest.NewServer(New(Config{Namespaces: ns, Facets: hasty{}, Origins: ns, Ready: func() bool { return true }, Log: slog.New(slog.DiscardHandler)}))
	defer srv.Close()
	// Whether a reset comes before the answer is read is chance: once in three.
	asks := slices.Repeat([]string{"Expect: 100-continue\r\n"}, 10)
	for _, expect := range append(asks, "") {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /t/a/app/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n%s\r\n", expect)
		r := bufio.NewReader(c)
		if expect != "" {
			if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusContinue {
				t.Fatalf("%v, %v; wanted 100 first", res, err)
			}
		}
		chunk := make([]byte, 64<<10)
		for sent := 0; sent < 1<<20; sent += len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				t.Fatalf("with %q: after %d bytes: %v", expect, sent, err)
			}
		}
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("with %q: %v, %v", expect, res, err)
		}
	}
}
