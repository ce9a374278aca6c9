package sqld

import (
	"bytes"
	"fmt"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// request is what the payloads of EXEC, QUERY and BUILTIN hold.
type request struct {
	timeout uint64 // ms
	credit  uint64
	number  uint64
	sql     []byte
}

// answer executes the request and sends its last message.
func (t *task) answer() {
	r := sqlchan.NewReader(t.payload)
	var q request
	var mode byte
	switch t.typ {
	case sqlchan.Exec, sqlchan.Query, sqlchan.Builtin:
		q.timeout = r.Uvarint()
		if t.typ != sqlchan.Exec {
			q.credit = r.Uvarint()
		}
		if t.typ == sqlchan.Builtin {
			q.number = r.Uvarint()
		} else {
			q.sql = r.Bytes()
		}
		t.args = readArgs(r, t.args)
	case sqlchan.Prepare:
		q.sql = r.Bytes()
	case sqlchan.Begin:
		q.timeout, mode = r.Uvarint(), r.Byte()
	case sqlchan.Commit:
		q.timeout = r.Uvarint()
	}
	if err := r.End(); err != nil || mode > sqlchan.ReadOnly {
		t.ch.end(breach("request of type %d: %w", t.typ, sqlchan.ErrMalformed))
		return
	}
	if !t.again {
		t.budget(q.timeout)
		t.addCredit(q.credit)
	}
	t.sql = q.sql
	if f := t.refuse(); f != nil {
		t.fail(f)
		return
	}
	if err := t.beginFirst(); err != nil {
		if t.parks {
			return
		}
		t.count(err)
		t.fail(t.classify(err))
		return
	}
	var err error
	res := sqlchan.Result{}
	switch t.typ {
	case sqlchan.Exec:
		res, err = t.execute(q.sql, false)
	case sqlchan.Query:
		res, err = t.execute(q.sql, true)
	case sqlchan.Builtin:
		err = t.builtin(q.number)
	case sqlchan.Prepare:
		err = t.prepare(q.sql)
	case sqlchan.Begin:
		err = t.begin(mode)
	case sqlchan.Commit:
		err = t.control("COMMIT")
	case sqlchan.Rollback:
		err = t.rollback()
	case sqlchan.Close:
		t.close()
	}
	if t.parks {
		return
	}
	t.count(err)
	if err != nil {
		t.fail(t.classify(err))
		return
	}
	if t.typ == sqlchan.Prepare {
		t.last()
		return
	}
	t.finish(res)
}

// budget sets the deadline: 0 is the database's own limit, and more than that is that.
func (t *task) budget(ms uint64) {
	limit := t.db.limits().StatementTimeout
	d := limit
	if ms > 0 && ms < uint64(limit/time.Millisecond) {
		d = time.Duration(ms) * time.Millisecond
	}
	t.deadline = t.began + int64(d)
}

// refuse tells of a transaction that was rolled back meanwhile, once, to a
// request that counts on it.
func (t *task) refuse() *sqlchan.Failure {
	if f := t.stopped(); f != nil { // while it waited behind others
		if t.again && t.stop.Load() == stopTimeout {
			return t.busy()
		}
		return f
	}
	if !t.session.expired {
		return nil
	}
	t.session.expired = false
	switch t.typ {
	case sqlchan.Begin, sqlchan.Rollback, sqlchan.Close, sqlchan.Prepare:
		return nil
	}
	if t.begins != 0 {
		return nil
	}
	return failure(sqlchan.CodeTxIdle, fmt.Sprintf("the transaction was idle for %v and was rolled back", t.db.limits().TxIdle))
}

// connect gives the task a connection and a turn to run.
func (t *task) connect() error {
	s := t.session
	c := s.conn
	if t.conn != nil { // it began the transaction
		c = t.conn
	}
	if c == nil {
		var err error
		if c, err = t.db.lease(); err != nil {
			return err
		}
		if c.last != s {
			c.SetCounters(s.counters)
			c.last = s
		}
	}
	t.conn, c.task = c, t
	c.seen = seen{}
	if t.turn < 0 {
		return t.takeTurn()
	}
	return nil
}

// execute runs all statements of sql; with rows, the rows of the last are the answer.
func (t *task) execute(sql []byte, rows bool) (res sqlchan.Result, err error) {
	if len(sql) > maxSQL {
		return res, failure(sqlchan.CodeSizeLimit, "the SQL text is longer than "+size(maxSQL))
	}
	if bytes.IndexByte(sql, 0) >= 0 {
		return res, failure(sqlchan.CodeDenied, "SQL text with a NUL character is not allowed")
	}
	if err := t.connect(); err != nil {
		return res, err
	}
	c := t.conn
	args := binder{args: t.args}
	for rest := sql; ; {
		s := c.find(rest)
		if s != nil {
			rest = nil
		} else if s, rest, err = c.prepare(rest); err != nil {
			return res, err
		}
		last := len(rest) == 0 || len(skipSpace(rest)) == 0
		if s == nil {
			if !last {
				continue
			}
			break
		}
		before := c.Counters()
		err = t.one(s, &args, last, last && rows)
		c.done(s)
		after := c.Counters()
		if after.TotalChanges != before.TotalChanges {
			res.RowsAffected += after.Changes
			t.stats.written += after.TotalChanges - before.TotalChanges
		}
		res.LastInsertID = after.LastInsertRowID
		t.ran = t.ran || !t.parks
		if err != nil || last {
			return res, err
		}
		if !c.Writing() { // what follows may take its time
			t.db.pass(t.session)
		}
	}
	if !t.ran && rows {
		t.out.message(t, sqlchan.Columns, sqlchan.AppendColumns(nil, nil))
	}
	if len(t.args) > args.next && !args.named() {
		return res, argsError(args.next, len(t.args))
	}
	return res, nil
}

// one runs one statement to its end.
func (t *task) one(s *statement, args *binder, last, rows bool) error {
	if err := args.bind(s, last); err != nil {
		return err
	}
	if err := t.mayWrite(s.ReadOnly); err != nil {
		return err
	}
	c := t.conn
	c.pace(s)
	if s.vacuum {
		defer c.trust()() // SQLite's own statements, which copy every table
	}
	sent := false
	for {
		row, err := s.Step()
		c.afterCommit()
		if err == nil && rows && !sent {
			sent = true
			err = t.out.message(t, sqlchan.Columns, s.columnsOf())
		}
		if err != nil || !row {
			t.stats.read += s.Scanned()
			return err
		}
		t.stats.read++
		if rows {
			if err := t.row(s); err != nil {
				return err
			}
		}
	}
}

// mayWrite waits for the turn to write where the statement needs it.
func (t *task) mayWrite(readOnly bool) error {
	if readOnly {
		return nil
	}
	s := t.session
	if t.ch.readOnly {
		return failure(sqlchan.CodeDenied, "this session may only read")
	}
	if s.readOnly {
		return failure(sqlchan.CodeDenied, "the transaction was begun read-only")
	}
	if err := t.takeWriter(); err != nil {
		return err
	}
	return t.db.beforeWrite(t)
}

// prepare answers PREPARE: the parameters of all statements, the columns of the last.
func (t *task) prepare(sql []byte) error {
	if len(sql) > maxSQL {
		return failure(sqlchan.CodeSizeLimit, "the SQL text is longer than "+size(maxSQL))
	}
	if bytes.IndexByte(sql, 0) >= 0 {
		return failure(sqlchan.CodeDenied, "SQL text with a NUL character is not allowed")
	}
	if err := t.connect(); err != nil {
		return err
	}
	params, readOnly, columns := 0, byte(1), sqlchan.AppendColumns(nil, nil)
	for rest := sql; ; {
		s := t.conn.find(rest)
		if s != nil {
			rest = nil
		} else {
			var err error
			if s, rest, err = t.conn.prepare(rest); err != nil {
				return err
			}
		}
		if s != nil {
			params += s.Params
			if !s.ReadOnly {
				readOnly = 0
			}
			columns = append([]byte(nil), s.columnsOf()...)
			t.conn.done(s)
		}
		if len(skipSpace(rest)) == 0 {
			break
		}
	}
	p := appendUvarint(nil, uint64(params))
	p = append(p, readOnly)
	t.out.message(t, sqlchan.Prepared, append(p, columns...))
	return nil
}

// count adds what the task did to its database's counts.
func (t *task) count(err error) {
	slot := t.db.slot.Load()
	switch t.typ {
	case sqlchan.Exec, sqlchan.Query, sqlchan.Builtin:
		slot.Statements.Add(1)
	}
	if err != nil {
		slot.Errors.Add(1)
	}
	if t.stats.read > 0 {
		slot.RowsRead.Add(t.stats.read)
	}
	if t.stats.written > 0 {
		slot.RowsWritten.Add(t.stats.written)
	}
	if t.stats.bytes > 0 {
		slot.ResultBytes.Add(t.stats.bytes)
	}
	if t.conn != nil && !t.conn.broken && (t.stats.written > 0 || slot.Storage.Load() == 0) {
		bytes := int64(t.conn.Pages()) * pageSize
		t.db.bytes.Store(bytes)
		slot.Storage.Store(bytes + t.db.walPages.Load()*frameSize)
	}
	if t.ch.audited.Load() {
		t.audit(err)
	}
}
