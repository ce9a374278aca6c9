package sandboxd

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// slotsReady is how many groups wait for a facet: making one takes 0.3 to 0.6 ms, which a
// starting facet need not wait for.
const slotsReady = 8

// fillDelay keeps the making of new groups out of the way of the facet that has just taken one: both would
// want the processor in the same few milliseconds.
const fillDelay = 5 * time.Millisecond

// slots keeps groups ready for facets. A group is used once and then removed, not
// reused: a used one holds memory that its last process touched, counters that can't be
// reset, and the debt of a CPU quota.
type slots struct {
	tree  cgroup.Tree
	log   *slog.Logger
	next  atomic.Uint64
	last  atomic.Pointer[cgroup.Limits] // what the last facet asked for, and the next probably will
	ready chan slot
	taken chan struct{} // some were
	stop  chan struct{}
	wg    sync.WaitGroup // the filler and the removers
}

type slot struct {
	group  cgroup.Group
	limits cgroup.Limits
}

func newSlots(tree cgroup.Tree, log *slog.Logger) *slots {
	s := &slots{tree: tree, log: log, ready: make(chan slot, slotsReady), taken: make(chan struct{}, 1), stop: make(chan struct{})}
	s.last.Store(&cgroup.Limits{Memory: 256 << 20, Processes: 64, CPUMilli: 1000, Weight: facetWeight})
	s.wg.Go(s.fill)
	return s
}

// facetWeight is each facet's against the others.
const facetWeight = 100

func facetLimits(l protocol.Limits) cgroup.Limits {
	return cgroup.Limits{Memory: l.MemoryBytes, Processes: l.Processes, CPUMilli: l.CPUMilli, Weight: facetWeight}
}

// fill makes what is missing, a moment after some was taken.
func (s *slots) fill() {
	for {
		for len(s.ready) < slotsReady {
			g, err := s.make(*s.last.Load())
			if err != nil {
				s.log.Error("cgroup can't be made", "error", err)
				break // the next facet that wants one tries again, and is told
			}
			s.ready <- g
		}
		select {
		case <-s.taken:
		case <-s.stop:
			return
		}
		select {
		case <-time.After(fillDelay):
		case <-s.stop:
			return
		}
	}
}

func (s *slots) make(l cgroup.Limits) (slot, error) {
	g, err := s.tree.New(fmt.Sprintf("facets/%d", s.next.Add(1)), l)
	return slot{g, l}, err
}

// take gives a group with these limits.
func (s *slots) take(l cgroup.Limits) (cgroup.Group, error) {
	s.last.Store(&l)
	select {
	case s.taken <- struct{}{}:
	default:
	}
	select {
	case g := <-s.ready:
		if g.limits == l {
			return g.group, nil
		}
		if err := g.group.Set(l); err != nil {
			s.remove(g.group)
			return nil, err
		}
		return g.group, nil
	default:
		g, err := s.make(l)
		return g.group, err
	}
}

// remove deletes a group in the background.
func (s *slots) remove(g cgroup.Group) {
	s.wg.Go(func() {
		var err error
		for range 100 {
			if err = g.Delete(); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // the kernel lets go of a dead group's last task in its own time
		}
		s.log.Warn("cgroup can't be removed", "error", err)
	})
}

// close removes what is ready and waits for the removals.
func (s *slots) close() {
	close(s.stop)
	s.wg.Wait()
	close(s.ready)
	for g := range s.ready {
		g.group.Delete()
	}
}
