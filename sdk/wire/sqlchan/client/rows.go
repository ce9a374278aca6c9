package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// Credit: so many ROWS messages may come unasked, and as many are granted again when half are used up.
// A message is 64 KiB or less by the worker's choice, and the socket holds about three of them.
const (
	initialCredit = 4
	lowCredit     = 2
)

// maxBuffered is how many bytes of an unread result the client takes in when another
// statement of the same session wants to run.
const maxBuffered = 16 << 20

// Rows is a result that is being read. While it is open its session may run
// other statements: what is unread is then taken into memory.
type Rows struct {
	s        *Session
	request  uint32
	cols     []sqlchan.Column
	harmless bool // nothing is left behind where it breaks off
	mayWrite bool // INSERT … RETURNING and the like: to be run to its end

	message message // the ROWS being read
	reader  sqlchan.Reader
	left    uint64 // rows of it
	ahead   []message
	stop    func() // the watch over the context
	ended   bool   // the last message has been read
	err     error  // what ended it; nil for its end
	result  sqlchan.Result
	closed  bool
}

// query sends the request and waits for the columns.
func (s *Session) query(ctx context.Context, t sqlchan.Type, sql string) (*Rows, error) {
	harmless := s.inTx || readsOnly(sql)
	request, stop, err := s.send(ctx, t, !harmless)
	if err != nil {
		return nil, err
	}
	m, err := s.answer(sqlchan.Columns, true, harmless)
	if err != nil {
		stop()
		return nil, err
	}
	rows := &Rows{s: s, request: request, harmless: harmless, mayWrite: !readsOnly(sql) && returning(sql), stop: stop}
	switch m.kind {
	case sqlchan.Done: // nothing that has columns
		rows.finish(m)
		return rows, rows.err
	case sqlchan.WholeResult:
		return rows, rows.takeWhole(m)
	}
	rows.cols, err = s.c.decodeColumns(m.payload)
	s.recycle(m.payload)
	if err != nil {
		stop()
		return nil, s.broken(err)
	}
	s.cursor = rows
	return rows, nil
}

// Columns returns the result's columns, which are not to be changed.
func (r *Rows) Columns() []sqlchan.Column { return r.cols }

// Result returns what the statement changed, once Next has returned io.EOF.
func (r *Rows) Result() sqlchan.Result { return r.result }

// Next moves to the next row. It returns io.EOF after the last one. Each column of a row
// must then be taken with Value, in order.
func (r *Rows) Next() error {
	for r.left == 0 {
		if r.closed || r.ended && len(r.ahead) == 0 {
			if r.err != nil {
				return r.err
			}
			return io.EOF
		}
		if err := r.nextMessage(); err != nil {
			return err
		}
	}
	r.left--
	return nil
}

// Value returns the row's next column: nil, int64, float64, string or []byte, all
// the caller's own.
func (r *Rows) Value() any { return r.reader.Value() }

// RowErr tells whether the values of the row were well formed; ask it after the last one.
func (r *Rows) RowErr() error {
	err := r.reader.Err()
	if err == nil && r.left == 0 {
		err = r.reader.End()
	}
	if err == nil {
		return nil
	}
	err = r.s.broken(err)
	r.end(err)
	return err
}

// nextMessage takes the next message of the result.
func (r *Rows) nextMessage() error {
	r.s.recycle(r.message.payload)
	r.message = message{}
	var m message
	if len(r.ahead) > 0 {
		m, r.ahead = r.ahead[0], r.ahead[1:]
	} else {
		var err error
		if m, err = r.s.answer(sqlchan.Rows, true, r.harmless); err != nil {
			r.end(err)
			return err
		}
		if m.kind == sqlchan.Done {
			r.finish(m)
			return r.err
		}
		r.grant()
	}
	r.reader = *sqlchan.NewReader(m.payload)
	r.message, r.left = m, r.reader.Uvarint()
	if err := r.reader.Err(); err != nil {
		err = r.s.broken(err)
		r.end(err)
		return err
	}
	return nil
}

