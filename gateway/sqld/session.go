package sqld

import "runtime/debug"

// setInTx notes whether the session has a transaction open.
func (ch *channel) setInTx(s *session, inTx bool) {
	ch.mu.Lock()
	s.idleSince = now()
	changed := s.inTx != inTx
	s.inTx = inTx
	ch.mu.Unlock()
	if !changed {
		return
	}
	slot := ch.db.slot.Load()
	if inTx {
		slot.Transactions.Add(1)
		ch.w.watch(s)
		return
	}
	slot.Transactions.Add(-1)
	s.readOnly = false
	ch.w.unwatch(s)
}

// release rolls back what the session has open and gives its connection back.
// No task of it runs.
func (s *session) release() {
	c := s.conn
	s.conn = nil
	if c != nil {
		c.trusted, c.task = true, nil
		if !c.AutoCommit() {
			c.Exec("ROLLBACK")
			c.afterCommit()
		}
		c.trusted = false
	}
	s.ch.db.pass(s)
	s.ch.setInTx(s, false)
	if c != nil {
		c.last = nil
		s.ch.db.giveBack(c)
	}
}

// expire rolls back the transaction of a session that has been idle in it for
// too long; its next request is told.
func (s *session) expire(before int64) {
	ch := s.ch
	if !ch.enter() {
		return
	}
	ch.mu.Lock()
	expired := !s.busy && s.inTx && s.idleSince <= before
	s.busy = s.busy || expired
	ch.mu.Unlock()
	if !expired {
		ch.leave()
		return
	}
	go s.rollBack() // what waits behind it may take long
}

// rollBack ends the transaction of a session that was made busy for it, and runs
// what came meanwhile.
func (s *session) rollBack() {
	ch := s.ch
	debug.SetPanicOnFault(true)
	s.release()
	ch.mu.Lock()
	s.expired = true
	r := &runner{ch: ch}
	if len(s.queue) > 0 {
		r.todo = []*task{s.queue[0]}
		s.queue = append(s.queue[:0], s.queue[1:]...)
	} else {
		s.busy = false
	}
	ch.mu.Unlock()
	r.run()
}
