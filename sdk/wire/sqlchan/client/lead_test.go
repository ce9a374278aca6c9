package client

import (
	"runtime"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// One who is woken to read may be given its message before it runs. It must then pass the reading on, or
// those behind it wait for ever.
func TestReadingIsPassedOn(t *testing.T) {
	c, p := newPair(t)
	got := make(chan string, 2)
	c.mu.Lock()
	c.leading = true // so that both wait
	var sessions [2]*Session
	for i, name := range []string{"first", "second"} {
		s := &Session{c: c, id: uint16(i + 1), wake: make(chan struct{}, 1), pending: uint32(i + 1)}
		c.sessions[s.id], sessions[i] = s, s
		go func() {
			if _, err := s.next(); err != nil {
				t.Error(err)
			}
			got <- name
		}()
	}
	c.mu.Unlock()
	for waiting := 0; waiting < 2; runtime.Gosched() {
		c.mu.Lock()
		waiting = len(c.waiters)
		c.mu.Unlock()
	}
	answer := func(s *Session) []byte {
		return sqlchan.AppendResult(sqlchan.Header{Type: sqlchan.Done, Session: s.id, Request: s.pending}.Append(nil), sqlchan.Result{})
	}
	c.mu.Lock()
	c.leading = false
	first, second := c.waiters[0], c.waiters[1]
	c.passOn()                                        // wakes the first …
	if err := c.dispatch(answer(first)); err != nil { // … whose message comes by way of another
		t.Error(err)
	}
	toSecond := answer(second)
	c.mu.Unlock()
	<-got
	if _, err := p.file.Write(toSecond); err != nil {
		t.Fatal(err)
	}
	select {
	case <-got:
	case <-time.After(patience):
		t.Fatal("nobody reads")
	}
}
