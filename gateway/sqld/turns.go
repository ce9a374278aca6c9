package sqld

import (
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
)

const (
	// parallel is how many statements a worker runs at once: one more than the
	// core it stands for, so that one in a long opcode does not stop the others.
	parallel = 2
	// quantum is how long a statement runs while others wait for a turn.
	quantum = 2 * time.Millisecond
	// stuckAfter is how long a turn may be held without a sign of life while
	// others wait; then they get one more, up to maxExtra.
	stuckAfter = 10 * time.Millisecond
	maxExtra   = 6
)

// turns shares the worker among databases: each database that wants to run
// stands in the ring once, however many statements it has waiting, and has at
// most control.MaxRunning of them running.
type turns struct {
	mu    sync.Mutex
	free  int
	extra int // turns given because holders were stuck; taken back as they return
	ring  []*database
	watch *time.Timer
	moved uint64 // counts releases, to see that nothing moves
}

// share is a database's part in the turns, guarded by turns.mu.
type share struct {
	running int
	used    [control.MaxRunning]bool
	seq     uint64
	waiting []*waiter
	inRing  bool
}

// waiter is a task that waits; ready is closed when it got what it waits for.
type waiter struct {
	ready chan struct{}
	index int
}

func newTurns() *turns { return &turns{free: parallel} }

// tryAcquire takes a turn if one is free and nobody waits; -1 if not.
func (q *turns) tryAcquire(db *database) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free <= 0 || len(q.ring) > 0 || db.share.running >= control.MaxRunning {
		return -1
	}
	return q.take(db)
}

func (q *turns) take(db *database) int {
	q.free--
	s := &db.share
	s.running++
	for i := range s.used {
		if !s.used[i] {
			s.used[i] = true
			return i
		}
	}
	panic("sqld: more running than counted")
}

// wait queues for a turn.
func (q *turns) wait(db *database) *waiter {
	w := &waiter{ready: make(chan struct{}), index: -1}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := &db.share
	s.waiting = append(s.waiting, w)
	q.enqueue(db)
	q.dispatch()
	return w
}

// enqueue puts the database at the end of the ring if it can use a turn.
func (q *turns) enqueue(db *database) {
	s := &db.share
	if !s.inRing && len(s.waiting) > 0 && s.running < control.MaxRunning {
		s.inRing = true
		q.ring = append(q.ring, db)
	}
}

// leave takes a waiter back out; a turn that it got meanwhile is its to release (true).
func (q *turns) leave(db *database, w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, x := range db.share.waiting {
		if x == w {
			db.share.waiting = append(db.share.waiting[:i], db.share.waiting[i+1:]...)
			return false
		}
	}
	return true
}

// release gives a turn back.
func (q *turns) release(db *database, index int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := &db.share
	s.running--
	s.used[index] = false
	q.moved++
	if q.extra > 0 {
		q.extra--
	} else {
		q.free++
	}
	q.enqueue(db)
	q.dispatch()
}

// others tells whether someone waits for a turn that could be had.
func (q *turns) others() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ring) > 0
}

func (q *turns) dispatch() {
	for q.free > 0 && len(q.ring) > 0 {
		db := q.ring[0]
		q.ring = q.ring[1:]
		s := &db.share
		s.inRing = false
		if len(s.waiting) == 0 || s.running >= control.MaxRunning {
			continue
		}
		w := s.waiting[0]
		s.waiting = s.waiting[1:]
		w.index = q.take(db)
		close(w.ready)
		q.enqueue(db)
	}
	if len(q.ring) > 0 && q.watch == nil {
		moved := q.moved
		q.watch = time.AfterFunc(stuckAfter, func() { q.unstick(moved) })
	}
}

// unstick gives one more turn where none was released since.
func (q *turns) unstick(moved uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.watch = nil
	if len(q.ring) > 0 && q.moved == moved && q.extra < maxExtra {
		q.extra++
		q.free++
	}
	q.dispatch()
}
