package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// A client behind a supervisor through which the bytes pass is told no less than one that was handed over.
func TestProblemsPassWhole(t *testing.T) {
	for _, test := range []struct {
		code   string
		status int
		after  string // from the gateway
		want   string
	}{
		{"facet_backoff", 503, "7", "7"}, {"too_many_requests", 429, "1", "1"}, {"overloaded", 503, "", "1"}, {"facet_crashed", 502, "", ""},
	} {
		h := http.Header{"Fgw-Error": {test.code}}
		if test.after != "" {
			h.Set("Retry-After", test.after)
		}
		err := problem(&http.Response{Status: "no", Header: h, Body: io.NopCloser(strings.NewReader(`{"error":{"code":"` + test.code + `","message":"why"}}`))})
		var f *FacetError
		if !errors.As(err, &f) || f.Code != test.code || f.Message != "why" || (f.RetryAfter == 7*time.Second) != (test.after == "7") {
			t.Fatalf("%s became %#v", test.code, err)
		}
		w := httptest.NewRecorder()
		w.Header().Set("Content-Length", "3") // of the answer that the handler had in mind
		writeProblem(w, httptest.NewRequestWithContext(context.WithValue(t.Context(), requestIDKey{}, "the-id"), "GET", "/", nil), err)
		var body struct {
			Error map[string]string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error["request_id"] != "the-id" || body.Error["code"] != test.code || body.Error["message"] != "why" {
			t.Errorf("%s: the body is %s", test.code, w.Body)
		}
		if got := w.Header(); w.Code != test.status || got.Get("Retry-After") != test.want || got.Get("Cache-Control") != "no-store" || got.Get("Content-Length") != "" {
			t.Errorf("%s: %d %v", test.code, w.Code, got)
		}
	}
}

// Where the bytes pass through this process, a request's trailers do, too.
func TestTrailersPass(t *testing.T) {
	got := make(chan string, 1)
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got <- r.Trailer.Get("Check")
	}))
	defer far.Close()
	stub := &Stub{call: wire.Call{Op: wire.OpService}, keep: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", far.Listener.Addr().String())
	}}}
	near := httptest.NewServer(stub)
	defer near.Close()
	r, err := http.NewRequestWithContext(t.Context(), "POST", near.URL, io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	r.Trailer = http.Header{"Check": {"sum"}}
	resp, err := near.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if v := <-got; v != "sum" {
		t.Errorf("the trailer is %q", v)
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	for code, want := range map[string]error{
		"facet_not_found": ErrNotFound, "app_not_found": ErrNotFound, "object_not_found": ErrNotFound, "namespace_not_found": ErrNotFound,
		"facet_timeout": ErrLimit, "too_many_requests": ErrLimit, "storage_quota": ErrLimit, "facet_crashed": nil, "not_found": nil,
	} {
		for _, is := range []error{ErrNotFound, ErrLimit, ErrNoEgress} {
			if got := errors.Is(&FacetError{Code: code}, is); got != (is == want) {
				t.Errorf("%s is %q: %t", code, is, got)
			}
		}
	}
}
