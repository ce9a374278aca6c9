package facet

import (
	"testing"

	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// accompanied is a pool with a standby and the spare beside it, and the numbers of their processes.
func accompanied(t *testing.T) (s *standbys, d *desk, supervisor, child kind, numbers [2]int) {
	s, d, supervisor, child = newPool(t)
	supervisor.seat.Supervisor = true
	for range spareTimes {
		below := child
		below.seat.Under = &protocol.Process{} // of some supervisor
		s.started(supervisor, below)
	}
	s.want(supervisor)
	numbers = [2]int{await(t, "a process", d.born), await(t, "one beside it", d.born)}
	s.mu.Lock()
	sp := s.all[supervisor].spare
	s.mu.Unlock()
	<-sp.born
	return s, d, supervisor, child, numbers
}

// TestSpare: beside a supervisor's process lies one for the child that it mostly starts, which is that child's, once.
func TestSpare(t *testing.T) {
	s, d, supervisor, child, n := accompanied(t)
	p, sp := s.take(t.Context(), supervisor)
	if p == nil || sp == nil || p.PID() != n[0] {
		t.Fatalf("%v and %v", p, sp)
	}
	in := &instance{spare: sp}
	if in.companion(t.Context(), child) != nil {
		t.Error("it was given to a child of another supervisor")
	}
	child.seat.Under = p.Process
	got := in.companion(t.Context(), child)
	if got == nil || got.PID() != n[1] {
		t.Fatalf("%v, want process %d", got, n[1])
	}
	if in.companion(t.Context(), child) != nil {
		t.Error("it was given twice")
	}
	sp.end() // somebody's: nothing to end
	got.discard()
	if killed := await(t, "the child's own end", d.killed); killed != n[1] || len(d.killed) > 0 {
		t.Errorf("process %d was ended, and %d more", killed, len(d.killed))
	}
	p.discard()
}

// TestSpareEnds: with its supervisor, with the pool, or a while after its supervisor has begun.
func TestSpareEnds(t *testing.T) {
	for name, end := range map[string]func(*standbys, kind){
		"idle":     func(s *standbys, _ kind) { s.mu.Lock(); s.idle = 0; s.mu.Unlock() },
		"close":    func(s *standbys, _ kind) { s.close() },
		"unwanted": func(s *standbys, k kind) { pick(s, t.Context(), k) },
	} {
		t.Run(name, func(t *testing.T) {
			s, d, supervisor, _, n := accompanied(t)
			end(s, supervisor)
			if first := await(t, "its end", d.killed); first != n[1] {
				t.Errorf("process %d was ended first, which lies around %d", first, n[1])
			}
			if name != "unwanted" {
				await(t, "its supervisor's end", d.killed)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.spares != 0 {
				t.Errorf("%d spares are counted", s.spares)
			}
		})
	}
}

// TestSpareNeedsAHabit: one child proves nothing, nor do two that differ.
func TestSpareNeedsAHabit(t *testing.T) {
	s, d, supervisor, child := newPool(t)
	other := child
	other.limits.Processes = 7
	for _, k := range []kind{child, other, child} {
		s.started(supervisor, k)
	}
	s.want(supervisor)
	await(t, "a process", d.born)
	s.mu.Lock()
	b := s.all[supervisor]
	s.mu.Unlock()
	<-b.born
	s.close() // waits for its keeper
	if b.spare != nil || len(d.born) > 0 {
		t.Errorf("a spare: %v, %d more processes", b.spare, len(d.born))
	}
	for i := range 2 * maxHabits {
		k := supervisor
		k.limits.MemoryBytes = int64(100 + i)
		s.started(k, child)
	}
	if len(s.habits) > maxHabits {
		t.Errorf("%d habits are remembered", len(s.habits))
	}
}
