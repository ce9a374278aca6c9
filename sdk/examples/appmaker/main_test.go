package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk"
	"github.com/facetgateway/fgw/sdk/facettest"
)

// What needs facets, and so a gateway, is tried in a browser by gateway/e2e/browser.

// begin starts a studio, and gives what lies behind its pages.
func begin(t *testing.T, object string) (*facettest.Server, *studio) {
	t.Helper()
	var s *studio
	server := facettest.New(t, func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		h, err := start(ctx, f)
		if err == nil {
			s = h.(*studio)
		}
		return h, err
	}, facettest.WithName("studio", object, ""))
	return server, s
}

func TestNamesAndAddresses(t *testing.T) {
	_, s := begin(t, "me")
	for name, says := range map[string]string{
		"todo": "", "a": "", "h": "makes up", "h2": "", "my-2nd-app": "", strings.Repeat("x", 40): "",
		"": "made of", "Todo": "made of", "a--b": "made of", "-a": "made of", "a-": "made of", "a.b": "made of", "../x": "made of", strings.Repeat("x", 41): "made of", "ä": "made of",
	} {
		if err := s.checkName(name); says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for host, want := range map[string]string{
		"me--studio.localhost:8080":   "http://todo--me--studio.localhost:8080",
		"ME--studio.LOCALHOST:8080":   "http://todo--me--studio.localhost:8080",
		"me--studio.apps.example.com": "http://todo--me--studio.apps.example.com",
		"127.0.0.1:8080":              "http://todo--me--studio.localhost:8080",
		"localhost":                   "http://todo--me--studio.localhost",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		if got := s.origin(r, "todo"); got != want {
			t.Errorf("%s: %s, wanted %s", host, got, want)
		}
	}
	_, long := begin(t, "a-studio-with-a-rather-long-name")
	if err := long.checkName("an-app-with-a-rather-long-name"); err == nil || !strings.Contains(err.Error(), "63") {
		t.Errorf("a label of more than 63 characters: %v", err)
	}
	_, odd := begin(t, "Bob Smith")
	if err := odd.checkName("todo"); err == nil || !strings.Contains(err.Error(), "Bob Smith") {
		t.Errorf("a studio whose name fits in no address: %v", err)
	}
}

func TestSettings(t *testing.T) {
	for _, good := range []settings{{}, {Memory: minMemory, Storage: minStorage, RequestTime: minRequestTime}, {Egress: []string{"*", "api.example.com", "*.example.com:8443", "localhost", "192.0.2.1", "::1"}}} {
		if err := good.check(sdk.Limits{Memory: minMemory, Storage: minStorage, RequestTime: time.Second}); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []settings{
		{Memory: minMemory - 1}, {Memory: -1}, {Memory: 1<<30 + 1}, {Storage: 1<<30 + 1}, {RequestTime: 60_001}, {Storage: 1}, {RequestTime: 1}, {RequestTime: 1 << 62}, {Egress: []string{"https://example.com"}}, {Egress: []string{"a b"}},
		{Egress: []string{"example.com:0"}}, {Egress: []string{"example.com:http"}}, {Egress: []string{"a.*.com"}}, {Egress: []string{""}}, {Egress: slices.Repeat([]string{"a"}, maxHosts+1)},
	} {
		var told requestError
		if err := bad.check(sdk.Limits{Memory: 1 << 30, Storage: 1 << 30, RequestTime: time.Minute}); !errors.As(err, &told) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if got := fmt.Sprint(choices(5000, 20_000, span, 1000, 20_000, 60_000)); got != "[{0 as much as the studio, 20 s false} {1000 1 s false} {5000 5 s true}]" {
		t.Errorf("to choose from there is %s", got)
	}
	if got := hosts(" B.com, a.com\r\na.com;c.com "); !slices.Equal(got, []string{"a.com", "b.com", "c.com"}) {
		t.Errorf("hosts %q", got)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 64 << 20: "64 MiB", 1 << 30: "1 GiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, wanted %s", n, got, want)
		}
	}
}

// publish is what save does once a source has built.
func publish(t *testing.T, s *studio, name, source string, base, want int) {
	t.Helper()
	if got, _, err := s.publish(t.Context(), name, source, base); err != nil || got != want {
		t.Fatalf("version %d, %v; wanted %d", got, err, want)
	}
	s.note(name, true)
}

func TestVersions(t *testing.T) {
	_, s := begin(t, "me")
	ctx := t.Context()
	publish(t, s, "todo", "one\n", 0, 1)
	publish(t, s, "todo", "two\n", 1, 2)
	publish(t, s, "todo", "two\n", anyBase, 2) // the same again is no new version
	if _, _, err := s.publish(ctx, "todo", "three\n", 1); !errors.Is(err, errStale) {
		t.Errorf("made from version 1, when 2 is live: %v", err)
	}
	if err := s.keepDraft(ctx, "todo", "broken\n", []sdk.Diagnostic{{File: "main.go", Line: 1, Column: 1, Message: "no"}}); err != nil {
		t.Fatal(err)
	}
	s = &studio{f: s.f, apps: map[string]bool{}} // what a new instance finds
	if err := s.load(ctx); err != nil || !s.has("todo") {
		t.Fatalf("the app is not found again: %v", err)
	}
	a, err := s.app(ctx, "todo")
	if err != nil || a.Live != 2 || a.Source != "two\n" || a.Shown() != "broken\n" || len(a.Diagnostics) != 1 {
		t.Errorf("%+v %v", a, err)
	}
	publish(t, s, "todo", "three\n", 2, 3)
	if a, err := s.app(ctx, "todo"); err != nil || a.Draft != nil || len(a.Diagnostics) != 0 {
		t.Errorf("a draft outlived the version that mends it: %+v %v", a, err)
	}
	for i := range keptVersions {
		publish(t, s, "todo", strings.Repeat("x", i+1), anyBase, i+4)
	}
	if all, err := s.versions(ctx, "todo"); err != nil || len(all) != keptVersions || all[0].Number != keptVersions+3 {
		t.Errorf("%d versions are kept, %v", len(all), err)
	}
	if err := s.rollback(ctx, "todo", 1); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("back to a version that is forgotten: %v", err)
	}
	if err := s.set(ctx, "nosuch", settings{}); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("limits of no app: %v", err)
	}
}

