package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// clock is a time that a test turns.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(time.Nanosecond) // so that lines have an order
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func open(t testing.TB, dir string, budget int64) (*Store, *clock) {
	t.Helper()
	c := &clock{t: time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	s, err := Open(Config{Dir: dir, Budget: budget, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, c
}

func addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// read gives the texts of the lines that a query finds.
func read(t testing.TB, s *Store, q Query) []string {
	t.Helper()
	var all []string
	for _, l := range lines(t, s, q) {
		all = append(all, l.Line)
	}
	return all
}

func lines(t testing.TB, s *Store, q Query) (all []Line) {
	t.Helper()
	if err := s.Read(context.Background(), q, func(l Line) error { all = append(all, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAppendAndRead(t *testing.T) {
	dir := t.TempDir()
	s, c := open(t, dir, 0)
	for i, a := range []string{"n/o/a", "n/o/a/b", "n/o/", "n/p/a", "m/o/a", "n/o/%2F%FF"} {
		w := s.Writer(addr(t, a), i)
		w.Append(StreamOutput, "", "first "+a)
		c.add(time.Second)
		w.Append(StreamLog, "req-1", "second "+a)
		w.Close()
	}
	check := func(s *Store) {
		t.Helper()
		for _, tc := range []struct{ prefix, want string }{
			{"n/o/a/b", "first n/o/a/b;second n/o/a/b"},
			{"n/o/a", "first n/o/a;second n/o/a;first n/o/a/b;second n/o/a/b"},
			{"n/o/", "first n/o/;second n/o/"},
			{"n/p", "first n/p/a;second n/p/a"},
			{"m", "first m/o/a;second m/o/a"},
			{"n/o/%2F%FF", "first n/o/%2F%FF;second n/o/%2F%FF"},
			{"n/none", ""},
		} {
			if got := strings.Join(read(t, s, Query{Prefix: addr(t, tc.prefix)}), ";"); got != tc.want {
				t.Errorf("%q: %s, want %s", tc.prefix, got, tc.want)
			}
		}
		if got := read(t, s, Query{}); len(got) != 12 || got[0] != "first n/o/a" || got[11] != "second n/o/%2F%FF" {
			t.Errorf("all: %q", got)
		}
		if got := read(t, s, Query{Lines: 3}); strings.Join(got, ";") != "second m/o/a;first n/o/%2F%FF;second n/o/%2F%FF" {
			t.Errorf("the last 3: %q", got)
		}
	}
	check(s)
	l := lines(t, s, Query{Prefix: addr(t, "n/o/a/b")})
	if l[0].RequestID != nil || *l[1].RequestID != "req-1" || l[1].Version != 1 || l[1].Stream != StreamLog || l[1].Address != "n/o/a/b" {
		t.Errorf("lines are %+v", l)
	}
	if got := read(t, s, Query{Since: l[1].Time}); len(got) != 9 {
		t.Errorf("since the fourth: %q", got)
	}
	s.Close()
	s, _ = open(t, dir, 0)
	check(s)
	if err := s.Remove(t.Context(), addr(t, "n/o/a")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, Query{Prefix: addr(t, "n/o")}); len(got) != 4 {
		t.Errorf("after removing two: %q", got)
	}
}

func TestJSONOfALine(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	s.Writer(addr(t, "n/o/a"), 2).Append(StreamOutput, "", "<a&b>\xff")
	b, err := json.Marshal(lines(t, s, Query{})[0])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "time")
	want := map[string]any{"address": "n/o/a", "version": 2.0, "stream": "output", "request_id": nil, "line": "<a&b>\uFFFD"}
	if fmt.Sprint(m) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", m, want)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	w := s.Writer(addr(t, "n/o/a"), 1)
	long := strings.Repeat("é", 10_000) // 20,000 bytes, and MaxLine is in the middle of none of them
	if err := w.Copy(StreamOutput, strings.NewReader("short\r\n\n"+long+"\n"+"x"+long+"x\nend")); err != nil {
		t.Fatal(err)
	}
	got := read(t, s, Query{})
	if len(got) != 5 || got[0] != "short" || got[1] != "" || got[4] != "end" {
		t.Fatalf("%d lines: %.40q", len(got), got)
	}
	for i, total := range map[int]string{2: "20000 bytes", 3: "20002 bytes"} {
		if !strings.Contains(got[i], "(cut: the line has "+total) || len(got[i]) > MaxLine+100 || strings.Contains(got[i], "\uFFFD") {
			t.Errorf("line %d of %d bytes ends in %q", i, len(got[i]), got[i][len(got[i])-80:])
		}
	}
	if last := w.Last(); len(last) != 5 || last[4] != "end" {
		t.Errorf("the last lines are %.40q", last)
	}
}

func TestFloodIsBounded(t *testing.T) {
	dir := t.TempDir()
	s, c := open(t, dir, 0)
	w := s.Writer(addr(t, "n/o/a"), 1)
	const flood = 100_000
	for i := range flood {
		w.Append(StreamOutput, "", fmt.Sprint("line ", i))
	}
	c.add(2 * time.Second)
	w.Append(StreamOutput, "", "later")
	w.Close()
	got := read(t, s, Query{})
	kept := 0
	for _, l := range got {
		if strings.HasPrefix(l, "line ") {
			kept++
		}
	}
	told := got[len(got)-2]
	if got[len(got)-1] != "later" || told != fmt.Sprintf("%d lines were dropped: the facet logs more than 500 lines or 256 KiB a second", flood-kept) {
		t.Errorf("it ends with %q", got[len(got)-2:])
	}
	if kept == 0 || kept > int(facetRate.lines) {
		t.Errorf("%d lines are kept", kept)
	}
	if last := w.Last(); last[len(last)-2] != fmt.Sprint("line ", flood-1) {
		t.Errorf("the last lines are %q", last)
	}
	if _, dropped := s.Stats(); dropped != int64(flood-kept) {
		t.Errorf("%d dropped, %d lines missing", dropped, flood-kept)
	}
}

// What is metered is what a line takes in its file: neither a request's id, which the facet says, nor characters that JSON
// writes with six get past the rate.
func TestAllOfALineIsMetered(t *testing.T) {
	for _, c := range []struct{ name, id, line string }{
		{"a long id", strings.Repeat("\x01", 60<<10), "x"},
		{"characters that are escaped", "", strings.Repeat("\x01", 10<<10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := open(t, t.TempDir(), 0)
			w := s.Writer(addr(t, "n/o/a"), 1)
			const all = 6000
			for range all {
				w.Append(StreamLog, c.id, c.line)
				s.run(t.Context(), func() {}) // so that no line is lost to the queue
			}
			_, dropped := s.Stats()
			kept := lines(t, s, Query{})[0]
			if took := (all - int(dropped)) * len(kept.encode()); took > int(facetRate.bytes)+128<<10 {
				t.Errorf("lines of %d bytes passed at once, %d may", took, int(facetRate.bytes))
			}
		})
	}
}

func TestLongRequestIDsAreClipped(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	w := s.Writer(addr(t, "n/o/a"), 1)
	w.Append(StreamLog, strings.Repeat("i", 100), "x")
	if l := lines(t, s, Query{})[0]; l.RequestID == nil || len(*l.RequestID) != MaxRequestID {
		t.Errorf("%+v", l)
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	b := bucket{rate: rate{lines: 3, linesPerSecond: 1, bytes: 100, bytesPerSecond: 10}}
	for i, tc := range []struct {
		after time.Duration
		n     int
		want  bool
	}{
		{0, 10, true}, {0, 10, true}, {0, 10, true}, {0, 1, false}, // three lines
		{time.Second, 10, true}, {0, 1, false},
		{time.Hour, 101, false}, {0, 100, true}, {0, 1, false}, // a hundred bytes
		{-time.Hour, 1, false}, {time.Hour, 1, true}, // a clock that is turned back gives nothing
	} {
		now = now.Add(tc.after)
		if got := b.take(now, tc.n); got != tc.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}

func TestFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	const budget = 5 << 20
	s, c := open(t, dir, budget)
	text := strings.Repeat("x", 8000)
	for f := range 6 {
		w := s.Writer(addr(t, fmt.Sprint("n/o/f", f)), 1)
		for range 400 { // 3.2 MB of each
			c.add(time.Second)
			w.Append(StreamOutput, "", text)
			if err := s.run(t.Context(), func() {}); err != nil { // so that none is dropped
				t.Fatal(err)
			}
		}
	}
	var total, newest int64
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if info.Size() > MaxFile {
			t.Errorf("%s has %d bytes", path, info.Size())
		}
		total += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > budget || total < budget/2 {
		t.Errorf("%d bytes on disk", total)
	}
	for range read(t, s, Query{Prefix: addr(t, "n/o/f5")}) {
		newest++
	}
	if newest < 100 {
		t.Errorf("%d lines of the facet that wrote last", newest)
	}
	if got := read(t, s, Query{Prefix: addr(t, "n/o/f0")}); len(got) != 0 {
		t.Errorf("%d lines of the facet that wrote first", len(got))
	}
	if bytes, _ := s.Stats(); bytes < total || bytes > budget {
		t.Errorf("it says %d bytes for %d", bytes, total)
	}
	s.Close()
	s, _ = open(t, dir, 1<<20) // a smaller budget counts at once
	if bytes, _ := s.Stats(); bytes > 1<<20 {
		t.Errorf("after opening again: %d bytes", bytes)
	}
}

func TestHalfALine(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, 0)
	a := addr(t, "n/o/a")
	s.Writer(a, 1).Append(StreamOutput, "", "whole")
	if got := read(t, s, Query{}); len(got) != 1 {
		t.Fatal(got)
	}
	s.Close()
	path := filepath.Join(dir, "n", idOf(a).name+currentSuffix)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"time":"2026-11-24T08:00:00Z","li`)
	f.Close()
	s, _ = open(t, dir, 0)
	s.Writer(a, 1).Append(StreamOutput, "", "next")
	if got := strings.Join(read(t, s, Query{Prefix: addr(t, "n/o/a")}), ";"); got != "whole;next" {
		t.Errorf("lines are %s", got)
	}
}

func FuzzCopy(f *testing.F) {
	f.Add([]byte("a\nb\r\n\xff\xfe\n"))
	f.Add(bytes.Repeat([]byte("x"), MaxLine+5))
	s, err := Open(Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		w := s.Writer(address.Address{Namespace: "n", Object: "o", Root: true}, 1)
		if err := w.Copy(StreamOutput, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		for _, l := range w.Last() {
			if strings.Contains(l, "\n") {
				t.Fatalf("a line holds a newline: %q", l)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	s, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	w := s.Writer(address.Address{Namespace: "n", Object: "o", Root: true}, 1)
	w.bucket.rate = rate{1e12, 1e12, 1e15, 1e15}
	b.ReportAllocs()
	for b.Loop() {
		w.Append(StreamOutput, "", "a line as an app might print it, with a number 12345")
	}
}

// BenchmarkFlood is what a line costs that is over the rate.
func BenchmarkFlood(b *testing.B) {
	s, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	w := s.Writer(address.Address{Namespace: "n", Object: "o", Root: true}, 1)
	line := strings.Repeat("flood ", 10) + "\n"
	b.SetBytes(int64(len(line)))
	b.ResetTimer()
	if err := w.Copy(StreamOutput, io.LimitReader(repeat(line), int64(b.N*len(line)))); err != nil {
		b.Fatal(err)
	}
}

type repeat string

func (r repeat) Read(b []byte) (n int, err error) {
	for n+len(r) <= len(b) {
		n += copy(b[n:], r)
	}
	if n == 0 {
		n = copy(b, r)
	}
	return n, nil
}
