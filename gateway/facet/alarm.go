package facet

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Alarms wake sleeping facets. A facet sets its alarm in its own database, in the same
// transaction as its data; the SQL worker shows the time in shared memory when that
// commits, and the output gate copies it to the registry before anything leaves the
// facet. So what a facet said it would do is known here as soon as anyone can know that it said so. One
// goroutine waits for the next of all alarms; a facet that sleeps costs an entry in a heap.

const (
	// alarmTries is how often an alarm is tried again after it failed (DESIGN: at least once, 6 retries).
	alarmTries = 6
	// alarmRetry is the first wait, doubled each time.
	alarmRetry = 2 * time.Second
	// alarmsAtOnce bounds how many handlers run: a thousand alarms of midnight must not start a thousand processes.
	alarmsAtOnce = 32
	// alarmTime is how long one handler may run.
	alarmTime = 5 * time.Minute
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
	queue  alarmQueue    // by when they are due; guarded by mu
	turns  alarmTurns    // of those that are due; guarded by mu
	moved  chan struct{} // told when the first of the queue may have changed
	slots  chan struct{}
	retain func(*registry.Alarm) (release func()) // keeps the bundles that its facet is started with
}

func newAlarms() *alarms {
	return &alarms{byID: map[alarmID]*alarm{}, loose: map[alarmID]struct{}{}, moved: make(chan struct{}, 1), slots: make(chan struct{}, alarmsAtOnce), turns: alarmTurns{map[string]*turn{}}}
}

// put sets or moves an alarm.
func (s *alarms) put(a registry.Alarm) {
	id := alarmID{a.Object, a.N}
	known, ok := s.get(id)
	var release func()
	if !ok || !bytes.Equal(known.Start, a.Start) { // to read how it is started takes a while: it may be long
		release = s.retain(&a)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID[id]
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

// LoadAlarms learns of all alarms, before any facet runs: of those that the registry knows, and of those that facets set which ran
// when the gateway was killed.
func (m *Manager) LoadAlarms(ctx context.Context) error {
	all, err := m.Registry.Alarms(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		m.alarms.put(a)
	}
	if err := m.Registry.TidyAlarms(ctx); err != nil {
		return err
	}
	m.recoverAlarms(ctx)
	return nil
}

// RunAlarms fires alarms until ctx ends, those first that were due while the gateway was down.
func (m *Manager) RunAlarms(ctx context.Context) {
	var fired sync.WaitGroup
	defer fired.Wait()
	for {
		e, wait := m.alarms.next(time.Now())
		if e == nil {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-m.alarms.moved:
			case <-ctx.Done():
				t.Stop()
				return
			}
			t.Stop()
			continue
		}
		namespace := e.namespace
		if namespace == "" {
			if o, _, err := m.Registry.ObjectByID(ctx, e.id.object, e.id.n); err == nil {
				namespace = o.Namespace
			} // else it is gone, as will be found
		}
		if !m.alarms.enter(e, namespace, time.Now()) {
			continue
		}
		select {
		case m.alarms.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		fired.Go(func() {
			defer func() { <-m.alarms.slots }()
			m.fire(ctx, e)
		})
	}
}

// fire runs one alarm's handler and says what becomes of the alarm.
func (m *Manager) fire(ctx context.Context, e *alarm) {
	defer m.alarms.rest(e)
	a, ok := m.alarms.get(e.id)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, alarmTime)
	defer cancel()
	err := m.callAlarm(ctx, a)
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // the gateway stops; it is tried again at the next start
	}
	id := alarmID{a.Object, a.N}
	if now, ok := m.alarms.get(id); !ok || now.At != a.At {
		return // the handler set another
	}
	if err == nil || a.Attempt >= alarmTries {
		if err != nil {
			m.tell(a, fmt.Sprintf("the alarm failed %d times and is given up: %v", a.Attempt+1, err))
		}
		m.alarms.drop(id)
		if err := m.Registry.ClearAlarm(context.WithoutCancel(ctx), a.Object, a.N); err != nil {
			m.Log.Error("clear an alarm", "object", a.Object, "facet", a.N, "error", err)
		}
		return
	}
	m.tell(a, fmt.Sprintf("the alarm failed and is tried again: %v", err))
	a.Due = time.Now().Add(alarmRetry << a.Attempt).UnixMilli()
	a.Attempt++
	m.alarms.put(a)
	if err := m.Registry.MoveAlarm(context.WithoutCancel(ctx), a); err != nil && !errors.Is(err, registry.ErrNotFound) {
		m.Log.Error("store an alarm", "object", a.Object, "facet", a.N, "error", err)
	}
}

// tell writes a line of the gateway's own into the facet's log.
func (m *Manager) tell(a registry.Alarm, line string) {
	o, path, err := m.Registry.ObjectByID(context.Background(), a.Object, a.N)
	if err != nil {
		return
	}
	n := node{key: key{namespace: o.Namespace, object: o.Name}, path: path}
	w := m.Logs.Writer(n.addr(), 0)
	w.Append(logs.StreamGateway, "", line)
	w.Close()
}