// takeWhole takes a result that came as one message.
func (r *Rows) takeWhole(m message) error {
	r.reader = *sqlchan.NewReader(m.payload)
	var cols []byte
	r.result, cols = r.reader.WholeResult()
	r.message, r.left = m, r.reader.Uvarint()
	err := r.reader.Err()
	if err == nil {
		r.cols, err = r.s.c.decodeColumns(cols)
	}
	if err != nil {
		err = r.s.broken(err)
	} else {
		r.s.inTx = r.result.InTx
	}
	r.end(err)
	return err
}

// grant gives the worker leave to go on once half of the credit is used up.
func (r *Rows) grant() {
	s := r.s
	s.c.mu.Lock()
	low := s.credit <= lowCredit && s.pending == r.request
	if low {
		s.credit += initialCredit - lowCredit
	}
	s.c.mu.Unlock()
	if low {
		s.signal(sqlchan.Credit, r.request, binary.AppendUvarint(nil, initialCredit-lowCredit))
	}
}

// finish ends the result with its DONE.
func (r *Rows) finish(m message) {
	d, err := r.s.finish(m)
	r.s.recycle(m.payload)
	r.result = d
	r.end(err)
}

// end notes that no message of the result will come any more.
func (r *Rows) end(err error) {
	r.ended, r.err = true, err
	if err != nil {
		r.left = 0
	}
	r.stop()
	if r.s.cursor == r {
		r.s.cursor = nil
	}
}

// buffer takes in what is unread, so that the session can go on to something else.
func (r *Rows) buffer() error {
	size := 0
	for !r.ended {
		m, err := r.s.answer(sqlchan.Rows, true, r.harmless)
		if err != nil {
			r.end(err)
			return nil // it is the result's error, told by Next
		}
		if m.kind == sqlchan.Done {
			r.finish(m)
			return nil
		}
		r.ahead = append(r.ahead, m)
		if size += len(m.payload); size > maxBuffered {
			r.Close()
			return &sqlchan.Failure{Code: sqlchan.CodeResultLimit, InTx: r.s.inTx, Offset: -1,
				Message: fmt.Sprintf("an open result of this connection holds more than %d unread bytes: read or close it before the next statement", maxBuffered)}
		}
		r.grant()
	}
	return nil
}

// Close ends the result and stops the statement. A statement that writes and returns
// rows is run to its end, so that closing never undoes it. The error is that of a statement
// which failed before its end.
func (r *Rows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	r.left, r.ahead = 0, nil
	r.s.recycle(r.message.payload)
	r.message = message{}
	told := r.ended
	if !r.ended && !r.mayWrite && !r.soon() {
		r.s.signal(sqlchan.Cancel, r.request, nil)
	}
	for !r.ended {
		m, err := r.s.answer(sqlchan.Rows, true, r.harmless)
		switch {
		case err != nil:
			r.end(err)
		case m.kind == sqlchan.Done:
			r.finish(m)
		default:
			r.s.recycle(m.payload)
			r.grant()
		}
	}
	if f, ok := r.err.(*sqlchan.Failure); told || ok && f.Code == sqlchan.CodeCancelled {
		return nil
	}
	return r.err
}

// soonTries is how often Close looks whether the end of the result is about to arrive: most results are
// small, and their DONE follows the rows at once. Cancelling those would cost both sides more.
const soonTries = 4

// soon tells whether the result's last message has arrived.
func (r *Rows) soon() bool {
	c := r.s.c
	for range soonTries {
		c.mu.Lock()
		for r.s.pending == r.request && !c.leading && c.takeOne() {
		}
		there := r.s.pending != r.request
		c.mu.Unlock()
		if there {
			return true
		}
		runtime.Gosched()
	}
	return false
}

// returning tells whether the statement may write and return rows at once. In doubt it says true.
func returning(sql string) bool {
	const word = "RETURNING"
	for i := 0; i+len(word) <= len(sql); i++ {
		if (sql[i] == 'R' || sql[i] == 'r') && strings.EqualFold(sql[i:i+len(word)], word) {
			return true
		}
	}
	return false
}
