package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/facettest"
)

func sign(s *facettest.Server, name, message string) (int, string) {
	form := url.Values{"name": {name}, "message": {message}}
	return s.Do(http.MethodPost, "/", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

func TestSigning(t *testing.T) {
	s := facettest.New(t, start)
	if status, body := s.Get("/"); status != 200 || !strings.Contains(body, "Be the first!") {
		t.Fatalf("the empty book: %d\n%s", status, body)
	}
	if status, body := sign(s, "Ada", "Hello <b>there</b> & all"); status != 200 || !strings.Contains(body, "Hello &lt;b&gt;there&lt;/b&gt; &amp; all") {
		t.Fatalf("after signing: %d\n%s", status, body)
	}
	for _, step := range []struct {
		wait time.Duration
		says string
	}{{0, "just now"}, {5 * time.Minute, "5 minutes ago"}, {2 * time.Hour, "2 hours ago"}} {
		s.Advance(step.wait)
		if _, body := s.Get("/"); !strings.Contains(body, step.says) {
			t.Errorf("%v later the page does not say %q", step.wait, step.says)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	s := facettest.New(t, start)
	for name, c := range map[string]struct{ name, message, says string }{
		"no name":      {" ", "x", "your name"},
		"long name":    {strings.Repeat("ü", maxName+1), "x", "longer than 60"},
		"two lines":    {"a\nb", "x", "one line"},
		"no message":   {"a", "\r\n \x00", "few words"},
		"long message": {"a", strings.Repeat("x", maxMessage+1), "longer than 800"},
	} {
		status, body := sign(s, c.name, c.message)
		if status != http.StatusUnprocessableEntity || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := sign(s, "a", strings.Repeat("x", maxForm)); status != http.StatusBadRequest {
		t.Errorf("a form too long: %d", status)
	}
	if status, body := sign(s, `"><script>`, "x"); status != 200 || strings.Contains(body, "<script>") {
		t.Errorf("markup in a name: %d", status)
	}
	var n int
	if err := s.Facet.DB().QueryRow(`SELECT count(*) FROM entry`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func TestPagesAndRestart(t *testing.T) {
	s := facettest.New(t, start)
	for range pageSize + 3 {
		sign(s, "Ada", "again")
	}
	s.Restart()
	_, body := s.Get("/")
	if n := strings.Count(body, `class="entry"`); n != pageSize {
		t.Errorf("%d entries on the first page", n)
	}
	_, older, ok := strings.Cut(body, `href="?before=`)
	if !ok {
		t.Fatal("no way to older entries")
	}
	id, _, _ := strings.Cut(older, `"`)
	if _, body := s.Get("/?before=" + id); strings.Count(body, `class="entry"`) != 3 {
		t.Error("the second page does not have the other three")
	}
}

func TestAgo(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", time.Minute: "1 minute ago", 90 * time.Minute: "1 hour ago", 3 * day: "3 days ago", 65 * day: "2 months ago", 800 * day: "2 years ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, wanted %q", d, got, want)
		}
	}
}
