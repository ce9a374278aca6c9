package client

import (
	"context"
	"errors"
	"fmt"
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
