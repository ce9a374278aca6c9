package relay

import (
	"context"
	"sync"
	"time"
)

// A watch ends an exchange whose client goes away, or whose answer does not begin in time.
//
// Both want a registration, with the request's context and with yamux, which makes a timer for each read
// under a deadline. Most exchanges are over long before either could matter, so a watch is only
// noted at first; what is still under way one or two lookTimes later is registered then.
type watch struct {
	st    *stream
	ctx   context.Context
	until time.Time // for the answer's head; zero: no limit

	mu     sync.Mutex
	begun  bool        // the head has come; guarded by mu
	over   bool        // guarded by mu
	cancel func() bool // once registered; guarded by mu

	in         *watchList // guarded by the lookout's mu
	prev, next *watch     // likewise
}

// lookTime is how often the lookout looks; a client that goes away is noticed that much later, twice that at most.
const lookTime = 10 * time.Millisecond

// lookout holds the watches that are not registered yet. Its goroutine runs only while there are some.
type lookout struct {
	mu          sync.Mutex
	fresh, seen *watchList
	running     bool
}

// watchList is a list of watches: making and removing one costs no allocation.
type watchList struct{ first *watch }

var looks = &lookout{fresh: &watchList{}, seen: &watchList{}}

// start begins a watch.
func (w *watch) start(st *stream, ctx context.Context, until time.Time) {
	w.st, w.ctx, w.until = st, ctx, until
	l := looks
	l.mu.Lock()
	defer l.mu.Unlock()
	w.in, w.next = l.fresh, l.fresh.first
	if w.next != nil {
		w.next.prev = w
	}
	l.fresh.first = w
	if !l.running {
		l.running = true
		go l.look()
	}
}

// lift says that the answer has begun.
func (w *watch) lift() {
	w.mu.Lock()
	w.begun = true
	registered := w.cancel != nil
	w.mu.Unlock()
	if registered {
		w.st.unlimitTime()
	}
}

// end ends the watch and reports whether the stream is still open.
func (w *watch) end() bool {
	l := looks
	l.mu.Lock()
	if w.in != nil {
		if w.prev == nil {
			w.in.first = w.next
		} else {
			w.prev.next = w.next
		}
		if w.next != nil {
			w.next.prev = w.prev
		}
		w.in = nil
	}
	l.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return true
	}
	w.over = true
	return w.cancel == nil || w.cancel()
}

func (w *watch) register() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	w.cancel = context.AfterFunc(w.ctx, w.st.close)
	if !w.begun && !w.until.IsZero() {
		w.st.before(w.until)
	}
}

// look registers, from time to time, what it has seen before.
func (l *lookout) look() {
	t := time.NewTicker(lookTime)
	defer t.Stop()
	for range t.C {
		l.mu.Lock()
		old := l.seen.first
		for w := old; w != nil; w = w.next {
			w.in = nil
		}
		l.seen.first = nil
		l.fresh, l.seen = l.seen, l.fresh
		l.running = l.seen.first != nil || old != nil
		running := l.running
		l.mu.Unlock()
		for w := old; w != nil; {
			next := w.next
			w.next, w.prev = nil, nil // a long exchange must not keep its neighbours here
			w.register()
			w = next
		}
		if !running {
			return
		}
	}
}
