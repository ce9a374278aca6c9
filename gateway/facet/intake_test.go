package facet

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
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
