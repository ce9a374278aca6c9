package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/facettest"
)

// viewer reads a stream of events.
type viewer struct {
	t *testing.T
	r *bufio.Scanner
}

func watch(t *testing.T, s *facettest.Server, lastID string) *viewer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := s.Client.Do(req)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v %v", resp, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &viewer{t, bufio.NewScanner(resp.Body)}
}

// next returns the next event as "id kind data".
func (v *viewer) next() string {
	v.t.Helper()
	var id, kind, data string
	for v.r.Scan() {
		name, value, _ := strings.Cut(v.r.Text(), ": ")
		switch name {
		case "id":
			id = value + " "
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if kind != "" {
				return id + kind + " " + data
			}
		}
	}
	v.t.Fatalf("the stream ended: %v", v.r.Err())
	return ""
}

func (v *viewer) expect(want ...string) {
	v.t.Helper()
	for _, w := range want {
		if got := v.next(); got != w {
			v.t.Fatalf("event %q, wanted %q", got, w)
		}
	}
}

func draw(t *testing.T, s *facettest.Server, stroke string, want int) {
	t.Helper()
	if status, body := s.Do("POST", "/strokes", "application/json", strings.NewReader(stroke)); status != want {
		t.Errorf("%s: %d %s, wanted %d", stroke, status, body, want)
	}
}

func TestPeopleDrawTogether(t *testing.T) {
	s := facettest.New(t, start)
	one := watch(t, s, "")
	one.expect("clear {}", "presence 1")
	draw(t, s, `{"c":1,"w":5,"p":[0,0,1600,1000]}`, 204)
	one.expect(`1 stroke {"c":1,"w":5,"p":[0,0,1600,1000]}`)

	two := watch(t, s, "")
	two.expect("clear {}", `1 stroke {"c":1,"w":5,"p":[0,0,1600,1000]}`, "presence 2")
	one.expect("presence 2")
	draw(t, s, `{"c":7,"w":40,"p":[3,4]}`, 204)
	for _, v := range []*viewer{one, two} {
		v.expect(`2 stroke {"c":7,"w":40,"p":[3,4]}`)
	}

	back := watch(t, s, "1") // who was here before gets what is new
	back.expect(`2 stroke {"c":7,"w":40,"p":[3,4]}`, "presence 3")
	s.Do("POST", "/clear", "", nil)
	back.expect("clear {}")
	draw(t, s, `{"c":0,"w":1,"p":[1,1]}`, 204)
	watch(t, s, "2").expect("clear {}", `3 stroke {"c":0,"w":1,"p":[1,1]}`)
}

func TestStrokesSurviveARestart(t *testing.T) {
	s := facettest.New(t, start)
	draw(t, s, `{"c":0,"w":1,"p":[1,1]}`, 204)
	s.Restart()
	watch(t, s, "").expect("clear {}", `1 stroke {"c":0,"w":1,"p":[1,1]}`, "presence 1")
}

func TestBadStrokes(t *testing.T) {
	s := facettest.New(t, start)
	for stroke, want := range map[string]int{
		`nonsense`:                   400,
		`{"c":0,"w":1,"p":"x"}`:      400,
		`{"c":0,"w":1,"p":[1.5,2]}`:  400,
		`{"c":0,"w":1,"p":[]}`:       422,
		`{"c":0,"w":1,"p":[1]}`:      422,
		`{"c":8,"w":1,"p":[1,1]}`:    422,
		`{"c":-1,"w":1,"p":[1,1]}`:   422,
		`{"c":0,"w":0,"p":[1,1]}`:    422,
		`{"c":0,"w":41,"p":[1,1]}`:   422,
		`{"c":0,"w":1,"p":[1601,1]}`: 422,
		`{"c":0,"w":1,"p":[1,-1]}`:   422,
		`{"c":0,"w":1,"p":[1,1` + strings.Repeat(",1,1", maxPoints) + `]}`: 422,
		`{"p":[` + strings.Repeat("1,", maxBody) + `1]}`:                   400,
	} {
		draw(t, s, stroke, want)
	}
}

func TestOldStrokesFade(t *testing.T) {
	s := facettest.New(t, start)
	if _, err := s.Facet.DB().Exec(`INSERT INTO stroke (id, colour, width, points) VALUES (1, 0, 1, '[1,1]'), (?, 0, 1, '[2,2]')`, maxStrokes+99); err != nil {
		t.Fatal(err)
	}
	draw(t, s, `{"c":0,"w":1,"p":[3,3]}`, 204)
	var oldest int
	if err := s.Facet.DB().QueryRow(`SELECT min(id) FROM stroke`).Scan(&oldest); err != nil || oldest == 1 {
		t.Errorf("the oldest is %d, %v", oldest, err)
	}
}
