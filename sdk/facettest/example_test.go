package facettest_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk"
	"github.com/facetgateway/fgw/sdk/facettest"
)

var t *testing.T // a test's own

// start is the app's.
func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, f.Now().Format(time.Kitchen)) }), nil
}

func ExampleNew() {
	s := facettest.New(t, start, facettest.WithEnv("MODE", "demo"))
	if status, body := s.Get("/"); status != http.StatusOK || body != "12:00PM" {
		t.Errorf("%d %s", status, body)
	}
	s.Advance(time.Hour)
	s.Restart() // the data stays, memory does not
}

func ExampleStart() {
	_, err := facettest.Start(t, func(context.Context, *sdk.Facet) (http.Handler, error) {
		panic("no such thing")
	})
	if err == nil {
		t.Error("it starts")
	}
}
