package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// sqlRequest is one statement (or several, of which the last gives the rows).
type sqlRequest struct {
	SQL string `json:"sql"`
}

// sqlFrame is one line of the answer: columns, then rows, then done or an error.
type sqlFrame struct {
	Columns []Column   `json:"columns,omitempty"`
	Row     []value    `json:"row,omitempty"`
	Done    *SQLResult `json:"done,omitempty"`
	Error   *Error     `json:"error,omitempty"`
	Status  int        `json:"status,omitempty"`
}

// SQLSession is one session with a facet's database: what begins a transaction
// in one statement may commit it in a later one.
type SQLSession struct {
	ctx    context.Context
	cancel context.CancelFunc
	in     *io.PipeWriter
	resp   *http.Response
	lines  *bufio.Reader
	open   *SQLRows
}

// SQLSession opens a session. It does not start the facet. Close it after use.
func (c *Client) SQLSession(ctx context.Context, address string) (*SQLSession, error) {
	pr, pw := io.Pipe()
	s := &SQLSession{in: pw}
	s.ctx, s.cancel = context.WithCancel(ctx)
	req, err := newRequest(s.ctx, http.MethodPost, pathSQL, query("address", address), pr)
	if err != nil {
		s.cancel()
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if s.resp, err = c.send(req); err != nil {
		s.cancel()
		return nil, err
	}
	s.lines = bufio.NewReaderSize(s.resp.Body, 64<<10)
	return s, nil
}

// Close ends the session; a transaction that is open is rolled back.
func (s *SQLSession) Close() error {
	s.in.Close()
	s.cancel()
	return s.resp.Body.Close()
}

// Query runs SQL and gives the rows of its last statement. They must be read to
// the end or closed before the next Query.
func (s *SQLSession) Query(sql string) (*SQLRows, error) {
	if s.open != nil {
		if err := s.open.drain(); err != nil {
			return nil, err
		}
	}
	b, err := json.Marshal(sqlRequest{sql})
	if err != nil {
		return nil, err
	}
	if _, err := s.in.Write(append(b, '\n')); err != nil {
		return nil, unreachable(s.ctx, err)
	}
	rows := &SQLRows{session: s}
	f, err := s.next()
	if err != nil {
		return nil, err
	}
	rows.columns = f.Columns
	if f.Done != nil {
		rows.finish(f)
	}
	s.open = rows
	return rows, nil
}

// next reads a line of the answer.
func (s *SQLSession) next() (*sqlFrame, error) {
	line, err := s.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		head := bytes.Clone(line)
		var rest []byte
		rest, err = s.lines.ReadBytes('\n')
		line = append(head, rest...)
	}
	if err != nil {
		return nil, unreachable(s.ctx, err)
	}
	var f sqlFrame
	if err := json.Unmarshal(line, &f); err != nil {
		return nil, fmt.Errorf("sql: %w", err)
	}
	if f.Error != nil {
		f.Error.Status = f.Status
		return nil, f.Error
	}
	return &f, nil
}

// SQL runs SQL in a session of its own and gives the rows of the last
// statement. Closing the rows ends the session.
func (c *Client) SQL(ctx context.Context, address, sql string) (*SQLRows, error) {
	s, err := c.SQLSession(ctx, address)
	if err != nil {
		return nil, err
	}
	rows, err := s.Query(sql)
	if err != nil {
		s.Close()
		return nil, err
	}
	rows.owns = true
	return rows, nil
}

// SQLRows is a result as it streams in.
type SQLRows struct {
	session *SQLSession
	owns    bool
	columns []Column
	row     []any
	err     error
	done    bool
	result  SQLResult
}

// Columns are the result's columns, none where the statement gives no rows.
func (r *SQLRows) Columns() []Column { return r.columns }

// Next reads a row; false at the end, or where Err is not nil.
func (r *SQLRows) Next() bool {
	if r.done || r.err != nil {
		return false
	}
	f, err := r.session.next()
	if err != nil {
		r.err, r.session.open = err, nil
		return false
	}
	if f.Done != nil {
		r.finish(f)
		return false
	}
	r.row = r.row[:0]
	for _, v := range f.Row {
		r.row = append(r.row, v.v)
	}
	return true
}

func (r *SQLRows) finish(f *sqlFrame) {
	r.done, r.result, r.session.open = true, *f.Done, nil
}

// Values is the current row, valid until Next: nil, int64, float64, string or []byte.
func (r *SQLRows) Values() []any { return r.row }

// Err tells why the rows broke off.
func (r *SQLRows) Err() error { return r.err }

// Result tells what a statement changed, once Next gave false.
func (r *SQLRows) Result() SQLResult { return r.result }

// Close reads what is left, or ends the session where it was made for these rows.
func (r *SQLRows) Close() error {
	if r.owns {
		return r.session.Close()
	}
	return r.drain()
}

func (r *SQLRows) drain() error {
	for r.Next() {
	}
	return nil
}
