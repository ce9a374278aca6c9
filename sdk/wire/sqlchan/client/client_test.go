package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

func TestExec(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	wait := alongside(t, func() {
		q := p.expect(sqlchan.Exec)
		timeout, sql, args := q.r.Uvarint(), q.r.Text(), q.r.Args()
		if err := q.r.End(); err != nil || timeout != 0 || sql != "INSERT …" || len(args) != 2 || args[1] != (sqlchan.Arg{Name: "b", Value: "x"}) {
			t.Errorf("%d %q %v %v", timeout, sql, args, err)
		}
		p.done(q, sqlchan.Result{RowsAffected: 3, LastInsertID: 7})
		p.fail(p.expect(sqlchan.Exec), sqlchan.Failure{Code: sqlchan.CodeConstraint, SQLite: 2067, Offset: 4, Message: "no"})
	})
	d, err := s.Exec(t.Context(), "INSERT …", []sqlchan.Arg{{Value: int64(1)}, {Name: "b", Value: "x"}})
	if err != nil || d.RowsAffected != 3 || d.LastInsertID != 7 {
		t.Errorf("%v %v", d, err)
	}
	_, err = s.Exec(t.Context(), "INSERT …", nil)
	var f *sqlchan.Failure
	if !errors.As(err, &f) || f.SQLite != 2067 || f.Offset != 4 || f.Message != "no" {
		t.Errorf("%v", err)
	}
	wait()
}

func TestDeadlineGoesAlong(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alongside(t, func() {
		q := p.expect(sqlchan.Exec)
		if ms := q.r.Uvarint(); ms < 50_000 || ms > 60_001 {
			t.Errorf("a minute became %d ms", ms)
		}
		p.done(q, sqlchan.Result{})
	})
	if _, err := s.Exec(ctx, "x", nil); err != nil {
		t.Error(err)
	}
	over, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	if _, err := s.Exec(over, "x", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline that has passed: %v", err)
	}
}

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

