package facet

import (
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/registry"
)

// An alarm that a facet sets while the end of its handler is noted stays, here and in the registry.
func TestAlarmSetWhileItsHandlerEnds(t *testing.T) {
	reg, err := registry.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	ns, err := reg.CreateNamespace(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	o, _, _, err := reg.Ensure(t.Context(), ns, "o")
	if err != nil {
		t.Fatal(err)
	}
	said, err := logs.Open(logs.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	m := NewManager(Config{Registry: reg, Logs: said, Log: slog.New(slog.DiscardHandler)})
	defer m.exchanges.Close()
	id := alarmID{o.ID, 0}
	note := func(at int64) {
		if err := m.noteAlarm(t.Context(), id, at, func() ([]byte, error) { return nil, nil }); err != nil {
			t.Error(err)
		}
	}
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		attempt int
		err     error
	}{
		"it is tried again":    {0, failed},
		"it is given up":       {alarmTries, failed},
		"it has done its work": {0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 100 {
				const first, second = 10, 20
				note(first)
				a, _ := m.alarms.get(id)
				a.Attempt = c.attempt
				var both sync.WaitGroup
				both.Go(func() { m.settle(t.Context(), a, c.err) })
				both.Go(func() { note(second) })
				both.Wait()
				all, err := reg.Alarms(t.Context())
				if err != nil || len(all) != 1 || all[0].At != second || all[0].Due != second {
					t.Fatalf("round %d: stored are %+v, %v", i, all, err)
				}
				if now, ok := m.alarms.get(id); !ok || now.At != second || now.Due != second {
					t.Fatalf("round %d: %+v, %t", i, now, ok)
				}
			}
		})
	}
}
