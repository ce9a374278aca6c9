package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// startFunc says what a child is.
type startFunc = func(context.Context) (*Start, error)

// startTime is how long the gateway waits for a start function.
const startTime = 60 * time.Second

// codeStartGone says that a start function's call has ended in the meantime.
const codeStartGone = "start_gone"

// starts are the start functions of the calls that are under way, by the number that the gateway knows them by.
type starts struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]registered
}

// registered is a start function with the values of the request that it was given for.
type registered struct {
	ctx   context.Context
	start startFunc
}

// add makes a start function known until release is called.
func (s *starts) add(ctx context.Context, f startFunc) (n uint64, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[uint64]registered{}
	}
	s.last++
	n = s.last
	s.open[n] = registered{context.WithoutCancel(ctx), f}
	return n, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, n)
	}
}

func (s *starts) get(n uint64) (registered, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.open[n]
	return f, ok
}

// serveEvent answers one event of the gateway's.
func (f *Facet) serveEvent(st *yamux.Stream) {
	defer st.Close()
	body, err := wire.ReadMessage(st)
	if err != nil {
		return
	}
	var e wire.Event
	if err := json.Unmarshal(body, &e); err != nil {
		return
	}
	switch e.Event {
	case wire.EventStart:
		f.answerStart(st, e.Start)
	case wire.EventAlarm:
		wire.WriteMessage(st, &wire.Answer{Error: f.ring(f.life)})
	}
}

// answerStart calls a start function and sends what it said, and the code.
func (f *Facet) answerStart(w io.Writer, n uint64) {
	a, bytes := f.startAnswer(n)
	if bytes != nil {
		defer bytes.done()
	}
	if err := wire.WriteStartAnswer(w, a); err != nil {
		a = &wire.StartAnswer{Error: &wire.Problem{Message: err.Error()}}
		wire.WriteStartAnswer(w, a)
		return
	}
	if bytes != nil {
		io.Copy(w, bytes)
	}
}

func (f *Facet) startAnswer(n uint64) (*wire.StartAnswer, *codeBytes) {
	r, ok := f.starts.get(n)
	if !ok {
		return &wire.StartAnswer{Error: &wire.Problem{Code: codeStartGone, Message: "the call that wanted it has ended"}}, nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, startTime)
	defer cancel()
	s, problem := callStart(ctx, r.start)
	if problem != nil {
		return &wire.StartAnswer{Error: problem}, nil
	}
	a, bytes, err := s.answer()
	if err != nil {
		return &wire.StartAnswer{Error: &wire.Problem{Message: err.Error()}}, nil
	}
	return a, bytes
}

// callStart calls a start function and turns a panic into a problem.
func callStart(ctx context.Context, start startFunc) (s *Start, p *wire.Problem) {
	defer func() {
		if v := recover(); v != nil {
			p = &wire.Problem{Message: fmt.Sprintf("panic: %v", v), Stack: cut(string(debug.Stack()))}
		}
	}()
	s, err := start(ctx)
	if err == nil && s == nil {
		err = fmt.Errorf("the start function returned neither a start nor an error")
	}
	if err != nil {
		return nil, &wire.Problem{Message: cut(err.Error())}
	}
	return s, nil
}

// exposed are the services that a facet offers.
type exposed struct {
	mu       sync.Mutex
	handlers map[string]http.Handler
}

func (e *exposed) set(name string, h http.Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.handlers == nil {
		e.handlers = map[string]http.Handler{}
	}
	e.handlers[name] = h
}

// serve serves a request that came to a service.
func (e *exposed) serve(name string, w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	h := e.handlers[name]
	e.mu.Unlock()
	if h == nil {
		http.Error(w, fmt.Sprintf("the supervisor exposes no service %q", name), http.StatusNotFound)
		return
	}
	h.ServeHTTP(w, r)
}
