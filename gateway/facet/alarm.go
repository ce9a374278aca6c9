package facet

import (
	"bytes"
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
	m.settle(context.WithoutCancel(ctx), a, err)
}

// settle says what becomes of an alarm whose handler has returned err.
func (m *Manager) settle(ctx context.Context, a registry.Alarm, err error) {
	id := alarmID{a.Object, a.N}
	release, _ := m.alarms.hold(ctx, id) // which ctx does not end
	defer release()
	if now, ok := m.alarms.get(id); !ok || now.At != a.At {
		return // the handler set another
	}
	if err == nil || a.Attempt >= alarmTries {
		if err != nil {
			m.tell(a, fmt.Sprintf("the alarm failed %d times and is given up: %v", a.Attempt+1, err))
		}
		m.alarms.drop(id)
		if err := m.Registry.ClearAlarm(ctx, a.Object, a.N); err != nil {
			m.Log.Error("clear an alarm", "object", a.Object, "facet", a.N, "error", err)
		}
		return
	}
	m.tell(a, fmt.Sprintf("the alarm failed and is tried again: %v", err))
	a.Due = time.Now().Add(alarmRetry << a.Attempt).UnixMilli()
	a.Attempt++
	m.alarms.put(a)
	if err := m.Registry.MoveAlarm(ctx, a); err != nil && !errors.Is(err, registry.ErrNotFound) {
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
		return errors.New(clip(in.hide.hide(answer.Error.Message)))
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
	release, err := m.alarms.hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
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
