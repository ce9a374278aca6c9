package sdk

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// TestHandlerGoesOn: a stream whose request was handed over carries the next one, whatever the handler does after that.
func TestHandlerGoesOn(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	after := map[string]func(){
		"it returns": func() {},
		"it works":   func() { <-over },
		"it panics":  func() { panic("after") },
		"it aborts":  func() { panic(http.ErrAbortHandler) },
	}
	g := startInstance(t, wire.Start{Children: true, MaxStreams: wire.MaxOwnStreams}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		child := f.Facets().Get("child", func(context.Context) (*Start, error) { return nil, nil })
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/own" {
				io.WriteString(w, "own")
				return
			}
			child.ServeHTTP(w, r)
			io.WriteString(w, "goes nowhere")
			after[r.URL.Query().Get("then")]()
		}), nil
	}).ready()
	for name := range after {
		t.Run(name, func(t *testing.T) {
			st := g.open(wire.StreamHTTP)
			defer st.Close()
			st.SetDeadline(time.Now().Add(patience))
			br := bufio.NewReader(st)
			for range 3 {
				io.WriteString(st, "GET /child?then="+url.QueryEscape(name)+" HTTP/1.1\r\nHost: h\r\n\r\n")
				if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != wire.StatusHandover || resp.Header.Get(wire.HeaderQuiet) == "" {
					t.Fatalf("%+v, %v", resp, err)
				}
				st.Write([]byte{0})
			}
			io.WriteString(st, "GET /own HTTP/1.1\r\nHost: h\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); string(b) != "own" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}
