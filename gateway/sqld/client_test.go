package sqld

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// client is a plain client of the channel: one goroutine, blocking calls.
type client struct {
	t                 testing.TB
	fd                int
	request           uint32
	epoch             uint32
	buf               []byte
	more              []byte   // of a batch
	packets, messages int      // received
	held              []packet // answers to other requests than the one waited for
}

type packet struct {
	h       sqlchan.Header
	payload []byte
}

// answer is all of one request's answer.
type answer struct {
	columns []sqlchan.Column
	rows    [][]any
	batches int
	result  sqlchan.Result
	failure *sqlchan.Failure
}

func socketpair(t testing.TB) (ours int, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], os.NewFile(uintptr(fds[1]), "channel")
}

// serveFile serves a fresh database file and returns a client of it.
func serveFile(t testing.TB) *client {
	t.Helper()
	c, _ := serveAt(t, filepath.Join(t.TempDir(), "1.db"))
	return c
}

func serveAt(t testing.TB, file string) (*client, <-chan error) {
	t.Helper()
	fd, theirs := socketpair(t)
	done := make(chan error, 1)
	go func() { done <- ServeOne(context.Background(), theirs, file) }()
	c := newClient(t, fd)
	stopped := make(chan error, 1)
	t.Cleanup(func() {
		c.close()
		select {
		case err := <-done:
			stopped <- err
		case <-time.After(20 * time.Second):
			t.Error("the worker did not let go of the channel")
		}
	})
	return c, stopped
}

func newClient(t testing.TB, fd int) *client {
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
	return &client{t: t, fd: fd, buf: make([]byte, sqlchan.MaxPacket)}
}

func (c *client) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

func (c *client) send(typ sqlchan.Type, session uint16, request uint32, payload []byte) {
	c.t.Helper()
	h := sqlchan.Header{Type: typ, Session: session, Request: request, Epoch: c.epoch}
	if err := sqlchan.Split(h, payload, nil, func(p []byte) error {
		return restart(func() (err error) { _, err = unix.Write(c.fd, p); return err })
	}); err != nil {
		c.t.Fatal("send:", err)
	}
}

func (c *client) receive() (packet, error) {
	c.messages++
	if len(c.more) == 0 {
		c.packets++
		var n int
		err := restart(func() (err error) { n, err = unix.Read(c.fd, c.buf); return err })
		if err == nil && n == 0 {
			err = fmt.Errorf("the channel has ended")
		}
		if err != nil {
			return packet{}, err
		}
		h, payload, err := sqlchan.ParseHeader(c.buf[:n])
		if err != nil || h.Type != sqlchan.BatchAnswers {
			return packet{h, append([]byte(nil), payload...)}, err
		}
		c.more = append([]byte(nil), payload...)
	}
	h, payload, rest, err := sqlchan.CutPart(c.more)
	c.more = rest
	return packet{h, payload}, err
}

// next is the next packet that answers request.
func (c *client) next(request uint32) packet {
	c.t.Helper()
	for i, p := range c.held {
		if p.h.Request == request {
			c.held = append(c.held[:i], c.held[i+1:]...)
			return p
		}
	}
	for {
		p, err := c.receive()
		if err != nil {
			c.t.Fatal("receive:", err)
		}
		if p.h.Request == request {
			return p
		}
		c.held = append(c.held, p)
	}
}

// message is the next whole message that answers request.
func (c *client) message(request uint32) packet {
	c.t.Helper()
	p := c.next(request)
	for p.h.Flags&sqlchan.More != 0 {
		more := c.next(request)
		p.payload, p.h.Flags = append(p.payload, more.payload...), more.h.Flags
	}
	return p
}