func TestContextCancels(t *testing.T) {
	for name, ends := range map[string]bool{"stopped": true, "too late": false} {
		t.Run(name, func(t *testing.T) {
			c, p := newPair(t)
			s := newSession(t, c)
			ctx, cancel := context.WithCancel(t.Context())
			alongside(t, func() {
				q := p.expect(sqlchan.Exec)
				cancel()
				if stop := p.expect(sqlchan.Cancel); stop.Request != q.Request || stop.Session != q.Session {
					t.Errorf("cancels %d of %d", stop.Request, stop.Session)
				}
				if ends {
					p.fail(q, sqlchan.Failure{Code: sqlchan.CodeCancelled})
				} else {
					p.done(q, sqlchan.Result{RowsAffected: 1})
				}
				p.done(p.expect(sqlchan.Exec), sqlchan.Result{})
			})
			_, err := s.Exec(ctx, "x", nil)
			if ends && code(err) != sqlchan.CodeCancelled || !ends && err != nil {
				t.Errorf("%v", err)
			}
			if _, err := s.Exec(t.Context(), "the session lives on", nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPrepareBeginCommitRollbackClose(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	alongside(t, func() {
		q := p.expect(sqlchan.Prepare)
		p.answer(q, sqlchan.Prepared, sqlchan.AppendColumns([]byte{2, 1}, []sqlchan.Column{{Name: "a", DeclType: "INT"}}))
		q = p.expect(sqlchan.Begin)
		if q.r.Uvarint(); q.r.Byte() != sqlchan.ReadOnly || q.r.End() != nil {
			t.Error("BEGIN in another mode")
		}
		p.done(q, sqlchan.Result{InTx: true})
		p.done(p.expect(sqlchan.Commit), sqlchan.Result{})
		p.done(p.expect(sqlchan.Begin), sqlchan.Result{InTx: true})
		p.done(p.expect(sqlchan.Rollback), sqlchan.Result{})
		p.done(p.expect(sqlchan.Close), sqlchan.Result{})
	})
	ctx := t.Context()
	st, err := s.Prepare(ctx, "SELECT …")
	if err != nil || st.Parameters != 2 || !st.ReadOnly || st.Columns[0].DeclType != "INT" {
		t.Errorf("%+v %v", st, err)
	}
	for _, step := range []struct {
		do   func() error
		inTx bool
	}{
		{func() error { return s.Begin(ctx, sqlchan.ReadOnly) }, true},
		{func() error { return s.Commit(ctx) }, false},
		{func() error { return s.Begin(ctx, sqlchan.Immediate) }, true},
		{func() error { return s.Rollback(ctx) }, false},
		{s.Close, false},
	} {
		if err := step.do(); err != nil || s.InTx() != step.inTx {
			t.Errorf("%v, in a transaction %v", err, s.InTx())
		}
	}
	if _, err := s.Exec(ctx, "x", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed session: %v", err)
	}
}

func TestSessionsAreCounted(t *testing.T) {
	c, _ := newPair(t)
	var all []*Session
	for range sqlchan.MaxSessions {
		all = append(all, newSession(t, c))
	}
	if _, err := c.Session(); code(err) != sqlchan.CodeTooManySessions {
		t.Errorf("%v", err)
	}
	if err := all[3].Close(); err != nil { // never used, so nobody needs to be told
		t.Error(err)
	}
	if s := newSession(t, c); s.id != all[3].id {
		t.Error("the number is not free again")
	}
}

// Many callers share one reader; each must get its own answers, whoever reads.
func TestManySessionsAtOnce(t *testing.T) {
	c, p := newPair(t)
	alongside(t, func() {
		for {
			q, ok := p.next()
			if !ok {
				return
			}
			q.r.Uvarint()
			sql := q.r.Text()
			var n int64
			fmt.Sscan(sql, &n)
			p.done(q, sqlchan.Result{RowsAffected: n})
		}
	})
	var wg sync.WaitGroup
	for i := range sqlchan.MaxSessions {
		s := newSession(t, c)
		wg.Go(func() {
			for j := range 500 {
				want := int64(i*1000 + j)
				d, err := s.Exec(t.Context(), fmt.Sprint(want), nil)
				if err != nil || d.RowsAffected != want {
					t.Errorf("session %d: %d, wanted %d; %v", i, d.RowsAffected, want, err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.Close()
	p.file.Close()
}

// A worker that writes without being read must not lock up with a client that does the same.
func TestFullSocketsBothWays(t *testing.T) {
	c, p := newPair(t)
	const bytes = 4 << 20
	wait := alongside(t, func() {
		s := newSession(t, c)
		p := p
		wait := alongside(t, func() {
			q := p.expect(sqlchan.Query)
			p.columns(q, "a")
			for range initialCredit { // nobody reads these unless somebody writes
				p.rows(q, strings.Repeat("x", 60_000))
			}
			big := p.expect(sqlchan.Exec)
			q.r.Uvarint()
			p.done(big, sqlchan.Result{})
			p.done(q, sqlchan.Result{})
		})
		r, err := s.Query(t.Context(), "SELECT …", nil)
		if err != nil {
			t.Error(err)
			return
		}
		other := newSession(t, c)
		if _, err := other.Exec(t.Context(), strings.Repeat("y", bytes), nil); err != nil {
			t.Error(err)
		}
		if all, err := readAll(r); len(all) != initialCredit || err != nil {
			t.Errorf("%d rows, %v", len(all), err)
		}
		wait()
	})
	wait()
}

func TestRequestsThatAreTooLarge(t *testing.T) {
	c, _ := newPair(t)
	s := newSession(t, c)
	if _, err := s.Exec(t.Context(), strings.Repeat("x", sqlchan.MaxMessage), nil); code(err) != sqlchan.CodeSizeLimit {
		t.Errorf("text: %v", err)
	}
	if _, err := s.Exec(t.Context(), "x", make([]sqlchan.Arg, sqlchan.MaxArgs+1)); code(err) != sqlchan.CodeSizeLimit {
		t.Errorf("arguments: %v", err)
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

// A transaction that its first statement begins: one message less, and its failures are that statement's.
func TestBeginNext(t *testing.T) {
	c, p := newPair(t)
	s := newSession(t, c)
	ctx := t.Context()
	limited, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	next := func(ctx context.Context, mode byte, want bool) {
		t.Helper()
		if deferred, err := s.BeginNext(ctx, mode); deferred != want || err != nil {
			t.Fatalf("deferred %v, %v", deferred, err)
		}
	}
	next(ctx, sqlchan.Immediate, false) // the worker has not heard of the session
	alongside(t, func() {
		p.done(p.expect(sqlchan.Exec), sqlchan.Result{})
		q := p.expect(sqlchan.Exec)
		if q.Flags != sqlchan.BeginImmediate {
			t.Errorf("flags %#x", q.Flags)
		}
		p.done(q, sqlchan.Result{InTx: true})
		if q = p.expect(sqlchan.Exec); q.Flags != 0 {
			t.Errorf("flags %#x of the second statement", q.Flags)
		}
		p.done(q, sqlchan.Result{InTx: true})
		p.done(p.expect(sqlchan.Commit), sqlchan.Result{})
		p.fail(p.expect(sqlchan.Prepare), sqlchan.Failure{Code: sqlchan.CodeSQL})
		if q = p.expect(sqlchan.Query); q.Flags != sqlchan.BeginReadOnly {
			t.Errorf("flags %#x", q.Flags)
		}
		p.fail(q, sqlchan.Failure{Code: sqlchan.CodeBusy})
		q = p.expect(sqlchan.Query) // a large one
		if q.Flags != sqlchan.BeginImmediate {
			t.Errorf("flags %#x of a large statement's last packet", q.Flags)
		}
		if cancelled := p.expect(sqlchan.Cancel); cancelled.Request != q.Request {
			t.Errorf("request %d was cancelled", cancelled.Request)
		}
		p.fail(q, sqlchan.Failure{Code: sqlchan.CodeCancelled})
	})
	exec := func(inTx bool) {
		t.Helper()
		if _, err := s.Exec(ctx, "x", nil); err != nil || s.InTx() != inTx {
			t.Fatalf("%v, in a transaction %v", err, s.InTx())
		}
	}
	exec(false)
	next(limited, sqlchan.Immediate, false)
	for _, end := range []func(context.Context) error{s.Commit, s.Rollback} { // of nothing: nobody is told
		next(ctx, sqlchan.Immediate, true)
		if err := end(ctx); err != nil || s.InTx() {
			t.Errorf("%v, in a transaction %v", err, s.InTx())
		}
	}
	next(ctx, sqlchan.Immediate, true)
	exec(true)
	exec(true)
	if err := s.Commit(ctx); err != nil {
		t.Error(err)
	}
	next(ctx, sqlchan.ReadOnly, true)
	if _, err := s.Prepare(ctx, "nonsense"); code(err) != sqlchan.CodeSQL || !s.InTx() {
		t.Errorf("%v, in a transaction %v", err, s.InTx())
	}
	if _, err := s.Query(ctx, "SELECT 1", nil); code(err) != sqlchan.CodeBusy || s.InTx() {
		t.Errorf("%v, in a transaction %v", err, s.InTx())
	}
	begun, stop := context.WithCancel(ctx)
	next(begun, sqlchan.Immediate, true)
	time.AfterFunc(10*time.Millisecond, stop)
	if _, err := s.Query(ctx, strings.Repeat("x", 2*sqlchan.MaxPacket), nil); code(err) != sqlchan.CodeCancelled {
		t.Errorf("the transaction's context ended: %v", err)
	}
}
