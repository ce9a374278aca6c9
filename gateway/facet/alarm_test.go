package facet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
)

// How to start a facet is written once, not with each change of its alarm's time.
func TestMovedAlarmWritesItsTimeOnly(t *testing.T) {
	reg, ns := newRegistry(t)
	o, _, _, err := reg.Ensure(t.Context(), ns, "o")
	if err != nil {
		t.Fatal(err)
	}
	m := NewManager(Config{Registry: reg})
	defer m.exchanges.Close()
	note := func(at int64, how string) {
		t.Helper()
		if err := m.noteAlarm(t.Context(), alarmID{o.ID, 0}, at, func() ([]byte, error) { return []byte(how), nil }); err != nil {
			t.Fatal(err)
		}
	}
	stored := func(at int64, how string) {
		t.Helper()
		all, err := reg.Alarms(t.Context())
		if err != nil || len(all) != 1 || all[0].At != at || all[0].Due != at || string(all[0].Start) != how {
			t.Errorf("%+v %v, wanted %d %s", all, err, at, how)
		}
	}
	note(10, "first")
	stored(10, "first")
	if err := reg.SetAlarm(t.Context(), registry.Alarm{Object: o.ID, At: 10, Due: 10, Start: []byte("mark")}); err != nil { // shows whether it is written again
		t.Fatal(err)
	}
	note(20, "first")
	stored(20, "mark")
	note(30, "second")
	stored(30, "second")
	if err := reg.ClearAlarm(t.Context(), o.ID, 0); err != nil { // as the end of its handler does
		t.Fatal(err)
	}
	note(40, "second")
	stored(40, "second")
	note(-1, "second")
	if all, err := reg.Alarms(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("%+v %v", all, err)
	}
	id := alarmID{o.ID, 0}
	if !m.alarms.forget(id) || m.alarms.forget(id) {
		t.Error("what is stored of it is not known, or for ever")
	}
}

// An answer that waits for a registry that is slow is told so; the facet goes on.
func TestSlowRegistry(t *testing.T) {
	reg, _ := newRegistry(t)
	m := NewManager(Config{Registry: reg, Log: slog.New(slog.DiscardHandler)})
	defer m.exchanges.Close()
	// Its time is over before the one that is at this alarm is done with it: the registry answers too late.
	release, err := m.alarms.hold(t.Context(), alarmID{"00", 0})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := m.noteAlarm(ctx, alarmID{"00", 0}, 10, func() ([]byte, error) { return nil, nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	in := &instance{node: &node{m: m}, dead: make(chan struct{})}
	slow := fmt.Errorf("%w: %w", relay.ErrOutput, errSlowRegistry)
	p := problem.As(in.explain(slow, &relay.Options{}))
	if p.Code != problem.Overloaded || p.RetryAfter == 0 || !strings.Contains(p.Message, "registry") {
		t.Errorf("%+v", p)
	}
	if err := in.explain(fmt.Errorf("%w: %w", relay.ErrCut, slow), &relay.Options{}); !errors.Is(err, relay.ErrCut) {
		t.Error(err)
	}
	select {
	case <-in.dead:
		t.Error("it is ended")
	default:
	}
}
