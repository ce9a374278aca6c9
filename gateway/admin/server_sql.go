package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// Session is one session with a facet's database.
type Session interface {
	// Query runs SQL and gives the rows of its last statement.
	Query(ctx context.Context, sql string) (Rows, error)
	Close() error
}

// Rows is a result. Next gives io.EOF at its end, and then Result what was changed.
type Rows interface {
	Columns() []sqlchan.Column
	// Next fills row, which has a place for each column, with nil, int64, float64, string or []byte.
	Next(row []any) error
	Result() sqlchan.Result
	Close() error
}

// NewSession is a session of the SQL channel's client; done is run when it is
// closed, and may be nil.
func NewSession(s *client.Session, done func()) Session { return &channelSession{s, done} }

type channelSession struct {
	*client.Session
	done func()
}

func (s *channelSession) Query(ctx context.Context, sql string) (Rows, error) {
	rows, err := s.Session.Query(ctx, sql, nil)
	if err != nil {
		return nil, err
	}
	return channelRows{rows}, nil
}

func (s *channelSession) Close() error {
	err := s.Session.Close()
	if s.done != nil {
		s.done()
	}
	return err
}

type channelRows struct{ *client.Rows }

func (r channelRows) Next(row []any) error {
	if err := r.Rows.Next(); err != nil {
		return err
	}
	for i := range row {
		row[i] = r.Value()
	}
	return r.RowErr()
}

// maxSQL is the longest line of a request; the channel's messages hold 8 MiB.
const maxSQL = 16 << 20

// sql serves one session: statements come in as lines of JSON, and the answer
// of each goes out before the next is read. The session ends with the request's
// body, or when the connection does.
func (s *server) sql(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	// The body stays open while answers go out. Without this even an error would
	// wait for its end, and without the deadline so would the end of the call.
	rc.EnableFullDuplex()
	defer rc.SetReadDeadline(time.Unix(1, 0))
	a, err := facetAddress(r, "address")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	session, err := s.Runtime.SQL(ctx, a)
	if err != nil {
		s.fail(w, r, s.noFacet(a, err))
		return
	}
	defer session.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	rc.Flush()

	statements := make(chan string)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(statements)
		// While the body is open the server does not watch the connection: this
		// read is what sees a client go, and stops its statement.
		if readStatements(ctx, r.Body, statements) != io.EOF {
			cancel()
		}
	})
	defer reader.Wait()
	defer rc.SetReadDeadline(time.Unix(1, 0)) // ends the read that is under way
	defer cancel()
	out := bufio.NewWriterSize(w, 64<<10)
	for sql := range statements {
		if runStatement(ctx, session, sql, out) != nil || out.Flush() != nil {
			return
		}
		rc.Flush()
	}
}

func readStatements(ctx context.Context, body io.Reader, statements chan<- string) error {
	dec := json.NewDecoder(body)
	for {
		var req sqlRequest
		if err := dec.Decode(&req); err != nil {
			return err
		}
		if len(req.SQL) > maxSQL {
			return io.ErrShortBuffer
		}
		select {
		case statements <- req.SQL:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runStatement writes a statement's whole answer; what it returns is that the
// answer could not be written.
func runStatement(ctx context.Context, session Session, sql string, out *bufio.Writer) error {
	rows, err := session.Query(ctx, sql)
	if err != nil {
		return writeFrame(out, errorFrame(err))
	}
	defer rows.Close()
	cols := rows.Columns()
	if len(cols) > 0 {
		f := sqlFrame{}
		for _, c := range cols {
			f.Columns = append(f.Columns, Column{c.Name, c.DeclType})
		}
		if err := writeFrame(out, f); err != nil {
			return err
		}
	}
	row := make([]any, len(cols))
	var line []byte
	for {
		if err = rows.Next(row); err != nil {
			break
		}
		line = append(line[:0], `{"row":[`...)
		for i, v := range row {
			if i > 0 {
				line = append(line, ',')
			}
			line = appendValue(line, v)
		}
		line = append(line, "]}\n"...)
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	if err != io.EOF {
		return writeFrame(out, errorFrame(err))
	}
	d := rows.Result()
	return writeFrame(out, sqlFrame{Done: &SQLResult{RowsAffected: d.RowsAffected, LastInsertID: d.LastInsertID}})
}

func errorFrame(err error) sqlFrame {
	e := asError(err)
	return sqlFrame{Error: e, Status: e.Status}
}

func writeFrame(out *bufio.Writer, f sqlFrame) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = out.Write(append(b, '\n'))
	return err
}