// wait collects the answer to a request, giving credit as rows come.
func (c *client) wait(session uint16, request uint32) answer {
	c.t.Helper()
	var a answer
	for {
		p := c.message(request)
		r := sqlchan.NewReader(p.payload)
		rows := func() {
			a.batches++
			for range r.Uvarint() {
				row := make([]any, len(a.columns))
				for i := range row {
					row[i] = r.Value()
				}
				a.rows = append(a.rows, row)
			}
		}
		switch p.h.Type {
		case sqlchan.WholeResult:
			var columns []byte
			a.result, columns = r.WholeResult()
			of := sqlchan.NewReader(columns)
			if a.columns = of.Columns(); of.End() != nil {
				c.t.Fatal(of.End())
			}
			rows()
		case sqlchan.Columns:
			a.columns = r.Columns()
		case sqlchan.Rows:
			rows()
			c.send(sqlchan.Credit, session, request, binary.AppendUvarint(nil, 1))
		case sqlchan.Prepared:
			a.result.RowsAffected = int64(r.Uvarint())
			a.result.InTx = r.Byte() != 0
			a.columns = r.Columns()
		case sqlchan.Done:
			a.result = r.Result()
		case sqlchan.Error:
			a.failure = r.Failure()
		default:
			c.t.Fatalf("message of type %d", p.h.Type)
		}
		if err := r.End(); err != nil {
			c.t.Fatal(err)
		}
		switch p.h.Type {
		case sqlchan.Done, sqlchan.Error, sqlchan.Prepared, sqlchan.WholeResult:
			return a
		}
	}
}

func payload(timeout time.Duration, credit int, sql string, args []any) []byte {
	b := binary.AppendUvarint(nil, uint64(timeout/time.Millisecond))
	if credit >= 0 {
		b = binary.AppendUvarint(b, uint64(credit))
	}
	b = sqlchan.AppendText(b, sql)
	return appendArgs(b, args)
}

func appendArgs(b []byte, args []any) []byte {
	list := make([]sqlchan.Arg, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case sqlchan.Arg:
			list[i] = a
		case int:
			list[i].Value = int64(a)
		default:
			list[i].Value = a
		}
	}
	b, err := sqlchan.AppendArgs(b, list)
	if err != nil {
		panic(err)
	}
	return b
}

// start sends a request and returns its number.
func (c *client) start(typ sqlchan.Type, session uint16, payload []byte) uint32 {
	c.t.Helper()
	c.request++
	c.send(typ, session, c.request, payload)
	return c.request
}

func (c *client) exec(session uint16, sql string, args ...any) answer {
	c.t.Helper()
	return c.wait(session, c.start(sqlchan.Exec, session, payload(0, -1, sql, args)))
}

func (c *client) query(session uint16, sql string, args ...any) answer {
	c.t.Helper()
	return c.wait(session, c.start(sqlchan.Query, session, payload(0, 4, sql, args)))
}

func (c *client) begin(session uint16, mode byte) answer {
	c.t.Helper()
	return c.wait(session, c.start(sqlchan.Begin, session, []byte{0, mode}))
}

func (c *client) commit(session uint16) answer {
	c.t.Helper()
	return c.wait(session, c.start(sqlchan.Commit, session, []byte{0}))
}

func (c *client) rollback(session uint16) answer {
	c.t.Helper()
	return c.wait(session, c.start(sqlchan.Rollback, session, nil))
}

func (c *client) builtin(session uint16, number int, args ...any) answer {
	c.t.Helper()
	b := binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(nil, 0), 4), uint64(number))
	return c.wait(session, c.start(sqlchan.Builtin, session, appendArgs(b, args)))
}

// ok fails the test if the request failed.
func (c *client) ok(a answer) answer {
	c.t.Helper()
	if a.failure != nil {
		c.t.Fatalf("%s: %s", a.failure.Code, a.failure.Message)
	}
	return a
}

// fails wants an error of that code.
func (c *client) fails(code string, a answer) *sqlchan.Failure {
	c.t.Helper()
	if a.failure == nil {
		c.t.Fatalf("no error, want %s", code)
	}
	if a.failure.Code != code {
		c.t.Fatalf("error %s (%s), want %s", a.failure.Code, a.failure.Message, code)
	}
	return a.failure
}

// value is the only value of a query's only row.
func (c *client) value(session uint16, sql string, args ...any) any {
	c.t.Helper()
	a := c.ok(c.query(session, sql, args...))
	if len(a.rows) != 1 || len(a.rows[0]) != 1 {
		c.t.Fatalf("%s: rows %v", sql, a.rows)
	}
	return a.rows[0][0]
}

// restart repeats a call that a signal of the Go runtime's interrupted.
func restart(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