// An app that is being deleted is in no list and can't start, whatever becomes of the deletion.
func TestDeletionBegun(t *testing.T) {
	_, s := begin(t, "me")
	publish(t, s, "todo", "one\n", 0, 1)
	if err := s.remove(t.Context(), "todo"); err == nil {
		t.Fatal("outside a gateway there are no facets to delete")
	}
	if _, err := s.startApp(t.Context(), "todo"); !errors.Is(err, sdk.ErrNotFound) || s.has("todo") {
		t.Errorf("it can still start: %v", err)
	}
	if _, _, err := s.publish(t.Context(), "todo", "two\n", anyBase); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("it can be published: %v", err)
	}
}

func TestRequests(t *testing.T) {
	server, s := begin(t, "me")
	publish(t, s, "todo", "package main // <script>\n", 0, 1)
	do := func(method, path, body string, headers ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for what, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		says               string
	}{
		"an app that is not":         {"GET", "/", "", []string{"Fgw-Child", "nosuch"}, 404, "no app"},
		"the page of none":           {"GET", "/apps/nosuch", "", nil, 404, "no app"},
		"all apps":                   {"GET", "/api/apps", "", nil, 200, `"todo"`},
		"the guide":                  {"GET", "/api", "", nil, 200, "sdk.Serve(start)"},
		"a bad name":                 {"PUT", "/api/apps/A", "x", nil, 400, "made of"},
		"no source":                  {"PUT", "/api/apps/a", "", nil, 400, "no source"},
		"a source too long":          {"PUT", "/api/apps/a", strings.Repeat("x", maxSource+1), nil, 400, "at most 1 MiB"},
		"no text":                    {"PUT", "/api/apps/a", "\xff", nil, 400, "UTF-8"},
		"limits of an unknown kind":  {"POST", "/api/apps/todo/limits", `{"memroy": 1}`, nil, 400, "memroy"},
		"limits too small":           {"POST", "/api/apps/todo/limits", `{"memory": 1}`, nil, 400, "16 MiB"},
		"another origin's deletion":  {"DELETE", "/api/apps/todo", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross-origin"},
		"a neighbour's deletion":     {"DELETE", "/api/apps/todo", "", []string{"Sec-Fetch-Site", "same-site"}, 403, "cross-origin"},
		"an old browser's deletion":  {"DELETE", "/api/apps/todo", "", []string{"Origin", "http://todo--me--studio.localhost"}, 403, "cross-origin"},
		"a version that is not":      {"POST", "/api/apps/todo/rollback", `{"version": 9}`, nil, 404, "no version 9"},
		"the style":                  {"GET", "/page/studio.css", "", nil, 200, "color-scheme"},
		"a template is not served":   {"GET", "/page/app.html", "", nil, 404, ""},
		"a file elsewhere":           {"GET", "/page/..%2Fmain.go", "", nil, 404, ""},
		"a deletion not meant":       {"POST", "/apps/nosuch/delete", "sure=todo", form, 404, ""},
		"a form that is far too big": {"POST", "/apps", "source=" + strings.Repeat("x", 4*maxSource), form, 400, "too long"},
	} {
		if status, body := do(c.method, c.path, c.body, c.headers...); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %.200s", what, status, body)
		}
	}
	if !s.has("todo") {
		t.Error("the app is gone")
	}
}
