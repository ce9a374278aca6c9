package facet

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire"
)

// from gives the receiving end of a stream on which a facet sends text and then nothing more.
func from(t *testing.T, text string) gated {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go io.WriteString(theirs, text)
	return gated{ours, func() error { return nil }}
}

func TestReadSource(t *testing.T) {
	i := newIntake()
	text := `{"main.go":"package main` + strings.Repeat(" ", 200<<10) + `"}`
	files, held, err := i.readSource(&wire.Code{Size: int64(len(text))}, from(t, text))
	if err != nil || len(files["main.go"]) != len(text)-len(`{"main.go":""}`) || held != int64(len(text)) || i.bytes != held {
		t.Errorf("%d files, %d of %d bytes held: %v", len(files), held, i.bytes, err)
	}
}

// What a facet says of a source's size takes no memory, and what does not come is not waited for.
func TestSourceThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIntake()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, held, err := i.readSource(&wire.Code{Size: wire.MaxSource}, from(t, "{"))
		runtime.ReadMemStats(&after)
		if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != problem.FacetTimeout || time.Since(began) != codeTime {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 || held != sourceStep {
			t.Errorf("it took %d bytes of memory and %d of the budget", took, held)
		}
	})
}

func TestSourcesShareABudget(t *testing.T) {
	m := NewManager(Config{})
	defer m.exchanges.Close()
	m.intake.take(maxSourceMemory - sourceStep)
	text := `{"main.go":"` + strings.Repeat("x", 2*sourceStep) + `"}`
	_, _, err := m.buildSource(t.Context(), key{"n", "o", ""}, &wire.Code{Size: int64(len(text))}, from(t, text))
	if !errors.Is(err, errNoRoom) || m.intake.bytes != maxSourceMemory-sourceStep || len(m.intake.objects) > 0 {
		t.Errorf("%d bytes held, %d objects: %v", m.intake.bytes, len(m.intake.objects), err)
	}
}

// executables is a manager that takes executables, and a facet of it that is to run them.
func executables(t *testing.T) (*Manager, *node) {
	t.Helper()
	reg, _ := newRegistry(t)
	store, err := bundle.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := NewManager(Config{Registry: reg, Bundles: store})
	t.Cleanup(func() { m.exchanges.Close() })
	return m, &node{m: m, key: key{"n", "o", "a"}}
}

func (m *Manager) puts(t *testing.T, n *node, text string) (*taken, error) {
	t.Helper()
	return m.putExecutable(t.Context(), n, &wire.Code{Size: int64(len(text))}, from(t, text))
}

// What an object hands over has a quota; what is needed for an alarm counts, and is kept.
func TestExecutablesHaveAQuota(t *testing.T) {
	m, n := executables(t)
	m.given = bundle.NewGiven(m.Bundles, 2<<20, 8<<20, nil) // the least that one counts is 1 MiB
	var all []*taken
	for _, text := range []string{"first", "second", "first"} {
		c, err := m.puts(t, n, text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	_, err := m.puts(t, n, "third")
	if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != problem.StorageQuota || p.Status() != 507 || !strings.Contains(p.Message, "2 MiB") {
		t.Errorf("a third: %v", err)
	}
	how, err := json.Marshal([]*Spec{{Bundle: all[0].bundle}})
	if err != nil {
		t.Fatal(err)
	}
	alarm := registry.Alarm{Object: n.objectID(), N: 1, At: 1, Due: time.Now().Add(time.Hour).UnixMilli(), Start: how}
	m.alarms.put(alarm)
	all[0].release()
	all[2].release()
	if _, err := m.puts(t, n, "third"); err == nil {
		t.Error("an alarm's code counts for nothing")
	}
	all[1].release()
	c, err := m.puts(t, n, "third") // instead of the second
	if err != nil || !m.Bundles.Has(all[0].bundle) || m.Bundles.Has(all[1].bundle) {
		t.Errorf("the alarm's code is there: %t, the second: %t; %v", m.Bundles.Has(all[0].bundle), m.Bundles.Has(all[1].bundle), err)
	}
	moved := alarm
	moved.At = 2
	m.alarms.put(moved)
	if !m.Bundles.Pinned(all[0].bundle) {
		t.Error("an alarm that was moved does not keep its code")
	}
	m.alarms.put(registry.Alarm{Object: alarm.Object, N: 1, At: 3, Due: alarm.Due, Start: []byte("[]")})
	if m.Bundles.Pinned(all[0].bundle) {
		t.Error("an alarm keeps the code of an earlier one")
	}
	m.alarms.put(alarm)
	m.alarms.drop(alarmID{alarm.Object, 1})
	if m.Bundles.Pinned(all[0].bundle) {
		t.Error("an alarm that is over keeps its code")
	}
	c.release()
}

// What is not a bundle yet has a bound, too, and is given back.
func TestArrivingExecutables(t *testing.T) {
	m, n := executables(t)
	m.intake.arriving.Store(maxArriving - 4)
	if _, err := m.puts(t, n, "12345"); !errors.Is(err, errNoDisk) {
		t.Errorf("one too large for the disk: %v", err)
	}
	if _, err := m.puts(t, n, "1234"); err != nil {
		t.Error(err)
	}
	if got := m.intake.arriving.Load(); got != maxArriving-4 {
		t.Errorf("%d bytes are counted", got-maxArriving+4)
	}
}

// An object that hands over more at once than it may waits for itself, and for no other.
func TestIntakeIsPerObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIntake()
		var leave []func()
		for range codesAtOnce {
			l, err := i.enter(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, l)
		}
		entered := make(chan func(), 1)
		go func() {
			l, _ := i.enter(t.Context(), "a")
			entered <- l
		}()
		synctest.Wait()
		if len(entered) > 0 {
			t.Fatal("one too many entered")
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := i.enter(gone, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		other, err := i.enter(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()
		leave[0]()
		leave[0] = <-entered
		for _, l := range leave {
			l()
		}
		if len(i.objects) > 0 {
			t.Errorf("%d objects are remembered", len(i.objects))
		}
	})
}
