package client

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// holdBack makes all requests of n sessions wait in the outbox, as they do while somebody who reads is about to send them;
// the goroutines run do. release lets one of them read.
func holdBack(t *testing.T, c *Client, n int, do func(*Session)) (sessions []*Session, release func()) {
	t.Helper()
	c.mu.Lock()
	c.leading = true
	c.mu.Unlock()
	var wg sync.WaitGroup
	for range n {
		s := newSession(t, c)
		sessions = append(sessions, s)
		wg.Go(func() { do(s) })
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		c.mu.Lock()
		waiting = len(c.waiters)
		c.mu.Unlock()
	}
	return sessions, func() {
		c.mu.Lock()
		c.leading = false
		c.passOn()
		c.mu.Unlock()
		wg.Wait()
	}
}

// packet reads one packet of the client's, as it is.
func (p *peer) packet() (sqlchan.Header, []byte) {
	p.t.Helper()
	n, err := p.file.Read(p.in)
	if err != nil {
		p.t.Fatal(err)
	}
	h, payload, err := sqlchan.ParseHeader(p.in[:n])
	if err != nil {
		p.t.Fatal(err)
	}
	return h, payload
}

// TestRequestsLeaveTogether has what several callers ask at once leave as one packet, and their answers come as one.
func TestRequestsLeaveTogether(t *testing.T) {
	c, p := newPair(t)
	const n = 5
	_, release := holdBack(t, c, n, func(s *Session) {
		if d, err := s.Exec(t.Context(), "x", nil); err != nil || d.RowsAffected != int64(s.id) {
			t.Errorf("session %d: %+v %v", s.id, d, err)
		}
	})
	alongside(t, func() {
		h, payload := p.packet()
		if h != (sqlchan.Header{Type: sqlchan.BatchRequests}) {
			t.Errorf("packet %+v", h)
		}
		answers := sqlchan.Header{Type: sqlchan.BatchAnswers}.Append(nil)
		parts := 0
		for ; len(payload) > 0; parts++ {
			q, _, rest, err := sqlchan.CutPart(payload)
			if err != nil {
				t.Error(err)
				break
			}
			q.Type, payload = sqlchan.Done, rest
			answers = sqlchan.AppendPart(answers, sqlchan.AppendResult(q.Append(nil), sqlchan.Result{RowsAffected: int64(q.Session)}))
		}
		if parts != n {
			t.Errorf("%d requests in one packet", parts)
		}
		p.file.Write(answers)
	})
	release()
	// A lone caller's is a plain packet from then on.
	s := newSession(t, c)
	alongside(t, func() {
		h, payload := p.packet()
		if h.Type != sqlchan.Exec || h.Session != s.id {
			t.Errorf("packet %+v", h)
		}
		p.done(request{h, sqlchan.NewReader(payload)}, sqlchan.Result{})
	})
	if _, err := s.Exec(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}
}

// TestUrgentLeavesAtOnce: what others may wait for does not wait for company, and takes along what does.
func TestUrgentLeavesAtOnce(t *testing.T) {
	c, p := newPair(t)
	in := newSession(t, c)
	wait := alongside(t, func() { p.done(p.expect(sqlchan.Begin), sqlchan.Result{InTx: true}) })
	if err := in.Begin(t.Context(), sqlchan.Immediate); err != nil {
		t.Fatal(err)
	}
	wait()
	_, release := holdBack(t, c, 1, func(s *Session) { s.Exec(t.Context(), "x", nil) })
	committed := make(chan error, 1)
	go func() { committed <- in.Commit(t.Context()) }()
	first, second := p.expect(sqlchan.Exec), p.expect(sqlchan.Commit) // nobody reads yet
	p.done(first, sqlchan.Result{})
	p.done(second, sqlchan.Result{})
	release()
	if err := <-committed; err != nil {
		t.Error(err)
	}
}

