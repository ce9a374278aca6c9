package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	if err := Init(512 << 20); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func open(t testing.TB, limit int64, h Hooks) *Conn {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := NewAccount(limit)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(file, a, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n := a.Used(); n != 0 {
			t.Errorf("the account still holds %d bytes", n)
		}
		a.Close()
	})
	return c
}

func TestBasics(t *testing.T) {
	c := open(t, 64<<20, Hooks{})
	for _, sql := range []string{"pragma journal_mode=wal", "create table t(a integer primary key, b text)", "insert into t values(1,'x'),(2,'y')"} {
		if err := c.Exec(sql); err != nil {
			t.Fatal(sql, err)
		}
	}
	s, _, err := c.Prepare([]byte("select a, b, instr('hello','l') from t where b like 'Y'"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	row, err := s.Step()
	if !row || err != nil || s.ColumnInt64(0) != 2 || string(s.ColumnText(1)) != "y" || s.ColumnInt64(2) != 3 {
		t.Fatal(row, err)
	}
}
