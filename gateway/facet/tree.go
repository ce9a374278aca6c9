package facet

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
)

// Locks: a child's node is locked before its parent's, never the other way round.

// maxDepth is how deep a tree of facets may be, its root included (DESIGN: names and depth).
const maxDepth = 4

// starter is who is asked how to start a child: a facet, and the number of its start function.
// With a stored spec nobody is asked: an alarm woke the child.
type starter struct {
	parent *instance
	number uint64
	stored *Spec
}

// errStarterGone means that the start function that was to be asked is no more: the call that
// brought it has ended.
var errStarterGone = errors.New("the call that knew how to start the facet has ended")

// What a request is told whose own supervisor can't be asked any more.
const (
	codeStarterGone = problem.FacetAborted
	starterGone     = "its supervisor ended while it was asked how to start the facet"
)

// child returns the node of a child of in's.
func (in *instance) child(name string) (*node, error) {
	if err := checkChild(in.key.depth(), name); err != nil {
		return nil, err
	}
	k := in.key
	if k.path != "" {
		k.path += "\x00"
	}
	k.path += name
	return in.m.nodeAt(k, append(slices.Clip(in.path), name)), nil
}

// checkChild says whether a facet at that depth may have a child of that name.
func checkChild(depth int, name string) error {
	if err := address.CheckPart(name); err != nil {
		return problem.New(problem.BadName, "%v", err)
	}
	if depth >= maxDepth {
		return problem.New(problem.DepthLimit, "the facet %q would be at depth %d; a tree of facets is at most %d deep, its root included", name, depth+1, maxDepth)
	}
	return nil
}

// depth is 1 for a root.
func (k key) depth() int {
	if k.path == "" {
		return 1
	}
	return 2 + strings.Count(k.path, "\x00")
}

// owner is whom the builds of a facet are for: its object, so that the objects take turns.
func (k key) owner() string { return k.namespace + "\x00" + k.object }

// top reports whether the facet has no parent that runs as a process: a root, or an app
// under the built-in supervisor. The others end with their parents. An app's children are below it.
func (k key) top() bool { return !strings.Contains(k.path, "\x00") }

// adopt counts a child that is about to start, unless in is ending.
func (in *instance) adopt(kid *instance) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.state == stopping || in.node.in != in {
		return false
	}
	if in.kids == nil {
		in.kids = map[*instance]bool{}
	}
	in.kids[kid] = true
	if in.idle != nil && in.state == running {
		in.idle.Stop()
	}
	return true
}

// disown forgets a child that is gone.
func (in *instance) disown(kid *instance) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.kids, kid)
	if in.state == running {
		in.rest()
	}
}

func (in *instance) children() []*instance {
	in.mu.Lock()
	defer in.mu.Unlock()
	kids := make([]*instance, 0, len(in.kids))
	for k := range in.kids {
		kids = append(kids, k)
	}
	return kids
}

// stopKids stops the children of an instance that is told to stop, leaves first.
func (in *instance) stopKids(reason string) {
	kids := in.children()
	for _, k := range kids {
		k.node.drain(func(i *instance) bool { return i == k }, reason)
	}
	for _, k := range kids {
		select {
		case <-k.gone:
		case <-time.After(drainTime):
			return // endKids is next
		}
	}
}

// endKids ends the children of an instance that ends: they can't outlive it, since what they
// call and who pays for them goes with it.
func (in *instance) endKids() (ended func()) {
	in.mu.Lock()
	in.state = stopping // none is adopted any more
	in.mu.Unlock()
	kids := in.children()
	for _, k := range kids {
		k.kill(problem.FacetAborted, "parent_stopped: its supervisor ended")
	}
	return func() {
		for _, k := range kids {
			<-k.gone
		}
	}
}
