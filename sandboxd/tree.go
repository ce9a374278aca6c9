package sandboxd

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// tree is where a supervisor and everything that it started lie:
//
//	facets/7        the supervisor's limits: they hold for the sum
//	facets/7/own    the supervisor's process
//	facets/7/kids   the same limits less what is kept for the supervisor
//	facets/7/kids/8 a child; or a tree again, where the child may have children
//
// A tree is removed when the supervisor and all the others are gone.
type tree struct {
	s           *slots
	up          *tree // that it lies in; nil at the top
	group, kids cgroup.Group
	own         cgroup.Group
	pool        *pool // for children
	limits      protocol.Limits

	mu      sync.Mutex
	members int // groups in it that are not removed, the supervisor's included; at 0 it goes
}

// What a supervisor keeps of its limits for itself, so that its children, whatever they do, can't take
// from it the means to end them.
const (
	ownMemory    = 8  // an eighth
	ownCPU       = 10 // a tenth
	ownProcesses = 16 // what a Go program needs, with room
)

// kidsLimits are those that hold for all children of a supervisor together.
func kidsLimits(l protocol.Limits) protocol.Limits {
	l.MemoryBytes -= l.MemoryBytes / ownMemory
	l.CPUMilli -= l.CPUMilli / ownCPU
	l.Processes -= min(ownProcesses, l.Processes/2)
	return l
}

// cap holds a child's limits to what all children may have: v1 refuses a CPU quota above the parent's.
func (t *tree) cap(l protocol.Limits) protocol.Limits {
	most := kidsLimits(t.limits)
	return protocol.Limits{
		MemoryBytes: min(l.MemoryBytes, most.MemoryBytes), Processes: min(l.Processes, most.Processes), CPUMilli: min(l.CPUMilli, most.CPUMilli),
	}
}

// enter counts a group that will lie in the tree. A nil tree is no tree.
func (t *tree) enter() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.members == 0 {
		return errGone
	}
	t.members++
	return nil
}

// leave counts a group as removed; the last takes the tree with it.
func (t *tree) leave() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.members--
	last := t.members == 0
	t.mu.Unlock()
	if last {
		for _, g := range append(t.pool.close(), t.kids, t.group) { // from within
			t.s.delete(g)
		}
		t.up.leave()
	}
}

var (
	errGone       = errors.New("its supervisor has ended")
	errNoChildren = errors.New("its supervisor may not have children")
	// errProcesses is wrapped where a child would start with too few threads left to it: it would end at its
	// first ones, and others of the tree at their next.
	errProcesses = errors.New("its supervisor's limit of processes is used up")
)

// room says whether a child may start.
func (t *tree) room() error {
	n, err := t.kids.Processes()
	if most := kidsLimits(t.limits).Processes; err == nil && n+minProcesses > most {
		return fmt.Errorf("%w: it is %d; of the %d that its children may have together %d are in use", errProcesses, t.limits.Processes, most, n)
	}
	return nil
}

// full finds the limit of memory that a process of the tree met, its own aside: 0 where it was none of the tree's.
func (t *tree) full(supervisor bool) (limit int64, whose protocol.Whose) {
	for whose = protocol.OfTree; t != nil; t, supervisor = t.up, false {
		if !supervisor {
			whose = protocol.OfSupervisor
		}
		if t.group.Full() || !supervisor && t.kids.Full() {
			return t.limits.MemoryBytes, whose
		}
	}
	return 0, protocol.OfMachine
}

// trees keeps some ready for supervisors, once there was one.
type trees struct {
	mu      sync.Mutex      // guards the fields below
	last    protocol.Limits // what the last supervisor asked for
	child   protocol.Limits // and the last child
	ready   []*tree
	filling bool
}

// newTree makes one, with its supervisor's group in it.
func (s *slots) newTree(where string, up *tree, l protocol.Limits) (t *tree, err error) {
	name := s.name(where)
	t = &tree{s: s, up: up, limits: l, members: 1}
	t.pool = &pool{s: s, where: name + "/kids", want: kidsReady}
	if t.group, err = s.tree.NewParent(name, facetLimits(l)); err != nil {
		return nil, err
	}
	if t.kids, err = s.tree.NewParent(name+"/kids", facetLimits(kidsLimits(l))); err != nil {
		t.group.Delete()
		return nil, err
	}
	if t.own, err = s.tree.New(name+"/own", facetLimits(l)); err != nil {
		t.kids.Delete()
		t.group.Delete()
		return nil, err
	}
	t.expect()
	return t, nil
}

