package build

import (
	"context"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
)

// maxWaiting bounds how many builds wait for their turn.
const maxWaiting = 1024

// queue lets a few builds run at once. Owners take turns, each with its oldest build: one that asks for a
// thousand delays another's single one by one build, not by a thousand.
type queue struct {
	mu      sync.Mutex // guards the fields below
	free    int
	waiting int
	owners  []*owner // those with builds that wait, in the order of their turns
}

// owner is someone with builds that wait.
type owner struct {
	name  string
	turns []chan struct{} // closed when the build may start
}

func newQueue(parallel int) *queue { return &queue{free: parallel} }

// acquire waits for a turn, which release must give back.
func (q *queue) acquire(ctx context.Context, name string) error {
	q.mu.Lock()
	if q.free > 0 && q.waiting == 0 {
		q.free--
		q.mu.Unlock()
		return nil
	}
	if q.waiting == maxWaiting {
		q.mu.Unlock()
		return &problem.Error{Code: problem.Overloaded, Message: "too many builds wait for their turn", RetryAfter: 5 * time.Second}
	}
	turn := make(chan struct{})
	q.enter(name, turn)
	q.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		q.mu.Lock()
		mine := q.remove(name, turn)
		q.mu.Unlock()
		if !mine { // the turn came at the same moment
			q.release()
		}
		return errStopping
	}
}

func (q *queue) enter(name string, turn chan struct{}) {
	q.waiting++
	for _, o := range q.owners {
		if o.name == name {
			o.turns = append(o.turns, turn)
			return
		}
	}
	q.owners = append(q.owners, &owner{name, []chan struct{}{turn}})
}

// remove takes a turn out that has not come, and reports whether it was there.
func (q *queue) remove(name string, turn chan struct{}) bool {
	for i, o := range q.owners {
		if o.name != name {
			continue
		}
		for j, t := range o.turns {
			if t != turn {
				continue
			}
			q.waiting--
			if o.turns = append(o.turns[:j], o.turns[j+1:]...); len(o.turns) == 0 {
				q.owners = append(q.owners[:i], q.owners[i+1:]...)
			}
			return true
		}
	}
	return false
}

// release gives a turn to the next owner.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.owners) == 0 {
		q.free++
		return
	}
	o := q.owners[0]
	turn := o.turns[0]
	q.waiting--
	q.owners = q.owners[1:]
	if o.turns = o.turns[1:]; len(o.turns) > 0 {
		q.owners = append(q.owners, o)
	}
	close(turn)
}
