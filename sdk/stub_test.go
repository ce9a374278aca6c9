package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
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
