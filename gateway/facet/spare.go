package facet

import (
	"context"
	"sync/atomic"
	"time"
)

// A supervisor mostly starts a child as soon as it runs, and the same one as the time before. So a process kept ready for a
// supervisor has a second one beside it, for that child, born into the limits that it will be held by. It can be no other
// supervisor's. It takes of those limits what a waiting program takes, a megabyte and five threads, and is thrown away where it was not wanted soon.

const (
	// spareTime is how long a spare waits once its supervisor has begun: the first request has come to the child by then, if it is for it.
	spareTime = time.Second
	// spareTimes is how often in turn supervisors of a kind must have started the same kind of child last.
	spareTimes = 2
	// maxHabits bounds the supervisors whose children are remembered.
	maxHabits = 256
)

// habit is what supervisors of one kind start.
type habit struct {
	child kind // without a seat below anyone
	times int  // in turn
}

// spare is the process beside a supervisor's. Whoever claims it owns it.
type spare struct {
	kind    kind
	claimed atomic.Bool
	born    chan struct{} // closed when process is set
	process *process      // nil where it could not be made
}

// claim gives the process to the first who asks for it, once it is there: nil to all others.
func (s *spare) claim(ctx context.Context) *process {
	if s == nil || !s.claimed.CompareAndSwap(false, true) {
		return nil
	}
	select {
	case <-s.born:
		return s.process
	case <-ctx.Done():
		go func() {
			if <-s.born; s.process != nil {
				s.process.discard()
			}
		}()
		return nil
	}
}

// end discards the process if nobody has claimed it, and returns when nothing is left of it.
func (s *spare) end() {
	if p := s.claim(context.Background()); p != nil {
		p.discard()
	}
}

// started notes which child a supervisor has started, one that no other facet started itself.
func (s *standbys) started(supervisor, child kind) {
	child.seat.Under = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.habits[supervisor]
	if h.child != child {
		h = habit{child: child}
	}
	h.times++
	if len(s.habits) >= maxHabits && s.habits[supervisor].times == 0 {
		clear(s.habits)
	}
	s.habits[supervisor] = h
}

// accompany makes a spare for a supervisor's standby that has none, where it is known which.
func (s *standbys) accompany(b *standby) {
	s.mu.Lock()
	h := s.habits[b.kind]
	if s.all[b.kind] != b || b.spare != nil || h.times < spareTimes || len(s.all)+s.spares >= s.most || time.Now().Before(s.resting[h.child.bundle]) {
		s.mu.Unlock()
		return
	}
	k := h.child
	k.seat.Under = b.Process
	sp := &spare{kind: k, born: make(chan struct{})}
	b.spare = sp
	s.spares++
	s.mu.Unlock()
	defer close(sp.born)
	ctx, cancel := context.WithTimeout(s.ctx, killTime)
	defer cancel()
	if p, err := s.begin(ctx, k); err == nil {
		sp.process = p
	} else if s.ctx.Err() == nil {
		s.log.Warn("no process could be kept ready beside a supervisor", "bundle", k.bundle, "error", err)
	}
}

// leaveSpare has a spare end some time after its supervisor has begun.
func (s *standbys) leaveSpare(sp *spare) {
	s.wg.Go(func() {
		select {
		case <-time.After(spareTime):
		case <-s.ctx.Done():
		}
		sp.end()
	})
}

// companion gives the process that was made for the child of an instance; nil where there is none of that kind.
func (in *instance) companion(ctx context.Context, k kind) *process {
	if in.spare == nil || in.spare.kind != k {
		return nil
	}
	p := in.spare.claim(ctx)
	if p == nil {
		return nil
	}
	select {
	case <-p.Done():
		p.discard()
		return nil
	default:
		return p
	}
}
