package client

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// readAll reads a result of one column.
func readAll(r *Rows) (all []any, err error) {
	for {
		if err := r.Next(); err != nil {
			if err == io.EOF {
				return all, nil
			}
			return all, err
		}
		all = append(all, r.Value())
		if err := r.RowErr(); err != nil {
			return all, err
		}
	}
}

func TestQueryStreamsWithCredit(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	const messages = 100
	alongside(t, func() {
		q := p.expect(sqlchan.Query)
		q.r.Uvarint()
		credit := int(q.r.Uvarint())
		p.columns(q, "a")
		for i := range messages {
			for credit == 0 {
				more := p.expect(sqlchan.Credit)
				if more.Request != q.Request {
					t.Errorf("credit for request %d", more.Request)
				}
				n := int(more.r.Uvarint())
				if n == 0 {
					return
				}
				credit += n
			}
			credit--
			p.rows(q, int64(i), strings.Repeat("x", 70_000)) // more than a packet
		}
		p.done(q, sqlchan.Result{RowsAffected: 9})
	})
	r, err := s.Query(t.Context(), "SELECT …", nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := readAll(r)
	if err != nil || len(all) != 2*messages || all[198] != int64(99) || len(all[199].(string)) != 70_000 {
		t.Errorf("%d values, %v", len(all), err)
	}
	if r.Result().RowsAffected != 9 {
		t.Error(r.Result())
	}
}

func TestWholeResult(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	alongside(t, func() {
		p.whole(p.expect(sqlchan.Query), sqlchan.Result{InTx: true, RowsAffected: 2}, int64(1), "two")
		p.whole(p.expect(sqlchan.Query), sqlchan.Result{})
		p.whole(p.expect(sqlchan.Query), sqlchan.Result{}, strings.Repeat("x", 200_000))
		p.done(p.expect(sqlchan.Exec), sqlchan.Result{})
	})
	r, err := s.Query(t.Context(), "UPDATE … RETURNING a", nil)
	if err != nil || !s.InTx() {
		t.Fatal(err)
	}
	if all, err := readAll(r); fmt.Sprint(all) != "[1 two]" || err != nil || r.Result().RowsAffected != 2 {
		t.Errorf("%v %v", all, err)
	}
	r, err = s.Query(t.Context(), "SELECT …", nil)
	if err != nil || len(r.Columns()) != 1 || s.InTx() {
		t.Fatal(err)
	}
	if all, err := readAll(r); len(all) != 0 || err != nil {
		t.Errorf("%v %v", all, err)
	}
	r, err = s.Query(t.Context(), "SELECT …", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Exec(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}
}

func TestCloseCancelsWhatOnlyReads(t *testing.T) {
	for sql, cancels := range map[string]bool{
		"SELECT a FROM t":                              true,
		"WITH x AS (SELECT 1) SELECT * FROM x":         true,
		"INSERT INTO t VALUES (1) returning a":         false,
		"WITH x(a) AS (SELECT 1) UPDATE … RETURNING a": false,
	} {
		c, p := newPair(t)
		s := newSession(t, c)
		wait := alongside(t, func() {
			q := p.expect(sqlchan.Query)
			p.columns(q, "a")
			p.rows(q, int64(1))
			want := sqlchan.Cancel
			if !cancels {
				p.rows(q, int64(2))
				p.rows(q, int64(3))
				want = sqlchan.Credit
			}
			p.expect(want)
			if cancels {
				p.fail(q, sqlchan.Failure{Code: sqlchan.CodeCancelled})
			} else {
				p.done(q, sqlchan.Result{})
			}
		})
		r, err := s.Query(t.Context(), sql, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Next(); err != nil {
			t.Fatal(err)
		}
		r.Value()
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		wait()
	}
}

// What fails after the rows (a deferred constraint, say) must not pass for success.
func TestCloseTellsOfALateFailure(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	alongside(t, func() {
		q := p.expect(sqlchan.Query)
		p.columns(q, "a")
		p.rows(q, int64(1))
		p.fail(q, sqlchan.Failure{Code: sqlchan.CodeConstraint})
	})
	r, err := s.Query(t.Context(), "INSERT … RETURNING a", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.Value()
	if err := r.Close(); code(err) != sqlchan.CodeConstraint {
		t.Errorf("%v", err)
	}
}

func TestAnotherStatementWhileAResultIsOpen(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	alongside(t, func() {
		q := p.expect(sqlchan.Query)
		p.columns(q, "a")
		for i := range initialCredit {
			p.rows(q, int64(i))
		}
		p.expect(sqlchan.Credit)
		p.rows(q, int64(initialCredit))
		p.done(q, sqlchan.Result{InTx: true})
		p.done(p.expect(sqlchan.Exec), sqlchan.Result{InTx: true})
	})
	r, err := s.Query(t.Context(), "SELECT …", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Next(); err != nil || r.Value() != int64(0) {
		t.Fatal(err)
	}
	if _, err := s.Exec(t.Context(), "UPDATE …", nil); err != nil {
		t.Fatal(err)
	}
	all, err := readAll(r)
	if err != nil || fmt.Sprint(all) != "[1 2 3 4]" {
		t.Errorf("%v %v", all, err)
	}
	if !s.InTx() {
		t.Error("the transaction was forgotten")
	}
}

func TestReadsOnly(t *testing.T) {
	for sql, want := range map[string]bool{
		"SELECT 1": true, " select 1 ; \n": true, "SELECT": true,
		"": false, "SELECT 1; DELETE FROM t": false, "SELECT ';'": false, "WITH x AS (SELECT 1) DELETE FROM t": false, "PRAGMA x": false,
	} {
		if got := readsOnly(sql); got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
}
