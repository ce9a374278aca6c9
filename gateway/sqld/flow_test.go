package sqld

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

func TestCancel(t *testing.T) {
	c := serveFile(t)
	const endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT count(*) FROM c"
	began := time.Now()
	r := c.start(sqlchan.Query, 1, payload(0, 4, endless, nil))
	if v := c.value(2, "SELECT 1"); v != int64(1) {
		t.Error("another session waits for a long statement")
	}
	c.send(sqlchan.Cancel, 1, r, nil)
	c.fails(sqlchan.CodeCancelled, c.wait(1, r))
	if d := time.Since(began); d > time.Second {
		t.Errorf("cancelled after %v", d)
	}
	// One that waits behind another in its session.
	first := c.start(sqlchan.Query, 1, payload(0, 4, endless, nil))
	second := c.start(sqlchan.Query, 1, payload(0, 4, "SELECT 2", nil))
	c.send(sqlchan.Cancel, 1, second, nil)
	c.send(sqlchan.Cancel, 1, first, nil)
	c.fails(sqlchan.CodeCancelled, c.wait(1, first))
	c.fails(sqlchan.CodeCancelled, c.wait(1, second))
	c.value(1, "SELECT 1")
}

// TestOneRowThenEndless sends the row while the statement works on.
func TestOneRowThenEndless(t *testing.T) {
	c := serveFile(t)
	r := c.start(sqlchan.Query, 1, payload(300*time.Millisecond, 4, "SELECT 1 UNION ALL SELECT * FROM (WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT i FROM c WHERE i < 0)", nil))
	began := time.Now()
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	if p := c.message(r); p.h.Type != sqlchan.Rows {
		t.Fatalf("message of type %d", p.h.Type)
	}
	if d := time.Since(began); d > 200*time.Millisecond {
		t.Errorf("the row came after %v", d)
	}
	p := c.message(r)
	if p.h.Type != sqlchan.Error {
		t.Fatalf("message of type %d", p.h.Type)
	}
	if f := sqlchan.NewReader(p.payload).Failure(); f.Code != sqlchan.CodeStatementTimeout {
		t.Errorf("%s: %s", f.Code, f.Message)
	}
}

func TestCredit(t *testing.T) {
	c := serveFile(t)
	const rows = 20000
	sql := fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT %d) SELECT i, hex(zeroblob(20)) FROM c", rows)
	r := c.start(sqlchan.Query, 1, payload(allowance*time.Second, 2, sql, nil))
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	n := uint64(0)
	take := func(p packet) {
		if p.h.Type != sqlchan.Rows {
			t.Fatalf("message of type %d", p.h.Type)
		}
		n += sqlchan.NewReader(p.payload).Uvarint()
	}
	take(c.message(r))
	take(c.message(r))
	// Without credit nothing more comes, however long, and the time that the client takes is not the statement's.
	c.value(2, "SELECT 1")
	time.Sleep(allowance * 1200 * time.Millisecond)
	for _, p := range c.held {
		t.Errorf("message of type %d without credit", p.h.Type)
	}
	c.send(sqlchan.Credit, 1, r, binary.AppendUvarint(nil, 1000))
	for n < rows {
		take(c.message(r))
	}
	if p := c.message(r); p.h.Type != sqlchan.Done {
		t.Errorf("message of type %d", p.h.Type)
	}
	// A request without any credit can be cancelled.
	r = c.start(sqlchan.Query, 1, payload(0, 0, "SELECT 1", nil))
	if p := c.message(r); p.h.Type != sqlchan.Columns {
		t.Fatalf("message of type %d", p.h.Type)
	}
	c.send(sqlchan.Cancel, 1, r, nil)
	if p := c.message(r); p.h.Type != sqlchan.Error {
		t.Fatalf("message of type %d", p.h.Type)
	}
}

