package facet

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/registry"
)

// stage plays the dispatcher of alarms: an object's id is its namespace, a slash, and its name.
type stage struct {
	*alarms
	t       *testing.T
	now     time.Time
	running []*alarm
}

func newStage(t *testing.T) *stage {
	s := &stage{alarms: newAlarms(), t: t, now: time.UnixMilli(1000)}
	s.retain = func(*registry.Alarm) func() { return func() {} }
	return s
}

func (s *stage) set(object string, n int, at int64) {
	s.put(registry.Alarm{Object: object, N: n, At: at, Due: at})
}

// dispatch takes all that are due, and returns those whose handlers begin.
func (s *stage) dispatch() (begun []string) {
	for {
		e, _ := s.next(s.now)
		if e == nil {
			return begun
		}
		namespace, _, _ := strings.Cut(e.id.object, "/")
		if s.enter(e, namespace, s.now) {
			s.running = append(s.running, e)
			begun = append(begun, fmt.Sprintf("%s.%d", e.id.object, e.id.n))
		}
	}
}

// end ends the handler that has run the longest.
func (s *stage) end() {
	e := s.running[0]
	s.running = s.running[1:]
	s.rest(e)
}

// count counts the handlers that run of the objects with a prefix.
func (s *stage) count(prefix string) (n int) {
	for _, e := range s.running {
		if strings.HasPrefix(e.id.object, prefix) {
			n++
		}
	}
	return n
}

// A namespace has its part of the handlers, and in it an object has its own.
func TestShareOfAlarmHandlers(t *testing.T) {
	s := newStage(t)
	for i := range 20 {
		s.set("a/1", i, int64(i))
	}
	s.dispatch()
	if n := s.count("a/"); n != alarmsOfObject {
		t.Errorf("%d handlers of one object run", n)
	}
	for i := range 20 {
		s.set("a/2", i, int64(i))
		s.set("a/3", i, int64(i))
		s.set("b/1", i, int64(i))
	}
	s.dispatch()
	if a, b := s.count("a/"), s.count("b/"); a != alarmsOfOne || b != alarmsOfObject {
		t.Errorf("%d handlers of one namespace run, and %d of another's only object", a, b)
	}
}

// An object whose alarms are due all the time, however many they are and however long ago they were due, does not keep another's waiting: it
// has its turn when the handlers have ended that ran when it came.
func TestAlarmsTakeTurns(t *testing.T) {
	s := newStage(t)
	const greedy = 5 // objects, with 100 facets each
	for o := range greedy {
		for i := range 100 {
			s.set(fmt.Sprintf("a/%d", o), i, int64(i))
		}
	}
	s.dispatch()
	s.set("a/modest", 0, 999)
	if begun := s.dispatch(); len(begun) > 0 {
		t.Fatalf("%v began", begun)
	}
	for ended := 1; ; ended++ {
		s.end() // its alarm stays due
		begun := s.dispatch()
		if len(begun) != 1 {
			t.Fatalf("%d handlers began when one had ended", len(begun))
		}
		if begun[0] == "a/modest.0" {
			break
		}
		if ended > greedy {
			t.Fatalf("it waits still when %d handlers have ended", ended)
		}
	}
}

// Whatever is set, moved, dropped, begun and ended, as many run as may, each alarm is in one place, and in the end nothing is kept.
func TestAlarmTurnsOfChance(t *testing.T) {
	s := newStage(t)
	chance := rand.New(rand.NewPCG(1, 2))
	objects := []string{"a/1", "a/2", "a/3", "b/1", "b/2"}
	for range 20_000 {
		object, n := objects[chance.IntN(len(objects))], chance.IntN(20)
		switch chance.IntN(5) {
		case 0, 1:
			s.set(object, n, s.now.UnixMilli()-chance.Int64N(50))
		case 2:
			s.set(object, n, s.now.UnixMilli()+chance.Int64N(20))
		case 3:
			s.drop(alarmID{object, n})
		case 4:
			if len(s.running) > 0 {
				s.end()
			}
		}
		if chance.IntN(3) == 0 {
			s.dispatch()
		}
		s.now = s.now.Add(time.Millisecond)
	}
	s.dispatch()
	for _, ns := range []string{"a", "b"} {
		n := s.turns.of[ns]
		waiting, sum := 0, 0
		for name, sh := range n.objects {
			if got := s.count(name); got != sh.running || got > alarmsOfObject {
				t.Errorf("%d handlers of %s run, %d are counted", got, name, sh.running)
			}
			if len(sh.waiting) > 0 && sh.running < alarmsOfObject && n.running < alarmsOfOne {
				t.Errorf("%s waits for nothing", name)
			}
			sum += sh.running
			waiting += len(sh.waiting)
		}
		if sum != n.running || sum > alarmsOfOne || waiting == 0 {
			t.Errorf("%s: %d run, %d are counted, %d wait", ns, sum, n.running, waiting)
		}
	}
	for id := range s.byID {
		s.drop(id)
	}
	for len(s.running) > 0 {
		s.end()
	}
	if len(s.turns.of) > 0 || len(s.queue) > 0 {
		t.Errorf("kept: %v, %d", s.turns.of, len(s.queue))
	}
}
