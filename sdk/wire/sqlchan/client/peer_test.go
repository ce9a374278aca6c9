package client

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// patience is how long a test waits for what must happen at once.
const patience = 10 * time.Second

// peer is the worker's end of a channel, moved by hand.
type peer struct {
	t     testing.TB
	file  *os.File
	epoch uint32
	in    []byte
	more  []byte // of a batch
}

// request is one whole message that the client sent.
type request struct {
	sqlchan.Header
	r *sqlchan.Reader
}

func newPair(t testing.TB) (*Client, *peer) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(os.NewFile(uintptr(fds[0]), "client"), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, file: os.NewFile(uintptr(fds[1]), "peer"), in: make([]byte, sqlchan.MaxPacket)}
	p.file.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close(); p.file.Close() })
	return c, p
}

// next reads one request. It may be called from any goroutine of the test; ok is false at the channel's end.
func (p *peer) next() (q request, ok bool) {
	var whole []byte
	for {
		if len(p.more) > 0 {
			h, payload, rest, err := sqlchan.CutPart(p.more)
			if err != nil {
				p.t.Errorf("the client sent a bad batch: %v", err)
				return q, false
			}
			p.more = rest
			return request{h, sqlchan.NewReader(payload)}, true
		}
		n, err := p.file.Read(p.in)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				p.t.Error("the client sent nothing")
			}
			return q, false
		}
		h, payload, err := sqlchan.ParseHeader(p.in[:n])
		if err != nil {
			p.t.Errorf("the client sent a bad packet: %v", err)
			return q, false
		}
		if h.Type == sqlchan.BatchRequests {
			p.more = append([]byte(nil), payload...)
			continue
		}
		whole = append(whole, payload...)
		if h.Flags&sqlchan.More == 0 {
			return request{h, sqlchan.NewReader(whole)}, true
		}
	}
}

// expect reads one request of the kind; leave to send more rows may come before it.
func (p *peer) expect(kind sqlchan.Type) request {
	q, ok := p.next()
	for ok && q.Type == sqlchan.Credit && kind != sqlchan.Credit {
		q, ok = p.next()
	}
	if ok && q.Type != kind {
		p.t.Errorf("request of type %d, wanted %d", q.Type, kind)
	}
	return q
}

func (p *peer) answer(q request, kind sqlchan.Type, payload []byte) {
	h := sqlchan.Header{Type: kind, Session: q.Session, Request: q.Request, Epoch: p.epoch}
	err := sqlchan.Split(h, payload, make([]byte, 0, sqlchan.MaxPacket), func(b []byte) error {
		_, err := p.file.Write(b)
		return err
	})
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		p.t.Error(err)
	}
}

func (p *peer) done(q request, d sqlchan.Result) {
	p.answer(q, sqlchan.Done, sqlchan.AppendResult(nil, d))
}

func (p *peer) fail(q request, f sqlchan.Failure) {
	p.answer(q, sqlchan.Error, sqlchan.AppendFailure(nil, &f))
}

func (p *peer) columns(q request, names ...string) {
	var cols []sqlchan.Column
	for _, n := range names {
		cols = append(cols, sqlchan.Column{Name: n})
	}
	p.answer(q, sqlchan.Columns, sqlchan.AppendColumns(nil, cols))
}

func (p *peer) rows(q request, values ...any) {
	b := binary.AppendUvarint(nil, uint64(len(values)))
	for _, v := range values {
		var err error
		if b, err = sqlchan.AppendValue(b, v); err != nil {
			p.t.Error(err)
		}
	}
	p.answer(q, sqlchan.Rows, b)
}

// whole answers with a whole result of one column.
func (p *peer) whole(q request, d sqlchan.Result, values ...any) {
	b := sqlchan.AppendText(sqlchan.AppendResult(nil, d), sqlchan.AppendColumns(nil, []sqlchan.Column{{Name: "a"}}))
	b = binary.AppendUvarint(b, uint64(len(values)))
	for _, v := range values {
		b, _ = sqlchan.AppendValue(b, v)
	}
	p.answer(q, sqlchan.WholeResult, b)
}

func (p *peer) reset(epoch uint32) {
	p.epoch = epoch
	b := sqlchan.Header{Type: sqlchan.Reset}.Append(nil)
	b = binary.AppendUvarint(b, uint64(epoch))
	p.file.Write(sqlchan.AppendText(b, "a test"))
}

// alongside runs the peer's part beside the test's own.
func alongside(t testing.TB, f func()) (wait func()) {
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { defer wg.Done(); f() }()
	t.Cleanup(wg.Wait)
	return wg.Wait
}

func newSession(t testing.TB, c *Client) *Session {
	t.Helper()
	s, err := c.Session()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func code(err error) string {
	var f *sqlchan.Failure
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}