func TestLargeRows(t *testing.T) {
	c := serveFile(t)
	for _, n := range []int{0, 1, 40 << 10, 60 << 10, 65<<10 + 500, 200 << 10, 3 << 20} {
		q := c.ok(c.query(1, "SELECT 1, zeroblob(?1) UNION ALL SELECT 2, zeroblob(10) UNION ALL SELECT 3, zeroblob(?1)", n))
		if len(q.rows) != 3 || len(q.rows[0][1].([]byte)) != n || len(q.rows[2][1].([]byte)) != n {
			t.Errorf("%d bytes: %d rows", n, len(q.rows))
		}
	}
	c.fails(sqlchan.CodeResultLimit, c.query(1, "SELECT zeroblob(4000000), zeroblob(4000000), zeroblob(4000000)"))
	big := strings.Repeat("x", 3<<20)
	if v := c.value(1, "SELECT length(?)", big); v != int64(len(big)) {
		t.Errorf("length %v", v)
	}
	c.fails(sqlchan.CodeSizeLimit, c.query(1, "SELECT length(?)", strings.Repeat("x", 5<<20)))
}

// TestHeldMemory refuses requests that hold more than a channel may, and gives
// all of it back.
func TestHeldMemory(t *testing.T) {
	c, ch := serveLimits(t, func(*control.Limits) {}, nil)
	big := strings.Repeat("x", 3<<20)
	waiting := c.start(sqlchan.Query, 1, payload(0, 0, "SELECT 1", nil))
	var reqs []uint32
	refused := 0
	for s := uint16(2); s <= 3; s++ {
		reqs = append(reqs, c.start(sqlchan.Query, s, payload(0, 0, "SELECT 1", nil)))
		for range 7 {
			reqs = append(reqs, c.start(sqlchan.Query, s, payload(0, 1, "SELECT length(?)", []any{big})))
		}
	}
	if v := c.value(4, "SELECT 1"); v != int64(1) { // a small one is taken even now
		t.Errorf("value %v", v)
	}
	c.send(sqlchan.Credit, 1, waiting, []byte{1})
	c.ok(c.wait(1, waiting))
	for i, r := range reqs {
		s := uint16(2 + i/8)
		if i%8 == 0 {
			c.send(sqlchan.Credit, s, r, []byte{1})
		}
		if a := c.wait(s, r); a.failure != nil {
			c.fails(sqlchan.CodeTooManyRequests, a)
			refused++
		}
	}
	if refused < 3 || refused > 6 {
		t.Errorf("%d of 14 requests of 3 MiB were refused", refused)
	}
	until(t, "the memory to be given back", func() bool { return ch.held.Load() == 0 && ch.w.held.Load() == 0 })
	c.value(2, "SELECT length(?)", big)
}

// TestWholeResult answers in one packet what fits one, and a result of any size right.
func TestWholeResult(t *testing.T) {
	c := serveFile(t)
	for _, tt := range []struct {
		sql    string
		credit int
		want   sqlchan.Type
	}{
		{"SELECT 1", 1, sqlchan.WholeResult},
		{"SELECT 1", 0, sqlchan.Columns},
		{"SELECT 1 WHERE 0", 1, sqlchan.WholeResult},
		{"SELECT 1 WHERE 0", 0, sqlchan.Columns},
		{"CREATE TABLE t (a)", 1, sqlchan.WholeResult},
		{"-- nothing", 1, sqlchan.WholeResult},
		{"SELECT zeroblob(45000)", 4, sqlchan.WholeResult},
		{"SELECT zeroblob(70000)", 4, sqlchan.Columns},
		{"nonsense", 4, sqlchan.Error},
	} {
		r := c.start(sqlchan.Query, 1, payload(0, tt.credit, tt.sql, nil))
		p := c.message(r)
		if p.h.Type != tt.want {
			t.Errorf("%s with a credit of %d: message of type %d, wanted %d", tt.sql, tt.credit, p.h.Type, tt.want)
		}
		for p.h.Type == sqlchan.Columns || p.h.Type == sqlchan.Rows {
			c.send(sqlchan.Credit, 1, r, []byte{1})
			p = c.message(r)
		}
	}
	for n := 65400; n < 65560; n += 7 { // about the size of a packet
		for _, sql := range []string{"SELECT zeroblob(?)", "SELECT zeroblob(?1 / 2) UNION ALL SELECT zeroblob(?1 / 2 - 20)"} {
			if a := c.ok(c.query(1, sql, n)); len(a.rows) == 0 || len(a.rows[0][0].([]byte)) < n/2 {
				t.Errorf("%d bytes: %d rows", n, len(a.rows))
			}
		}
	}
}
