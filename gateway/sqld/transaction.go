package sqld

import "github.com/facetgateway/fgw/sdk/wire/sqlchan"

// begin opens a transaction, which has the turn to write from the start unless it is read-only.
func (t *task) begin(mode byte) error {
	if mode == sqlchan.ReadOnly {
		if err := t.control("BEGIN"); err != nil {
			return err
		}
		t.session.readOnly = true
		return nil
	}
	// The turn comes before the connection: so all writers that wait need one between them, which has the
	// pages of the last one's commit in its cache.
	if t.session.conn == nil && !t.ch.readOnly {
		if err := t.takeWriter(); err != nil {
			return err
		}
	}
	return t.control("BEGIN IMMEDIATE")
}

// beginFirst begins the transaction that a statement's flag asks for.
func (t *task) beginFirst() error {
	if t.begins == 0 {
		return nil
	}
	mode := sqlchan.Immediate
	if t.begins == sqlchan.BeginReadOnly {
		mode = sqlchan.ReadOnly
	}
	err := t.begin(mode)
	if t.ch.audited.Load() && !t.parks {
		t.tell("BEGIN", err)
	}
	return err
}

// control runs one of the worker's own statements on the session's connection.
func (t *task) control(sql string) error {
	if err := t.connect(); err != nil {
		return err
	}
	return t.own(sql)
}

// own runs a statement of the worker's own.
func (t *task) own(sql string) error {
	c := t.conn
	defer c.trust()()
	s := c.find([]byte(sql))
	if s == nil {
		var err error
		if s, _, err = c.prepare([]byte(sql)); err != nil {
			return err
		}
	}
	defer c.done(s)
	if err := t.mayWrite(s.ReadOnly); err != nil {
		return err
	}
	_, err := s.Step()
	c.afterCommit()
	return err
}

// rollback ends the transaction; that an error has ended it already is none.
func (t *task) rollback() error {
	if t.session.conn == nil {
		return nil
	}
	if err := t.connect(); err != nil {
		return err
	}
	if t.conn.AutoCommit() {
		return nil
	}
	return t.own("ROLLBACK")
}

// close forgets the session, unless requests that came behind the CLOSE have
// begun another of its number.
func (t *task) close() {
	t.session.release()
	t.ch.mu.Lock()
	defer t.ch.mu.Unlock()
	if len(t.session.queue) == 0 {
		delete(t.ch.sessions, t.session.id)
	}
}

// inTx tells whether the session's transaction is open after this task.
func (t *task) inTx() bool {
	switch {
	case t.conn != nil:
		return !t.conn.AutoCommit()
	case t.session.conn != nil:
		return !t.session.conn.AutoCommit()
	}
	return false
}
