package facet

import (
	"bytes"
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/registry"
)

// alarmID is whose alarm it is: the object's id and the facet's number.
type alarmID struct {
	object string
	n      int
}

// alarm is one that is set. It is in one place: in the queue, waiting for its turn, or taken, until its handler has returned. What
// changes of it is guarded by alarms.mu.
type alarm struct {
	registry.Alarm
	id        alarmID
	namespace string      // "" until it was due once
	release   func()      // lets go of the bundles that its facet is started with
	in        *alarmQueue // the queue that it is in; nil: taken
	index     int         // in that
	admitted  bool        // its turn has come
}

// alarms are all that are set, by time.
type alarms struct {
	mu   sync.Mutex
	byID map[alarmID]*alarm // guarded by mu
	// loose are facets without an alarm of which it is still stored how to start them: one that clears and sets its alarm in
	// turn must not have that written each time. It is removed when their instance ends; guarded by mu.
	loose  map[alarmID]struct{}
	held   map[alarmID]chan struct{} // those that are being changed, closed when that is done; guarded by mu
	queue  alarmQueue                // by when they are due; guarded by mu
	turns  alarmTurns                // of those that are due; guarded by mu
	moved  chan struct{}             // told when the first of the queue may have changed
	slots  chan struct{}
	retain func(*registry.Alarm) (release func()) // keeps the bundles that its facet is started with
}

func newAlarms() *alarms {
	return &alarms{byID: map[alarmID]*alarm{}, loose: map[alarmID]struct{}{}, held: map[alarmID]chan struct{}{}, moved: make(chan struct{}, 1), slots: make(chan struct{}, alarmsAtOnce), turns: alarmTurns{map[string]*turn{}}}
}

// hold keeps everybody else from changing an alarm, here and in the registry, until it is released: what a facet sets while its handler's
// end is noted must not be lost under that.
func (s *alarms) hold(ctx context.Context, id alarmID) (release func(), err error) {
	for {
		s.mu.Lock()
		other := s.held[id]
		if other == nil {
			done := make(chan struct{})
			s.held[id] = done
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.held, id)
				close(done)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// put sets or moves an alarm.
func (s *alarms) put(a registry.Alarm) {
	id := alarmID{a.Object, a.N}
	var release func()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID[id]
	for release == nil && (e == nil || !bytes.Equal(e.Start, a.Start)) { // what is known may be dropped meanwhile
		s.mu.Unlock()
		release = s.retain(&a) // to read how it is started takes a while: it may be long
		s.mu.Lock()
		e = s.byID[id]
	}
	waits := true
	if e == nil {
		e = &alarm{id: id}
		s.byID[id] = e
		delete(s.loose, id)
	} else {
		waits = s.takeOut(e)
	}
	if release != nil {
		e.letGo()
		e.release = release
	}
	e.Alarm = a
	if waits { // else it is queued when its handler has returned
		s.queue.add(e)
		s.tell()
	}
}

// takeOut takes an alarm out of the queue that it is in, and reports whether it is in one. s.mu is held.
func (s *alarms) takeOut(e *alarm) bool {
	switch e.in {
	case nil:
		return false
	case &s.queue:
		heap.Remove(&s.queue, e.index)
	default:
		s.turns.remove(e)
	}
	if e.admitted {
		e.admitted = false
		s.left(e)
	}
	return true
}

// left gives a turn back, and has the next one's come. s.mu is held.
func (s *alarms) left(e *alarm) {
	if next := s.turns.leave(e); next != nil {
		s.queue.add(next)
		s.tell()
	}
}

// drop forgets an alarm.
func (s *alarms) drop(id alarmID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[id]; e != nil {
		delete(s.byID, id)
		e.letGo()
		s.loose[id] = struct{}{}
		s.takeOut(e)
	}
}

// letGo lets go of the bundles.
func (e *alarm) letGo() {
	if e.release != nil {
		e.release()
	}
}

// forget reports whether anything is stored of a facet that has no alarm, and takes it to be removed.
func (s *alarms) forget(id alarmID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, loose := s.loose[id]
	delete(s.loose, id)
	return loose
}

func (s *alarms) get(id alarmID) (registry.Alarm, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[id]; e != nil {
		return e.Alarm, true
	}
	return registry.Alarm{}, false
}

func (s *alarms) tell() {
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// next takes the first alarm that is due, or says how long that will take; an hour where there is none.
func (s *alarms) next(now time.Time) (*alarm, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, time.Hour
	}
	if wait := time.UnixMilli(s.queue[0].Due).Sub(now); wait > 0 {
		return nil, min(wait, time.Hour)
	}
	return heap.Pop(&s.queue).(*alarm), 0
}

// enter says whether the handler of an alarm that is due may run. If not, the alarm waits for its turn.
func (s *alarms) enter(e *alarm, namespace string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dropped := s.byID[e.id] != e; dropped || e.Due > now.UnixMilli() { // or moved, since it was taken
		if e.admitted {
			e.admitted = false
			s.left(e)
		}
		if !dropped {
			s.queue.add(e)
		}
		return false
	}
	e.namespace = namespace
	return s.turns.enter(e)
}

// rest ends the run of an alarm's handler: what was set meanwhile is queued, and another's turn comes.
func (s *alarms) rest(e *alarm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[e.id] == e {
		s.queue.add(e)
		s.tell()
	}
	s.left(e)
}

// alarmQueue is a heap by due time.
type alarmQueue []*alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].Due < q[j].Due }
func (q alarmQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *alarmQueue) Push(x any) {
	e := x.(*alarm)
	e.in, e.index = q, len(*q)
	*q = append(*q, e)
}
func (q *alarmQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q, e.in = old[:len(old)-1], nil
	return e
}

func (q *alarmQueue) add(e *alarm) { heap.Push(q, e) }
