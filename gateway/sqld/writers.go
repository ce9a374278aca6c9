package sqld

import (
	"slices"
	"sync"
	"time"
)

// writers lets one session at a time write to a database, in the order in which
// they asked. SQLite's own lock would let whoever polls at the right moment win.
type writers struct {
	mu     sync.Mutex
	holder *session
	queue  []*writeWaiter
	timer  *time.Timer // for the deadlines of tasks that are parked
	due    int64       // when it fires, 0 = never
}

// writeWaiter waits with a goroutine, which ready wakes, or is a task that waits without.
type writeWaiter struct {
	s     *session
	ready chan struct{}
	t     *task
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
	w := &writeWaiter{s: s, ready: make(chan struct{})}
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
	return !q.remove(func(x *writeWaiter) bool { return x == w })
}

func (q *writers) remove(is func(*writeWaiter) bool) bool {
	i := slices.IndexFunc(q.queue, is)
	if i >= 0 {
		q.queue = slices.Delete(q.queue, i, i+1)
	}
	return i >= 0
}

// park queues a task for it; false if it got the turn at once.
func (q *writers) park(t *task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holder == nil {
		q.holder = t.session
		return false
	}
	q.queue = append(q.queue, &writeWaiter{s: t.session, t: t})
	q.wakeAt(t.deadline)
	return true
}

// unpark takes a task back out; false if it is in the queue no more.
func (q *writers) unpark(t *task, s *session) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.remove(func(x *writeWaiter) bool { return x.t == t && x.s == s }) // a task is used again, a session is not
}

// release passes the turn on, if s has it. It returns the task that has it then, unless that one waits by itself: the caller runs it.
func (q *writers) release(s *session) *task {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holder != s {
		return nil
	}
	if len(q.queue) == 0 {
		q.holder = nil
		return nil
	}
	w := q.queue[0]
	q.queue[0] = nil
	q.queue = q.queue[1:]
	q.holder = w.s
	if w.t == nil {
		close(w.ready)
	}
	return w.t
}

// wakeAt sets the timer, unless it fires before that anyway. So most tasks that wait cost none.
func (q *writers) wakeAt(deadline int64) {
	if q.due != 0 && q.due <= deadline {
		return
	}
	q.due = deadline
	d := time.Duration(max(deadline-now(), 0))
	if q.timer == nil {
		q.timer = time.AfterFunc(d, q.expire)
	} else {
		q.timer.Reset(d)
	}
}

// expire ends the waiting of tasks whose deadline is over.
func (q *writers) expire() {
	q.mu.Lock()
	at := now()
	q.due = 0
	var late []*task
	q.queue = slices.DeleteFunc(q.queue, func(w *writeWaiter) bool {
		switch {
		case w.t == nil:
		case w.t.deadline <= at:
			late = append(late, w.t)
			return true
		default:
			q.wakeAt(w.t.deadline)
		}
		return false
	})
	q.mu.Unlock()
	for _, t := range late {
		t.stop.CompareAndSwap(running, stopTimeout)
		t.resume()
	}
}