// TestCancelDoesNotOvertake: a request that waits to leave does so before it is cancelled, or it would never be.
func TestCancelDoesNotOvertake(t *testing.T) {
	c, p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, release := holdBack(t, c, 1, func(s *Session) {
		if _, err := s.Exec(ctx, "x", nil); code(err) != sqlchan.CodeCancelled {
			t.Errorf("%v", err)
		}
	})
	cancel()
	q := p.expect(sqlchan.Exec)
	if stop := p.expect(sqlchan.Cancel); stop.Request != q.Request {
		t.Errorf("request %d was cancelled, not %d", stop.Request, q.Request)
	}
	p.fail(q, sqlchan.Failure{Code: sqlchan.CodeCancelled})
	release()
	// Nor does it overtake one that is being written.
	s := newSession(t, c)
	c.mu.Lock()
	s.pending, s.leaving = 77, true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() { s.signal(sqlchan.Cancel, 77, nil); close(done) }()
	for late := 0; late == 0; runtime.Gosched() {
		c.mu.Lock()
		late = c.out.late
		c.mu.Unlock()
	}
	p.file.SetReadDeadline(time.Unix(1, 0))
	if n, err := p.file.Read(p.in); err == nil {
		t.Errorf("%d bytes overtook the request", n)
	}
	p.file.SetReadDeadline(time.Now().Add(patience))
	c.mu.Lock()
	c.sent(outgoing{sessions: []*Session{s}})
	c.mu.Unlock()
	<-done
	p.expect(sqlchan.Cancel)
}

// TestResetBeforeLeaving: what had not left when the worker was replaced has not taken effect.
func TestResetBeforeLeaving(t *testing.T) {
	c, p := newPair(t)
	_, release := holdBack(t, c, 2, func(s *Session) {
		if _, err := s.Exec(t.Context(), "INSERT", nil); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
	})
	p.reset(3)
	release()
	s := newSession(t, c)
	alongside(t, func() {
		q := p.expect(sqlchan.Exec)
		if q.Epoch != 3 {
			t.Errorf("a request of epoch %d", q.Epoch)
		}
		p.done(q, sqlchan.Result{})
	})
	if _, err := s.Exec(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}
}

// TestBadBatches ends the channel for a batch that breaks the protocol.
func TestBadBatches(t *testing.T) {
	head := sqlchan.Header{Type: sqlchan.BatchAnswers}
	done := sqlchan.AppendResult(sqlchan.Header{Type: sqlchan.Done, Session: 1, Request: 1}.Append(nil), sqlchan.Result{})
	reset := sqlchan.AppendText(append(sqlchan.Header{Type: sqlchan.Reset}.Append(nil), 1), "no")
	for name, p := range map[string][]byte{
		"empty":                head.Append(nil),
		"of a session":         sqlchan.AppendPart(sqlchan.Header{Type: sqlchan.BatchAnswers, Session: 1}.Append(nil), done),
		"of a request":         sqlchan.AppendPart(sqlchan.Header{Type: sqlchan.BatchAnswers, Request: 1}.Append(nil), done),
		"goes on":              sqlchan.AppendPart(sqlchan.Header{Type: sqlchan.BatchAnswers, Flags: sqlchan.More}.Append(nil), done),
		"of requests":          sqlchan.AppendPart(sqlchan.Header{Type: sqlchan.BatchRequests}.Append(nil), done),
		"a part past its end":  append(sqlchan.AppendPart(head.Append(nil), done), 99),
		"a RESET in it":        sqlchan.AppendPart(head.Append(nil), reset),
		"a batch in it":        sqlchan.AppendPart(head.Append(nil), sqlchan.AppendPart(head.Append(nil), done)),
		"another epoch's part": sqlchan.AppendPart(head.Append(nil), sqlchan.AppendResult(sqlchan.Header{Type: sqlchan.Done, Session: 1, Request: 1, Epoch: 4}.Append(nil), sqlchan.Result{})),
		"two answers":          sqlchan.AppendPart(sqlchan.AppendPart(head.Append(nil), done), done),
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := newPair(t)
			s := newSession(t, c)
			alongside(t, func() {
				peer.expect(sqlchan.Exec)
				peer.file.Write(p)
			})
			s.Exec(t.Context(), "x", nil)
			if _, err := s.Exec(t.Context(), "x", nil); !errors.Is(err, ErrProtocol) {
				t.Errorf("%v", err)
			}
		})
	}
}
