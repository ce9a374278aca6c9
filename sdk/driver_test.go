package sdk

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// worker answers each request by what answer says: DONE, an error, or, for "", nothing. Tests with a real
// worker stand in gateway/sqltest.
type worker struct {
	file   *os.File
	epoch  uint32
	answer func(h sqlchan.Header, n int) string
	seen   chan sqlchan.Header
}

func newWorker(t *testing.T, answer func(h sqlchan.Header, n int) string) (*sql.DB, *worker) {
	t.Helper()
	ours, theirs := packetPair(t)
	c, err := client.New(ours, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{file: theirs, answer: answer, seen: make(chan sqlchan.Header, 100)}
	ended := make(chan bool)
	go func() { defer close(ended); w.serve() }()
	db := openDB(c)
	t.Cleanup(func() { db.Close(); c.Close(); <-ended; theirs.Close() })
	return db, w
}

func (w *worker) serve() {
	in := make([]byte, sqlchan.MaxPacket)
	for n := 1; ; n++ {
		size, err := w.file.Read(in)
		if err != nil || size == 0 {
			return
		}
		h, payload, err := sqlchan.ParseHeader(in[:size])
		if err == nil && h.Type == sqlchan.BatchRequests { // the first of an epoch, of one request
			h, _, _, err = sqlchan.CutPart(payload)
		}
		if err != nil || h.Epoch != w.epoch {
			continue
		}
		w.seen <- h
		inTx := h.Type == sqlchan.Begin || h.Type == sqlchan.Exec && n > 1
		switch code := w.answer(h, n); code {
		case "":
		case "done":
			w.send(h, sqlchan.Done, sqlchan.AppendResult(nil, sqlchan.Result{InTx: inTx}))
		case "reset":
			w.epoch++
			w.send(sqlchan.Header{}, sqlchan.Reset, []byte{byte(w.epoch), 0})
		default:
			w.send(h, sqlchan.Error, sqlchan.AppendFailure(nil, &sqlchan.Failure{Code: code, Message: code, Offset: -1}))
		}
	}
}

func (w *worker) send(h sqlchan.Header, t sqlchan.Type, payload []byte) {
	h.Type, h.Epoch = t, w.epoch
	w.file.Write(append(h.Append(nil), payload...))
}

// database/sql tries again what failed with driver.ErrBadConn. A statement that may have been executed must not be tried again.
func TestWhatIsTriedAgain(t *testing.T) {
	once := func(first string) func(sqlchan.Header, int) string {
		return func(h sqlchan.Header, n int) string {
			if n == 1 {
				return first
			}
			return "done"
		}
	}
	t.Run("a write that was not answered", func(t *testing.T) {
		db, w := newWorker(t, once("reset"))
		_, err := db.Exec("INSERT …")
		var e *SQLError
		if !errors.As(err, &e) || e.Code != sqlchan.CodeCommitUnknown || errors.Is(err, driver.ErrBadConn) {
			t.Errorf("%v", err)
		}
		if len(w.seen) != 1 {
			t.Errorf("sent %d times", len(w.seen))
		}
	})
	t.Run("a transaction that did not begin", func(t *testing.T) {
		db, w := newWorker(t, once("reset"))
		if _, err := db.Begin(); err != nil {
			t.Errorf("%v", err)
		}
		if len(w.seen) != 2 {
			t.Errorf("sent %d times", len(w.seen))
		}
	})
	t.Run("a statement of a transaction", func(t *testing.T) {
		db, w := newWorker(t, func(h sqlchan.Header, n int) string { return map[int]string{1: "done", 2: "reset"}[n] })
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT …"); !errors.Is(err, driver.ErrBadConn) {
			t.Errorf("%v", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Errorf("rolling back what is gone: %v", err)
		}
		if len(w.seen) != 2 {
			t.Errorf("sent %d times", len(w.seen))
		}
	})
	t.Run("the statement that begins a transaction", func(t *testing.T) {
		db, w := newWorker(t, func(h sqlchan.Header, n int) string { return map[bool]string{true: "reset", false: "done"}[n == 2] })
		if _, err := db.Exec("INSERT …"); err != nil { // the worker knows the session
			t.Fatal(err)
		}
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT …"); err != nil {
			t.Errorf("%v", err)
		}
		if err := tx.Commit(); err != nil {
			t.Errorf("%v", err)
		}
		var seen []sqlchan.Type
		for len(w.seen) > 0 {
			seen = append(seen, (<-w.seen).Type)
		}
		if want := []sqlchan.Type{sqlchan.Exec, sqlchan.Exec, sqlchan.Begin, sqlchan.Exec, sqlchan.Commit}; !slices.Equal(seen, want) {
			t.Errorf("sent %v, wanted %v", seen, want)
		}
	})
	t.Run("a commit", func(t *testing.T) {
		db, w := newWorker(t, func(h sqlchan.Header, n int) string {
			if h.Type == sqlchan.Commit {
				return "reset"
			}
			return "done"
		})
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		err = tx.Commit()
		var e *SQLError
		if !errors.As(err, &e) || e.Code != sqlchan.CodeCommitUnknown {
			t.Errorf("%v", err)
		}
		if len(w.seen) != 2 {
			t.Errorf("sent %d times", len(w.seen))
		}
	})
}

func TestErrorsOfContexts(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), deadlineSlack/2)
	defer cancel()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	later, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		code string
		want error
	}{
		"cancelled":                   {over, sqlchan.CodeCancelled, context.Canceled},
		"at the deadline":             {ctx, sqlchan.CodeStatementTimeout, context.DeadlineExceeded},
		"no turn before the deadline": {ctx, sqlchan.CodeBusy, context.DeadlineExceeded},
		"the facet's own limit":       {later, sqlchan.CodeStatementTimeout, nil},
		"another error":               {over, sqlchan.CodeConstraint, nil},
		"no context":                  {nil, sqlchan.CodeCancelled, nil},
	} {
		err := sqlError(c.ctx, &sqlchan.Failure{Code: c.code})
		var e *SQLError
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
		for _, is := range []error{context.Canceled, context.DeadlineExceeded} {
			if errors.Is(err, is) != (is == c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestDriverIsRegistered(t *testing.T) {
	startInstance(t, wire.Start{Database: true}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		if !slices.Contains(sql.Drivers(), driverName) {
			return nil, fmt.Errorf("drivers %v", sql.Drivers())
		}
		return http.NotFoundHandler(), nil
	}).ready()
	if db, err := sql.Open(driverName, "other.db"); err == nil {
		if err := db.Ping(); err == nil {
			t.Error("a database of another name opens")
		}
	}
}
