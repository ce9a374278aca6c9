package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

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
