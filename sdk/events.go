package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"

	"github.com/facetgateway/fgw/sdk/wire"
)

// starts are the start functions of the calls that are under way, by number.
type starts struct {
	mu   sync.Mutex
	last uint64
	byNo map[uint64]StartFor
}

// add gives a start function a number, which is its until the returned function is called.
func (s *starts) add(f StartFor) (number uint64, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byNo == nil {
		s.byNo = map[uint64]StartFor{}
	}
	s.last++
	n := s.last
	s.byNo[n] = f
	return n, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byNo, n)
	}
}

func (s *starts) get(n uint64) StartFor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byNo[n]
}

// event serves a stream on which the gateway tells of an event (wire: CALLS §2).
func (f *Facet) event(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	body, err := wire.ReadMessage(conn)
	if err != nil {
		return
	}
	var e wire.Event
	if json.Unmarshal(body, &e) != nil {
		return
	}
	switch e.Event {
	case wire.EventStart:
		f.answerStart(ctx, conn, e.Start)
	case wire.EventAlarm:
		wire.WriteMessage(conn, wire.Answer{Error: f.ringAlarm(ctx, e.At)})
	default:
		wire.WriteMessage(conn, wire.Answer{Error: &wire.Problem{Code: "unknown_event", Message: fmt.Sprintf("this SDK knows no event %q", e.Event)}})
	}
}

// answerStart runs a start function and sends what it returned.
func (f *Facet) answerStart(ctx context.Context, conn net.Conn, number uint64) {
	start := f.starts.get(number)
	if start == nil {
		wire.WriteStartAnswer(conn, &wire.StartAnswer{Error: &wire.Problem{Code: "start_gone", Message: "the call that knew how to start it has ended"}})
		return
	}
	a, code, p := callStart(ctx, start)
	if p != nil {
		a = &wire.StartAnswer{Error: p}
	}
	if err := wire.WriteStartAnswer(conn, a); err != nil {
		if p == nil { // too large, most likely: say so
			wire.WriteStartAnswer(conn, &wire.StartAnswer{Error: &wire.Problem{Message: cut(err.Error())}})
		}
		return
	}
	if code != nil {
		io.Copy(conn, code)
	}
}

func callStart(ctx context.Context, start StartFor) (a *wire.StartAnswer, code io.Reader, p *wire.Problem) {
	defer func() {
		if v := recover(); v != nil {
			p = &wire.Problem{Message: cut(fmt.Sprintf("panic: %v", v)), Stack: cut(string(debug.Stack()))}
		}
	}()
	s, err := start(ctx)
	if err == nil && s == nil {
		err = fmt.Errorf("the start function returned neither a Start nor an error")
	}
	if err == nil {
		a, err = s.wire()
	}
	if err == nil {
		a.Code, code, err = s.Code.open()
	}
	if err != nil {
		return nil, nil, &wire.Problem{Message: cut(err.Error())}
	}
	return a, code, nil
}