// expect has the groups that wait in a new tree made for a child like the last one anywhere.
func (t *tree) expect() {
	t.s.trees.mu.Lock()
	defer t.s.trees.mu.Unlock()
	t.pool.last = facetLimits(t.cap(t.s.trees.child))
}

// fillTrees makes what is missing, each with a group for its first child.
func (s *slots) fillTrees() {
	k := &s.trees
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() { k.filling = false }()
	for len(k.ready) < treesReady {
		l := k.last
		k.mu.Unlock()
		t, err := s.newTree("facets", nil, l)
		if err == nil {
			t.pool.fill()
		}
		k.mu.Lock()
		if err != nil {
			s.log.Error("cgroup can't be made", "error", err)
			return
		}
		k.ready = append(k.ready, t)
	}
}

// takeTree gives a tree for a supervisor, within the tree up if there is one: there none wait, since few
// children have children.
func (s *slots) takeTree(up *tree, l protocol.Limits) (*tree, error) {
	where := "facets"
	if up != nil {
		where = up.pool.where
	} else if t := s.readyTree(l); t != nil {
		err := t.set(l)
		if err != nil {
			s.remove(t.own, t)
		}
		return t, err
	}
	t, err := s.newTree(where, up, l)
	if err == nil {
		t.pool.refill()
	}
	return t, err
}

// readyTree takes one that waits, if any does.
func (s *slots) readyTree(l protocol.Limits) (t *tree) {
	k := &s.trees
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = l
	if n := len(k.ready); n > 0 {
		t, k.ready = k.ready[n-1], k.ready[:n-1]
	}
	if !k.filling {
		k.filling = true
		s.later(treeDelay, s.fillTrees)
	}
	return t
}

// set changes the limits of a tree that nobody is in yet. No group may ever have a larger CPU quota than the one
// around it (v1).
func (t *tree) set(l protocol.Limits) error {
	if l == t.limits {
		return nil
	}
	lower := l.CPUMilli < t.limits.CPUMilli
	t.limits = l
	t.expect()
	groups := []slot{{t.group, facetLimits(l)}, {t.kids, facetLimits(kidsLimits(l))}, {t.own, facetLimits(l)}}
	for i := range t.pool.ready {
		t.pool.ready[i].limits = t.pool.last
		groups = append(groups, t.pool.ready[i])
	}
	if lower {
		slices.Reverse(groups)
	}
	for _, g := range groups {
		if err := g.group.Set(g.limits); err != nil {
			return err
		}
	}
	return nil
}

// closeTrees removes the trees that wait.
func (s *slots) closeTrees() {
	for _, t := range s.trees.ready {
		for _, g := range append(t.pool.close(), t.own, t.kids, t.group) {
			g.Delete()
		}
	}
}

// place says where a new facet lies.
type place struct {
	under      *process // its supervisor; nil for one at the top
	supervisor bool     // it may have children
}

// seat gives a process its group, in its supervisor's tree or in a tree of its own, and holds its limits to those around it.
func (s *slots) seat(p *process, at place) (err error) {
	var up *tree
	if at.under != nil {
		if up = at.under.tree; !at.under.supervisor {
			return errNoChildren
		}
		if err := up.enter(); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				up.leave()
			}
		}()
		if err := up.room(); err != nil {
			return err
		}
		p.limits = up.cap(p.limits)
	}
	switch {
	case at.supervisor:
		t, err := s.takeTree(up, p.limits)
		if err != nil {
			return err
		}
		p.tree, p.supervisor, p.group = t, true, t.own
	case up != nil:
		s.trees.mu.Lock()
		s.trees.child = p.limits
		s.trees.mu.Unlock()
		p.tree = up
		p.group, err = up.pool.take(facetLimits(p.limits))
	default:
		p.group, err = s.alone.take(facetLimits(p.limits))
	}
	return err
}
