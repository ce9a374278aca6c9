package main

import (
	"bufio"
	"os"
	"slices"
	"strings"
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

func TestReadAnswer(t *testing.T) {
	const next = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!"
	for _, c := range []struct{ name, answer, wrong string }{
		{"plain", "HTTP/1.1 200 OK\r\nDate: today\r\ncontent-length: 6\r\n\r\nhello\n", ""},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
		{"error", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", "HTTP/1.1 503 Service Unavailable: busy"},
		{"no length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "without a length"},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Le", "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(c.answer))
			if c.wrong == "" {
				r = bufio.NewReader(strings.NewReader(c.answer + next))
			}
			err := readAnswer(r)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("%v, want %s", err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := readAnswer(r); err != nil {
				t.Errorf("the answer after it: %v", err)
			}
		})
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
