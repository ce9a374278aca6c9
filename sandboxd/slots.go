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

// How many groups wait for facets that stand alone, how many for the children of each supervisor, and how many whole
// trees for supervisors once there was one: making a group takes 0.3 to 0.6 ms, which a starting facet need not wait for.
const (
	slotsReady = 8
	kidsReady  = 1
	treesReady = 4
)

// fillDelay keeps the making of new groups out of the way of the facet that has just taken one: both would
// want the processor in the same few milliseconds. After a supervisor its first child starts.
const (
	fillDelay = 5 * time.Millisecond
	treeDelay = 25 * time.Millisecond
)

// slots keeps groups ready for facets. A group is used once and then removed, not
// reused: a used one holds memory that its last process touched, counters that can't be
// reset, and the debt of a CPU quota.
type slots struct {
	tree  cgroup.Tree
	log   *slog.Logger
	next  atomic.Uint64
	alone *pool // for facets that are in no supervisor's tree
	trees trees
	stop  chan struct{}
	wg    sync.WaitGroup // fillers and removers
}

// pool keeps groups ready in one place.
type pool struct {
	s     *slots
	where string
	want  int

	making sync.Mutex // held while groups are made, which whoever removes the place must wait for

	mu      sync.Mutex    // guards the fields below
	last    cgroup.Limits // what the last facet asked for, and the next probably will
	ready   []slot
	filling bool
	closed  bool
}

type slot struct {
	group  cgroup.Group
	limits cgroup.Limits
}

// facetWeight is each facet's against the others, and a whole tree's, so that children bring their object no more.
const facetWeight = 100

func newSlots(tree cgroup.Tree, log *slog.Logger) *slots {
	s := &slots{tree: tree, log: log, stop: make(chan struct{})}
	usual := protocol.Limits{MemoryBytes: 256 << 20, Processes: 64, CPUMilli: 1000}
	s.alone = &pool{s: s, where: "facets", want: slotsReady, filling: true, last: facetLimits(usual)}
	s.trees.child = usual
	s.wg.Go(s.alone.fill)
	return s
}

func facetLimits(l protocol.Limits) cgroup.Limits {
	return cgroup.Limits{Memory: l.MemoryBytes, Processes: l.Processes, CPUMilli: l.CPUMilli, Weight: facetWeight}
}

// later runs fill a moment from now.
func (s *slots) later(after time.Duration, fill func()) {
	s.wg.Go(func() {
		select {
		case <-time.After(after):
			fill()
		case <-s.stop:
		}
	})
}

// name gives a group in some place a name of its own.
func (s *slots) name(where string) string { return fmt.Sprintf("%s/%d", where, s.next.Add(1)) }

// fill makes what is missing.
func (p *pool) fill() {
	p.making.Lock()
	defer p.making.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.filling = false }()
	for len(p.ready) < p.want && !p.closed {
		l := p.last
		p.mu.Unlock()
		g, err := p.s.tree.New(p.s.name(p.where), l)
		p.mu.Lock()
		if err != nil {
			p.s.log.Error("cgroup can't be made", "error", err)
			return // the next facet that wants one tries again, and is told
		}
		p.ready = append(p.ready, slot{g, l})
	}
}

// refill has what is missing made a moment from now.
func (p *pool) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.filling && !p.closed {
		p.filling = true
		p.s.later(fillDelay, p.fill)
	}
}

// take gives a group with these limits.
func (p *pool) take(l cgroup.Limits) (cgroup.Group, error) {
	p.mu.Lock()
	p.last = l
	var got slot
	if n := len(p.ready); n > 0 {
		got, p.ready = p.ready[n-1], p.ready[:n-1]
	}
	p.mu.Unlock()
	p.refill()
	if got.group == nil {
		return p.s.tree.New(p.s.name(p.where), l)
	}
	if got.limits == l {
		return got.group, nil
	}
	if err := got.group.Set(l); err != nil {
		p.s.remove(got.group, nil)
		return nil, err
	}
	return got.group, nil
}

// close gives what is ready to whoever removes it; no more is made.
func (p *pool) close() (left []cgroup.Group) {
	p.making.Lock()
	defer p.making.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, g := range p.ready {
		left = append(left, g.group)
	}
	p.ready = nil
	return left
}

// remove deletes a group in the background, and then lets go of the tree that it lies in, if any.
func (s *slots) remove(g cgroup.Group, in *tree) {
	s.wg.Go(func() {
		s.delete(g)
		in.leave()
	})
}

// delete removes a group that is or will be empty.
func (s *slots) delete(g cgroup.Group) {
	var err error
	for range 100 {
		if err = g.Delete(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // the kernel lets go of a dead group's last task in its own time
	}
	s.log.Warn("cgroup can't be removed", "error", err)
}

// close waits for the removals and removes what is ready.
func (s *slots) close() {
	close(s.stop)
	s.wg.Wait()
	for _, g := range s.alone.close() {
		g.Delete()
	}
	s.closeTrees()
}
