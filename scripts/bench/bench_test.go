package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestMedianAndQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		of                  []float64
		median, half, worst float64 // worst: q = 0.99
	}{
		{nil, 0, 0, 0},
		{[]float64{7}, 7, 7, 7},
		{[]float64{9, 1}, 5, 1, 9},
		{[]float64{3, 1, 2}, 2, 2, 3},
		{hundred, 50.5, 50, 99},
	} {
		if m, h, w := median(c.of), quantile(c.of, 0.5), quantile(c.of, 0.99); m != c.median || h != c.half || w != c.worst {
			t.Errorf("%v: median %v, half %v, worst %v; want %v, %v, %v", c.of, m, h, w, c.median, c.half, c.worst)
		}
	}
}

func TestSidesTakeTurns(t *testing.T) {
	var order []string
	at := func(name string) side {
		return func() (float64, error) { order = append(order, name); return float64(len(order)), nil }
	}
	m, err := medians(3, at("a"), at("b"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abbaab" {
		t.Errorf("measured in the order %s", got)
	}
	if want := []float64{4, 3}; !slices.Equal(m, want) { // of 1, 4, 5 and of 2, 3, 6
		t.Errorf("medians %v, want %v", m, want)
	}
}

func TestAnswerSize(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		size         int
		wrong        string
	}{
		{"plain", "HTTP/1.1 200 OK\r\nDate: today\r\ncontent-length: 6\r\n\r\nhello\n", 57, ""},
		{"without its body", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nDate: today\r\n\r\n", 57, ""},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 38, ""},
		{"not whole", "HTTP/1.1 200 OK\r\nContent-Le", 0, ""},
		{"error", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", 0, "HTTP/1.1 503 Service Unavailable: busy"},
		{"no length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "without a length"},
		{"no number", "HTTP/1.1 200 OK\r\nContent-Length: -6\r\n\r\n", 0, "content-length"},
	} {
		t.Run(c.name, func(t *testing.T) {
			size, err := answerSize([]byte(c.answer))
			if c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) || c.wrong == "" && err != nil {
				t.Fatalf("%v, want %q", err, c.wrong)
			}
			if size != c.size {
				t.Errorf("%d bytes, want %d", size, c.size)
			}
		})
	}
}

// The load generator asks as often as it should, for what it should, and takes nothing but whole answers for one.
func TestLoad(t *testing.T) {
	var asked sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Path, true)
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusTeapot)
		}
		w.Write(make([]byte, 1000))
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	l := loader{path: "/n%d", count: 3, from: 7}
	if err := l.run(addr, 4); err != nil || len(l.times) != 12 {
		t.Errorf("%d requests, %v", len(l.times), err)
	}
	for _, path := range []string{"/n7", "/n8", "/n9"} {
		if _, ok := asked.Load(path); !ok {
			t.Errorf("%s was not asked for", path)
		}
	}
	l = loader{path: "/bad", count: 1}
	if err := l.run(addr, 1); err == nil || !strings.Contains(err.Error(), "418") {
		t.Errorf("%v", err)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	printTable(&out, []row{
		{what: "added", figure: "2 µs", target: "≤ 150 µs", verdict: upTo(2, 150)},
		{what: "warm", figure: grouped(1234567), floor: "10", ratio: 1.5, target: "≥ 2 ×", verdict: atLeast(1.5, 2), note: "why"},
	})
	want := `| what  | figure    | floor, same run | ratio | target   |      |
|-------|-----------|-----------------|-------|----------|------|
| added | 2 µs      | –               | –     | ≤ 150 µs | ok   |
| warm  | 1,234,567 | 10              | 1.50  | ≥ 2 ×    | miss |

warm: why
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestPrivateBytes(t *testing.T) {
	n, err := privateBytes(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if n < 100<<10 || n > 1<<30 {
		t.Errorf("this test has %d bytes of its own", n)
	}
}

func TestCostOfAProcess(t *testing.T) {
	c := &cost{pids: []int{os.Getpid()}}
	before := c.now()
	before[1<<30] = 1000 // has ended since
	for now := c.now()[os.Getpid()]; now < before[os.Getpid()]+5*tick; now = c.now()[os.Getpid()] {
	}
	c.add(before, 10)
	if c.seconds < 5*tick || c.seconds > 10 || c.each() < 1e6*5*tick/10-1 {
		t.Errorf("%v s, %v µs each", c.seconds, c.each())
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(measurements) {
		t.Errorf("no choice gives %d of %d: %v", len(all), len(measurements), err)
	}
	if some, err := choose("wake,hello"); err != nil || len(some) != 2 || some[0].name != "wake" {
		t.Errorf("two chosen: %v, %v", some, err)
	}
	if _, err := choose("hello,goodbye"); err == nil || !strings.Contains(err.Error(), `"goodbye" is none of hello,`) {
		t.Errorf("a row that is not there: %v", err)
	}
}
