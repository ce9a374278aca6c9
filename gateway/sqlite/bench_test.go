package sqlite

import "testing"

// fill makes a table of n rows.
func fill(b testing.TB, c *Conn, n int) {
	b.Helper()
	for _, sql := range []string{"PRAGMA journal_mode=WAL", "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)", "BEGIN"} {
		if err := c.Exec(sql); err != nil {
			b.Fatal(err)
		}
	}
	s, _, err := c.Prepare([]byte("INSERT INTO t VALUES (?, ?, ?)"), true)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for i := range n {
		s.BindInt64(1, int64(i+1))
		s.BindText(2, []byte("some name"))
		s.BindInt64(3, int64(i))
		if _, err := s.Step(); err != nil {
			b.Fatal(err)
		}
		s.Reset()
	}
	if err := c.Exec("COMMIT"); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkReadByKey(b *testing.B) {
	c := open(b, 64<<20, Hooks{Progress: func() bool { return false }})
	fill(b, c, 10000)
	s, _, err := c.Prepare([]byte("SELECT name, n FROM t WHERE id = ?"), true)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	i := int64(0)
	for b.Loop() {
		i++
		s.BindInt64(1, i%10000+1)
		if row, err := s.Step(); !row || err != nil {
			b.Fatal(row, err)
		}
		_ = s.ColumnText(0)
		s.Reset()
	}
}

func BenchmarkScan(b *testing.B) {
	n := 0
	c := open(b, 64<<20, Hooks{Progress: func() bool { n++; return false }})
	fill(b, c, 10000)
	s, _, err := c.Prepare([]byte("SELECT sum(n) FROM t WHERE n % 7 = 3"), true)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if row, err := s.Step(); !row || err != nil {
			b.Fatal(row, err)
		}
		s.Reset()
	}
}

func BenchmarkLike(b *testing.B) {
	c := open(b, 64<<20, Hooks{})
	fill(b, c, 10000)
	s, _, err := c.Prepare([]byte("SELECT count(*) FROM t WHERE name LIKE '%NAMES%'"), true)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if row, err := s.Step(); !row || err != nil {
			b.Fatal(row, err)
		}
		s.Reset()
	}
}
