package sqld

import "sync"

// writers lets one session at a time write to a database, in the order in which
// they asked. SQLite's own lock would let whoever polls at the right moment win.
type writers struct {
	mu     sync.Mutex
	holder *session
	queue  []*writeWaiter
}

type writeWaiter struct {
	s     *session
	ready chan struct{}
}

// try takes the turn to write if it is free.
func (q *writers) try(s *session) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holder == nil || q.holder == s {
		q.holder = s
		return true
	}
	return false
}

// taken reports whether someone has it.
func (q *writers) taken() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.holder != nil
}

// wait queues for it.
func (q *writers) wait(s *session) *writeWaiter {
	w := &writeWaiter{s, make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holder == nil {
		q.holder = s
		close(w.ready)
		return w
	}
	q.queue = append(q.queue, w)
	return w
}

// leave takes a waiter back out; true if it has the turn already.
func (q *writers) leave(w *writeWaiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, x := range q.queue {
		if x == w {
			q.queue = append(q.queue[:i], q.queue[i+1:]...)
			return false
		}
	}
	return true
}

// release passes the turn on, if s has it.
func (q *writers) release(s *session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holder != s {
		return
	}
	q.holder = nil
	if len(q.queue) > 0 {
		q.holder = q.queue[0].s
		close(q.queue[0].ready)
		q.queue = q.queue[1:]
	}
}