// callAlarm starts the facet, if need be, and calls its handler.
func (m *Manager) callAlarm(ctx context.Context, a registry.Alarm) error {
	o, path, err := m.Registry.ObjectByID(ctx, a.Object, a.N)
	if err != nil {
		return nil // gone, and its alarm with it
	}
	ns, err := m.Registry.Namespace(o.Namespace)
	if err != nil {
		return nil
	}
	var specs []*Spec // of the facets on the path below a supervisor
	if len(a.Start) > 0 {
		if err := json.Unmarshal(a.Start, &specs); err != nil {
			return fmt.Errorf("how to start it: %w", err)
		}
	}
	var chain []*instance
	defer func() {
		for _, in := range chain {
			in.node.release(in, nil)
		}
	}()
	// Each ancestor is held while its descendants start: they would end with it.
	var s *starter
	from := 0
	if ns.Supervisor == "" {
		from = len(path)
	}
	for depth := from; depth <= len(path); depth++ {
		if depth > from {
			if depth > len(specs) {
				return errors.New("how to start it is not known")
			}
			s = &starter{parent: chain[len(chain)-1], stored: specs[depth-1]}
		}
		t := Target{Namespace: ns, Object: o.Name, Path: path[:depth]}
		in, err := m.nodeAt(t.key(), path[:depth]).acquire(ctx, s)
		if err != nil {
			return err
		}
		chain = append(chain, in)
	}
	return chain[len(chain)-1].ring(ctx, a)
}

// ring calls the alarm handler of a running instance.
func (in *instance) ring(ctx context.Context, a registry.Alarm) error {
	st, err := in.session.Open(ctx, wire.StreamEvent)
	if err != nil {
		return fmt.Errorf("call its alarm handler: %w", err)
	}
	defer st.Close()
	undo := context.AfterFunc(ctx, func() { st.SetDeadline(time.Now()) })
	defer undo()
	if err := wire.WriteMessage(st, wire.Event{Event: wire.EventAlarm, At: a.At, Attempt: a.Attempt}); err != nil {
		return fmt.Errorf("call its alarm handler: %w", err)
	}
	body, err := wire.ReadMessage(gated{st, in.gate})
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("the alarm handler did not return within %s", alarmTime)
		}
		if in.dying() {
			select {
			case <-in.gone:
				return in.ended().problem()
			case <-ctx.Done():
			}
		}
		return errors.New("the alarm handler broke off")
	}
	var answer wire.Answer
	if err := json.Unmarshal(body, &answer); err != nil {
		return errors.New("the alarm handler's answer can't be read")
	}
	if answer.Error != nil {
		return errors.New(clip(answer.Error.Message))
	}
	return nil
}

// Errors of copying a facet's alarm to the registry, which the output gate waits for.
var (
	errSlowRegistry = errors.New("the registry did not note the facet's alarm within " + noteTime.String())
	errNotNoted     = errors.New("the registry could not note the facet's alarm")
)

// noteTime is how long what a facet says may wait for its alarm to be noted: a disk that takes longer is in trouble.
const noteTime = 5 * time.Second

// noteAlarm copies the alarm that the facet committed to the registry, if it changed.
func (in *instance) noteAlarm() error {
	at := in.sql.Alarm()
	if at == 0 || at == in.noted.Load() { // 0: the worker has not looked
		return nil
	}
	in.noting.Lock()
	defer in.noting.Unlock()
	if at = in.sql.Alarm(); at == 0 || at == in.noted.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	switch err := in.m.noteAlarm(ctx, in.alarm, at, in.howStarted); {
	case errors.Is(err, context.DeadlineExceeded):
		return errSlowRegistry
	case err != nil:
		return fmt.Errorf("%w: %w", errNotNoted, err)
	}
	in.noted.Store(at)
	return nil
}

// noteAlarm copies a facet's alarm, -1 for none, to the registry, where that knows another. start says how to start the facet.
func (m *Manager) noteAlarm(ctx context.Context, id alarmID, at int64, start func() ([]byte, error)) error {
	known, has := m.alarms.get(id)
	switch {
	case at < 0 && has:
		err := m.Registry.ClearAlarm(ctx, id.object, id.n)
		if err == nil {
			m.alarms.drop(id)
		}
		return err
	case at > 0 && !(has && known.At == at):
		how, err := start()
		if err != nil {
			return err
		}
		a := registry.Alarm{Object: id.object, N: id.n, At: at, Due: at, Start: how}
		err = registry.ErrNotFound
		if has && bytes.Equal(known.Start, how) {
			// A facet that moves its alarm all the time must not make the registry write its environment each time, up to 1 MiB a
			// level, in the commits that all facets share.
			err = m.Registry.MoveAlarm(ctx, a)
		}
		if errors.Is(err, registry.ErrNotFound) { // or cleared meanwhile by its handler's end
			err = m.Registry.SetAlarm(ctx, a)
		}
		if err != nil {
			return err
		}
		m.alarms.put(a)
	}
	return nil
}

// howStarted is how the facet can be started without asking its supervisor.
func (in *instance) howStarted() ([]byte, error) {
	if in.starter == nil {
		return nil, nil
	}
	return json.Marshal(in.specs())
}

// specs are those of the facets from the root's child down to this one, where a supervisor started them.
func (in *instance) specs() []*Spec {
	var s []*Spec
	for ; in.starter != nil; in = in.starter.parent {
		s = append([]*Spec{in.spec}, s...)
	}
	return s
}
