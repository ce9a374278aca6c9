package sqlite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// plain opens a connection with SQLite's own functions.
func plain(t testing.TB) *Conn {
	t.Helper()
	file := filepath.Join(t.TempDir(), "plain.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := NewAccount(256 << 20)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openPlain(file, a, Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); a.Close() })
	return c
}

// pair has the same expressions computed by SQLite's own functions and ours.
type pair struct {
	ours, theirs *Conn
	kept         map[string][2]*Stmt
}

func newPair(t testing.TB) *pair {
	p := &pair{ours: open(t, 256<<20, Hooks{}), theirs: plain(t), kept: map[string][2]*Stmt{}}
	for _, c := range []*Conn{p.ours, p.theirs} {
		c.Limit(0, 4<<20)
	}
	t.Cleanup(func() {
		for _, k := range p.kept {
			k[0].Close()
			k[1].Close()
		}
	})
	return p
}

// eval is the value of an expression, with its kind, or the error.
func eval(t testing.TB, s *Stmt, args []any) string {
	t.Helper()
	defer s.Reset()
	for i, a := range args[:min(len(args), s.Params)] {
		var err error
		switch a := a.(type) {
		case nil:
			err = s.BindNull(i + 1)
		case int:
			err = s.BindInt64(i+1, int64(a))
		case float64:
			err = s.BindFloat64(i+1, a)
		case string:
			err = s.BindText(i+1, []byte(a))
		case []byte:
			err = s.BindBlob(i+1, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	row, err := s.Step()
	if err != nil {
		return "error: " + err.Error()
	}
	if !row {
		t.Fatal("no row")
	}
	switch k := s.ColumnKind(0); k {
	case KindNull:
		return "NULL"
	case KindText:
		return fmt.Sprintf("text %q", s.ColumnText(0))
	case KindBlob:
		return fmt.Sprintf("blob %q", s.ColumnBlob(0))
	default:
		return fmt.Sprintf("%d %s", k, s.ColumnText(0))
	}
}

func (p *pair) compare(t testing.TB, expr string, args ...any) {
	t.Helper()
	k, ok := p.kept[expr]
	if !ok {
		for i, c := range []*Conn{p.ours, p.theirs} {
			s, _, err := c.Prepare([]byte("SELECT "+expr), true)
			if err != nil {
				t.Fatal(err)
			}
			k[i] = s
		}
		p.kept[expr] = k
	}
	if ours, theirs := eval(t, k[0], args), eval(t, k[1], args); ours != theirs {
		t.Errorf("%s of %q: %.200s, SQLite's own says %.200s", expr, args, ours, theirs)
	}
}

// strange are texts on which such functions tend to differ.
var strange = []any{
	nil, 0, 12345, -1.5, "", " ", "a", "A", "abc", "ABCabc", "aaaaaa", "abababab", "  x  ", "\x00", "a\x00b", "\x00a", "ä", "Ä", "äöü", "日本語", "日", "\u2028", "😀", "a😀b",
	"\x80", "\x80\x80", "\xc0", "\xc3", "\xc3\xa4\x80", "\xff", "\xfe\x80", "\xe2\x82", "a\x80b", "\xed\xa0\x80", "\xef\xbf\xbe", "\xf8\x88\x80\x80\x80", "%", "_", "%%", "a%", "%a", "%a%", "a_c", "_%_", "[a-c]", "*", "?", "*a*", "[^a]*", "[]]", "[a", "*[a-z]?", "\\%", "\\", "a\\",
	"6162", "61 62", "61-62-63", "6g", "616", "-61", "61-", "ab\x00cd", []byte{}, []byte("abc"), []byte("\xc3\xa4"), []byte("a\x00b"), []byte("6162"), []byte{0x80}, []byte("b"),
	strings.Repeat("ab", 40), strings.Repeat("ab", 39) + "c", strings.Repeat("a", 70), strings.Repeat("a", 69) + "b", "b" + strings.Repeat("a", 69), strings.Repeat("\x80", 50),
}

// TestFunctionsAreSQLites compares the replaced functions with SQLite's own on
// all pairs of strange texts.
func TestFunctionsAreSQLites(t *testing.T) {
	p := newPair(t)
	for _, a := range strange {
		for _, e := range []string{"trim(?1)", "ltrim(?1)", "rtrim(?1)", "unhex(?1)"} {
			p.compare(t, e, a)
		}
		for _, b := range strange {
			for _, e := range []string{
				"instr(?1, ?2)", "instr(?1 || ?2 || ?1, ?2)", "trim(?1, ?2)", "trim(?2 || ?1 || ?2, ?2)", "ltrim(?1, ?2)", "rtrim(?1, ?2)", "unhex(?1, ?2)", "unhex(?2 || '61' || ?2 || '62', ?2)",
				"?1 LIKE ?2", "?1 GLOB ?2", "(?2 || ?1 || ?2) LIKE '%' || ?1 || '%'", "(?2 || ?1 || ?2) GLOB '*' || ?1 || '*'", "?1 LIKE ?2 ESCAPE '\\'", "?1 LIKE ?2 ESCAPE '%'", "'abc' LIKE ?1 ESCAPE ?2",
				"replace(?1, ?2, 'xyz')", "replace(?1 || ?2 || ?1, ?2, '')", "replace(?1, '', ?2)", "replace('abcabc', ?1, ?2)",
			} {
				p.compare(t, e, a, b)
			}
		}
	}
}

// TestPatternsLookUp has LIKE and GLOB look whether they should stop whatever they spend their time on: each of these takes
// the steps of more looks than are let pass.
func TestPatternsLookUp(t *testing.T) {
	looks := 0
	c := open(t, 256<<20, Hooks{Progress: func() bool { looks++; return looks >= 20 }})
	c.Limit(0, 4<<20)
	long := strings.Repeat("a", 1<<20)
	for _, tt := range []struct{ name, expr, text, pattern string }{
		{"a long set", "?1 GLOB ?2", long, "*[" + strings.Repeat("b", 4900) + "]z"},
		{"a long set without a wildcard", "?1 GLOB ?2", long, "a*a[" + strings.Repeat("b", 4900) + "]z"},
		{"a long malformed character", "?1 LIKE ?2", strings.Repeat("a", 100) + "\xc0" + strings.Repeat("\x80", 1<<20), "%a" + strings.Repeat("_", 60) + "z"},
	} {
		s, _, err := c.Prepare([]byte("SELECT "+tt.expr), false)
		if err != nil {
			t.Fatal(err)
		}
		looks = 0
		v := eval(t, s, []any{tt.text, tt.pattern})
		s.Close()
		if !strings.Contains(v, "interrupted") {
			t.Errorf("%s: %d looks, then %.60s", tt.name, looks, v)
		}
	}
}

// TestLongSets has a set of megabytes take no memory beside SQLite's, stop while it is read, and mean what SQLite's own does.
func TestLongSets(t *testing.T) {
	words := func(from, to rune) string {
		var b strings.Builder
		for r := from; r < to; r++ {
			b.WriteRune(r)
		}
		return b.String()
	}
	p := newPair(t)
	sets := []string{words(' ', 0x400), words(0x7f0, 0x900), words(0xfff0, 0x10100), words(0xc0, 0x180) + "\x80", words('a', 0x120) + "\xc3", strings.Repeat("\x80\xc3", 40), strings.Repeat("\xf8\x88\x80\x80\x80", 20) + "é"}
	for _, set := range sets {
		for _, s := range []any{"éxé", "\u0800x\u07ff", "\U00010000x\uffff", "\x80x\x80", "\xc3x\xc3", "\xc3", "ąxą", "éé", "\xe0\x82\x80x\xe0\x82\x80", "\xc3\xa9\x80x", "\xf8\x88\x80\x80\x80x\xf8\x88\x80\x80\x80"} {
			for _, e := range []string{"trim(?1, ?2)", "ltrim(?1, ?2)", "rtrim(?1, ?2)", "unhex('61' || ?1 || '62', ?2)", "unhex('61' || ?1 || '62', ?2 || 'x')"} {
				p.compare(t, e, s, set)
			}
		}
	}
	stop := false
	c := open(t, 256<<20, Hooks{Progress: func() bool { return stop }})
	c.Limit(0, 4<<20)
	for _, tt := range []struct{ expr, set string }{
		{"trim('x', ?1)", strings.Repeat("\x80", 4<<20-1)}, {"trim('x', ?1)", strings.Repeat("é", 2<<20-1)}, {"trim('x', ?1)", strings.Repeat("\xc3\x80\x80", 1<<20)},
		{"unhex('61', ?1)", strings.Repeat("g", 4<<20-1)}, {"unhex('61', ?1)", strings.Repeat("é", 2<<20-1)},
	} {
		s, _, err := c.Prepare([]byte("SELECT "+tt.expr), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.BindText(1, []byte(tt.set)); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := s.Step(); err != nil {
			t.Error(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s of a set of %.2q… takes %d bytes of Go's memory", tt.expr, tt.set, n)
		}
		s.Close()
		stop = true
		if v := eval(t, mustPrepare(t, c, "SELECT "+tt.expr), []any{tt.set}); !strings.Contains(v, "interrupted") {
			t.Errorf("%s of a set of %.2q…: %.60s", tt.expr, tt.set, v)
		}
		stop = false
	}
}

func mustPrepare(t testing.TB, c *Conn, sql string) *Stmt {
	t.Helper()
	s, _, err := c.Prepare([]byte(sql), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func FuzzFunctions(f *testing.F) {
	f.Add("hello world", "o", "x")
	f.Add("\xc3\xa4\x80abc", "\x80", "%_[a]*?")
	f.Add(strings.Repeat("ab", 40), strings.Repeat("ba", 20), "*[^a-f]?b%_")
	f.Add("61-62", "-", "")
	p := newPair(f)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if len(a)+len(b)+len(c) > 400 { // SQLite's own are slow
			return
		}
		for _, e := range []string{
			"instr(?1, ?2)", "instr(?1 || ?2 || ?3, ?2)", "replace(?1, ?2, ?3)", "replace(?3 || ?2 || ?1 || ?2, ?2, ?3)", "trim(?1, ?2)", "ltrim(?2 || ?1, ?2)", "rtrim(?1 || ?2, ?2)", "unhex(?1, ?2)", "unhex(hex(?1) || ?2, ?2)",
			"?1 LIKE ?3", "?1 GLOB ?3", "?1 LIKE ?2 || ?3", "?1 GLOB '*' || ?2 || ?3", "?1 LIKE ?3 ESCAPE '\\'", "?1 LIKE ?3 ESCAPE ?2",
		} {
			p.compare(t, e, a, b, c)
		}
		blobs := []any{[]byte(a), []byte(b), []byte(c)}
		for _, e := range []string{"instr(?1, ?2)", "replace(?1, ?2, ?3)", "trim(?1, ?2)", "unhex(?1, ?2)", "?1 LIKE ?3", "instr(?1, 'a')"} {
			p.compare(t, e, blobs...)
		}
	})
}

func FuzzSearch(f *testing.F) {
	f.Add([]byte(strings.Repeat("ab", 50)+"c"), 10, 40)
	f.Add(bytes.Repeat([]byte("aab"), 60), 0, 100)
	f.Fuzz(func(t *testing.T, text []byte, from, n int) {
		if from < 0 || n < 0 || from > len(text) || n > len(text)-from {
			return
		}
		for _, needle := range [][]byte{text[from : from+n], append(append([]byte{}, text[from:from+n]...), 'x'), bytes.Repeat(text[from:from+n], 3)} {
			if got, want := index(text, needle), bytes.Index(text, needle); got != want {
				t.Errorf("index(%q, %q) = %d, want %d", text, needle, got, want)
			}
		}
	})
}

// thueMorse are texts whose hashes modulo powers of two are the same.
func thueMorse(n int, a, b string) string {
	x, y := a, b
	for range n {
		x, y = x+y, y+x
	}
	return x
}

// TestFunctionsAreLinear runs the replaced functions on arguments that take
// SQLite's own minutes.
func TestFunctionsAreLinear(t *testing.T) {
	p := newPair(t)
	a := strings.Repeat("a", 1<<20)
	tests := []struct {
		expr string
		args []any
	}{
		{"instr(?1 || ?1, ?1 || 'b')", []any{a}},
		{"instr(?1, ?2)", []any{strings.Repeat(thueMorse(12, "a", "b"), 200), thueMorse(12, "b", "a") + "c"}},
		{"instr(?1, ?2)", []any{strings.Repeat("\x80", 1<<20), strings.Repeat("\x80", 1<<19) + "a"}},
		{"replace(?1 || ?1, substr(?1, 1, 500000) || 'b', 'x')", []any{a}},
		{"replace(?1, 'a', 'bb')", []any{a}},
		{"trim(?1, ?2)", []any{strings.Repeat("z", 1<<20), strings.Repeat("abcdefghijklmnopqrstuvwxy", 40000) + "z"}},
		{"trim(?1, ?2)", []any{strings.Repeat("語", 300000), strings.Repeat("日本", 100000) + "語"}},
		{"unhex(?1, ?2)", []any{strings.Repeat("-", 1<<20), strings.Repeat("x", 1<<20) + "-"}},
		{"?1 LIKE ?2", []any{a, strings.Repeat("%a", 30) + "%b"}},
		{"?1 GLOB ?2", []any{a, strings.Repeat("*a", 30) + "*b"}},
	}
	for _, tt := range tests {
		s, _, err := p.ours.Prepare([]byte("SELECT "+tt.expr), false)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		v := eval(t, s, tt.args)
		s.Close()
		if d := time.Since(began); d > time.Second {
			t.Errorf("%s took %v: %.40s", tt.expr, d, v)
		}
	}
}

// TestFunctionsStop interrupts those that are not linear.
func TestFunctionsStop(t *testing.T) {
	var until time.Time
	c := open(t, 256<<20, Hooks{Progress: func() bool { return time.Now().After(until) }})
	for _, tt := range []struct {
		expr string
		args []any
	}{
		{"?1 LIKE ?2", []any{strings.Repeat("a", 4<<20), "%" + strings.Repeat("a", 4000) + "b"}},
		{"?1 GLOB ?2", []any{strings.Repeat("a", 4<<20), "*" + strings.Repeat("[a-z]", 4000) + "b"}},
		{"trim(?1, ?2)", []any{strings.Repeat("z", 4<<20), strings.Repeat("\xc0\x80\x80\x80\x80", 100000) + "z"}},
	} {
		s, _, err := c.Prepare([]byte("SELECT "+tt.expr), false)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		until = began.Add(50 * time.Millisecond)
		v := eval(t, s, tt.args)
		s.Close()
		if d := time.Since(began); d > 300*time.Millisecond || !strings.Contains(v, "interrupted") {
			t.Errorf("%s took %v: %.40s", tt.expr, d, v)
		}
		until = time.Now().Add(time.Hour)
	}
}
