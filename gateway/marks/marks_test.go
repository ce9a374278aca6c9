package marks

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t *testing.T, dir string) *Marks {
	t.Helper()
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func (m *Marks) names() []string {
	var names []string
	for _, id := range m.All() {
		names = append(names, id.String())
	}
	slices.Sort(names)
	return names
}

// TestMarks: what is marked is known to the next who opens it, with how to start it, be that small or large.
func TestMarks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "running")
	m := open(t, dir)
	large := bytes.Repeat([]byte("x"), maxInline+1)
	for _, c := range []struct {
		id    ID
		start []byte
	}{{ID{"aa", 1}, nil}, {ID{"aa", 2}, []byte("two\nlines")}, {ID{"bb", 1}, large}, {ID{"bb", 2}, large}, {ID{"cc", 1}, []byte("gone")}, {ID{"aa", 2}, []byte("again")},
		{ID{"dd", 1}, large}, {ID{"dd", 1}, nil}} {
		if err := m.Add(c.id, c.start); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []ID{{"cc", 1}, {"bb", 2}, {"dd", 1}, {"zz", 9}} {
		if err := m.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // as it is, and as a successor finds it after kill -9
		if got := m.names(); !slices.Equal(got, []string{"aa.1", "aa.2", "bb.1"}) {
			t.Fatal(got)
		}
		for id, want := range map[ID]string{{"aa", 1}: "", {"aa", 2}: "again", {"bb", 1}: string(large)} {
			if got, err := m.Start(id); err != nil || string(got) != want {
				t.Errorf("%v: %d bytes, %v", id, len(got), err)
			}
		}
		if _, err := m.Start(ID{"cc", 1}); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		m = open(t, dir)
	}
	for _, id := range m.All() {
		m.Remove(id)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("what is left: %v, %v", files, err)
	}
	m.Close()
	if err := m.Add(ID{"aa", 1}, nil); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}

// TestTornEnd: a log that was cut anywhere tells of all records before the cut.
func TestTornEnd(t *testing.T) {
	var log []byte
	var ends []int
	for _, r := range [][]byte{encode(opStart, ID{"aa", 1}, []byte("how")), encode(opStart, ID{"bb", 1}, nil), encode(opStop, ID{"aa", 1}, nil)} {
		log = append(log, r...)
		ends = append(ends, len(log))
	}
	want := []int{0, 1, 2, 1} // after so many records
	for cut := range len(log) + 1 {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		if got := read(log[:cut]); len(got) != want[whole] {
			t.Errorf("cut at %d of %d: %d marks, want %d", cut, len(log), len(got), want[whole])
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, logName), log[:len(log)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, dir)
	if err := m.Remove(ID{"aa", 1}); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir).names(); !slices.Equal(got, []string{"bb.1"}) {
		t.Error(got)
	}
}

// TestFilesAlone: a directory without a log, as an older version left it, says the same.
func TestFilesAlone(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"aa.1": "", "bb.2": "how", "strange": "", "aa.01": "", newLog + "1": "unfinished"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := open(t, dir)
	if got := m.names(); !slices.Equal(got, []string{"aa.1", "bb.2"}) {
		t.Fatal(got)
	}
	if b, err := m.Start(ID{"bb", 2}); err != nil || string(b) != "how" {
		t.Errorf("%q, %v", b, err)
	}
	m.Remove(ID{"bb", 2})
	for _, gone := range []string{"bb.2", newLog + "1"} {
		if _, err := os.Stat(filepath.Join(dir, gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
}

// TestLogIsBounded: facets that come and go leave no more than a few times of what holds.
func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	m := open(t, dir)
	start := []byte(strings.Repeat("x", 10<<10))
	m.Add(ID{"stays", 1}, start)
	for range 1000 {
		if m.Add(ID{"comes", 1}, start) != nil || m.Remove(ID{"comes", 1}) != nil {
			t.Fatal("add or remove fails")
		}
		if m.size > 2*maxDead {
			t.Fatalf("the log has %d bytes", m.size)
		}
	}
	if b, err := m.Start(ID{"stays", 1}); err != nil || !bytes.Equal(b, start) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if got := open(t, dir).names(); !slices.Equal(got, []string{"stays.1"}) {
		t.Error(got)
	}
}

// FuzzRead: no log whatever makes more of itself than it is.
func FuzzRead(f *testing.F) {
	f.Add(append(encode(opStart, ID{"aa", 1}, []byte("how")), encode(opStop, ID{"aa", 1}, nil)...))
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0, '+'})
	f.Fuzz(func(t *testing.T, b []byte) {
		all := 0
		for id, r := range read(b) {
			_, got, _, n, err := decode(r)
			if all += n; err != nil || got != id || n != len(r) || all > len(b) {
				t.Fatalf("%v: %v of %d bytes, %v", id, got, n, err)
			}
		}
	})
}

// BenchmarkMark is what a start and a stop pay.
func BenchmarkMark(b *testing.B) {
	m, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	start := make([]byte, 300)
	for b.Loop() {
		m.Add(ID{"0123456789abcdef0123456789abcdef", 2}, start)
		m.Remove(ID{"0123456789abcdef0123456789abcdef", 2})
	}
}
