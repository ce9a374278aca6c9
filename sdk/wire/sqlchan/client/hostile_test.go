package client

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// A worker that was replaced leaves each request in one of two states: it had no effect, or nobody knows.
func TestResetAtEachMoment(t *testing.T) {
	run := func(name string, do func(t *testing.T, c *Client, p *peer, s *Session)) {
		t.Run(name, func(t *testing.T) {
			c, p := newPair(t)
			do(t, c, p, newSession(t, c))
			// whatever happened, a new session works in the new epoch
			again := newSession(t, c)
			wait := alongside(t, func() {
				q := p.expect(sqlchan.Exec)
				if q.Epoch != p.epoch {
					t.Errorf("a request of epoch %d in epoch %d", q.Epoch, p.epoch)
				}
				p.done(q, sqlchan.Result{})
			})
			if _, err := again.Exec(t.Context(), "x", nil); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			wait()
		})
	}
	unanswered := func(t *testing.T, p *peer, kind sqlchan.Type) {
		alongside(t, func() { p.expect(kind); p.reset(7) })()
	}
	inTx := func(t *testing.T, p *peer, s *Session) {
		wait := alongside(t, func() { p.done(p.expect(sqlchan.Begin), sqlchan.Result{InTx: true}) })
		if err := s.Begin(t.Context(), sqlchan.Immediate); err != nil {
			t.Fatal(err)
		}
		wait()
	}
	run("before anything", func(t *testing.T, c *Client, p *peer, s *Session) {
		p.reset(1)
		if _, err := s.Exec(t.Context(), "INSERT", nil); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
	})
	run("statement unanswered", func(t *testing.T, c *Client, p *peer, s *Session) {
		go unanswered(t, p, sqlchan.Exec)
		if _, err := s.Exec(t.Context(), "INSERT", nil); code(err) != sqlchan.CodeCommitUnknown {
			t.Errorf("%v", err)
		}
	})
	run("read unanswered", func(t *testing.T, c *Client, p *peer, s *Session) {
		go unanswered(t, p, sqlchan.Query)
		if _, err := s.Query(t.Context(), "SELECT 1", nil); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
	})
	run("begin unanswered", func(t *testing.T, c *Client, p *peer, s *Session) {
		go unanswered(t, p, sqlchan.Begin)
		if err := s.Begin(t.Context(), sqlchan.Immediate); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
	})
	run("between statements of a transaction", func(t *testing.T, c *Client, p *peer, s *Session) {
		inTx(t, p, s)
		p.reset(2)
		wait := alongside(t, func() { p.next() }) // the statement, which no one will execute
		if _, err := s.Exec(t.Context(), "INSERT", nil); !errors.Is(err, ErrLost) || s.InTx() {
			t.Errorf("%v", err)
		}
		wait()
	})
	run("commit unanswered", func(t *testing.T, c *Client, p *peer, s *Session) {
		inTx(t, p, s)
		go unanswered(t, p, sqlchan.Commit)
		if err := s.Commit(t.Context()); code(err) != sqlchan.CodeCommitUnknown {
			t.Errorf("%v", err)
		}
	})
	run("before the commit is sent", func(t *testing.T, c *Client, p *peer, s *Session) {
		inTx(t, p, s)
		p.reset(3)
		if err := s.Commit(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
	})
	run("amid a result", func(t *testing.T, c *Client, p *peer, s *Session) {
		wait := alongside(t, func() {
			q := p.expect(sqlchan.Query)
			p.columns(q, "a")
			p.rows(q, int64(1))
			p.reset(4)
		})
		r, err := s.Query(t.Context(), "SELECT a", nil)
		if err != nil {
			t.Fatal(err)
		}
		wait()
		if all, err := readAll(r); len(all) != 1 || !errors.Is(err, ErrLost) {
			t.Errorf("%v %v", all, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestPeerThatGoesAway(t *testing.T) {
	c, p := newPair(t)
	s, idle := newSession(t, c), newSession(t, c)
	alongside(t, func() { p.expect(sqlchan.Exec); p.file.Close() })
	if _, err := s.Exec(t.Context(), "INSERT", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := idle.Exec(t.Context(), "x", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := c.Session(); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestClosingFreesWhoWaits(t *testing.T) {
	c, p := newPair(t)
	a, b := newSession(t, c), newSession(t, c)
	alongside(t, func() { p.expect(sqlchan.Exec); p.expect(sqlchan.Exec); c.Close() })
	failed := make(chan error, 2)
	for _, s := range []*Session{a, b} {
		go func() { _, err := s.Exec(t.Context(), "x", nil); failed <- err }()
	}
	for range 2 {
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

// Whatever the peer sends, callers get an error and nothing hangs.
func TestPeerThatBreaksTheProtocol(t *testing.T) {
	done := sqlchan.AppendResult(nil, sqlchan.Result{})
	for name, send := range map[string]func(p *peer, q request){
		"short packet":    func(p *peer, q request) { p.file.Write([]byte("short")) },
		"flags":           func(p *peer, q request) { p.file.Write(sqlchan.Header{Type: sqlchan.Done, Flags: 2}.Append(nil)) },
		"other session":   func(p *peer, q request) { q.Session = 9; p.answer(q, sqlchan.Done, done) },
		"session 60000":   func(p *peer, q request) { q.Session = 60000; p.answer(q, sqlchan.Done, done) },
		"other request":   func(p *peer, q request) { q.Request++; p.answer(q, sqlchan.Done, done) },
		"other epoch":     func(p *peer, q request) { p.epoch = 3; p.answer(q, sqlchan.Done, done) },
		"unknown type":    func(p *peer, q request) { p.answer(q, 200, done) },
		"a request":       func(p *peer, q request) { p.answer(q, sqlchan.Exec, done) },
		"wrong answer":    func(p *peer, q request) { p.answer(q, sqlchan.Prepared, []byte{0, 0, 0}) },
		"columns to exec": func(p *peer, q request) { p.columns(q, "a") },
		"rows to exec":    func(p *peer, q request) { p.rows(q) },
		"short done":      func(p *peer, q request) { p.answer(q, sqlchan.Done, nil) },
		"long done":       func(p *peer, q request) { p.answer(q, sqlchan.Done, append(done, 0)) },
		"short error":     func(p *peer, q request) { p.answer(q, sqlchan.Error, []byte{0}) },
		"bad reset":       func(p *peer, q request) { p.answer(request{}, sqlchan.Reset, nil) },
		"endless message": func(p *peer, q request) {
			b := make([]byte, sqlchan.MaxPacket)
			sqlchan.Header{Type: sqlchan.Done, Flags: sqlchan.More, Session: q.Session, Request: q.Request}.Append(b[:0])
			for range sqlchan.MaxMessage/(sqlchan.MaxPacket-sqlchan.HeaderSize) + 1 {
				if _, err := p.file.Write(b); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := newPair(t)
			s := newSession(t, c)
			alongside(t, func() { send(p, p.expect(sqlchan.Exec)) })
			if _, err := s.Exec(t.Context(), "x", nil); !errors.Is(err, ErrProtocol) {
				t.Errorf("%v", err)
			}
			if !errors.Is(c.Err(), ErrProtocol) {
				t.Errorf("the channel: %v", c.Err())
			}
		})
	}
}

func TestPeerThatBreaksAResult(t *testing.T) {
	for name, send := range map[string]func(p *peer, q request){
		"rows without values":  func(p *peer, q request) { p.answer(q, sqlchan.Rows, []byte{200, 1}) },
		"half a value":         func(p *peer, q request) { p.answer(q, sqlchan.Rows, []byte{1, byte(sqlchan.Text), 9, 'x'}) },
		"values left over":     func(p *peer, q request) { p.answer(q, sqlchan.Rows, []byte{1, 0, 0}) },
		"a value of no kind":   func(p *peer, q request) { p.answer(q, sqlchan.Rows, []byte{1, 77}) },
		"columns twice":        func(p *peer, q request) { p.columns(q, "a") },
		"half a whole result":  func(p *peer, q request) { p.answer(q, sqlchan.WholeResult, []byte{0, 0}) },
		"whole, bad columns":   func(p *peer, q request) { p.answer(q, sqlchan.WholeResult, []byte{0, 0, 0, 1, 5, 0}) },
		"whole, missing rows":  func(p *peer, q request) { p.answer(q, sqlchan.WholeResult, []byte{0, 0, 0, 4, 1, 1, 'a', 0, 3}) },
		"rows without a count": func(p *peer, q request) { p.answer(q, sqlchan.Rows, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c, p := newPair(t)
			s := newSession(t, c)
			wait := alongside(t, func() {
				q := p.expect(sqlchan.Query)
				if !strings.Contains(name, "whole") {
					p.columns(q, "a")
				}
				send(p, q)
			})
			r, err := s.Query(t.Context(), "SELECT a", nil)
			if err == nil {
				wait()
				_, err = readAll(r)
				r.Close()
			}
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestPeerThatSendsMoreThanItsCredit(t *testing.T) {
	c, p := newPair(t)
	s, other := newSession(t, c), newSession(t, c)
	alongside(t, func() {
		q := p.expect(sqlchan.Query)
		p.columns(q, "a")
		for range initialCredit + 1 {
			p.rows(q, int64(1))
		}
	})
	if _, err := s.Query(t.Context(), "SELECT a", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "x", nil); !errors.Is(err, ErrProtocol) { // which reads for both
		t.Errorf("%v", err)
	}
}

// Random packets, some of them nearly right, must end in an error or an answer.
func TestRandomPeer(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	kinds := []sqlchan.Type{sqlchan.Done, sqlchan.Columns, sqlchan.Rows, sqlchan.Prepared, sqlchan.Error, sqlchan.Reset, sqlchan.WholeResult, 0, 255}
	for range 500 {
		c, p := newPair(t)
		s := newSession(t, c)
		wait := alongside(t, func() {
			q := p.expect(sqlchan.Query)
			if rnd.IntN(2) == 0 {
				p.columns(q, "a")
			}
			for range rnd.IntN(5) {
				b := make([]byte, rnd.IntN(20))
				for i := range b {
					b[i] = byte(rnd.IntN(8))
				}
				p.answer(q, kinds[rnd.IntN(len(kinds))], b)
			}
			p.file.Close()
		})
		if r, err := s.Query(t.Context(), "SELECT a", nil); err == nil {
			for range 100 {
				if r.Next() != nil {
					break
				}
				for range r.Columns() {
					r.Value()
				}
				if r.RowErr() != nil {
					break
				}
			}
			r.Close()
		}
		wait()
		c.Close()
	}
}
