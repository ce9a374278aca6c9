package facet

import (
	"container/heap"
	"slices"
)

const (
	// alarmsOfOne is how many of the handlers that run may be one namespace's: handlers that hang must not keep other people's
	// alarms waiting.
	alarmsOfOne = 8
	// alarmsOfObject is how many of those may be one object's, and objects that want more take turns: an object may have
	// 10,000 facets, all with an alarm that is due.
	alarmsOfObject = alarmsOfOne / 2
)

// alarmTurns says whose alarm's handler may run next, namespace by namespace. alarms.mu guards it.
type alarmTurns struct {
	of map[string]*turn // of the namespaces that have some that run or wait
}

// turn is one namespace's. No object waits that could have another handler run.
type turn struct {
	running int
	objects map[string]*share
	ring    []*share // of objects with alarms that wait, the one whose turn it is first
}

// share is one object's.
type share struct {
	running int
	waiting alarmQueue
}

// enter counts a handler in, or has its alarm wait for its turn and reports false.
func (t *alarmTurns) enter(e *alarm) bool {
	if e.admitted {
		e.admitted = false
		return true
	}
	n := t.of[e.namespace]
	if n == nil {
		n = &turn{objects: map[string]*share{}}
		t.of[e.namespace] = n
	}
	sh := n.objects[e.id.object]
	if sh == nil {
		sh = &share{}
		n.objects[e.id.object] = sh
	}
	if n.running < alarmsOfOne && sh.running < alarmsOfObject {
		n.running++
		sh.running++
		return true
	}
	if len(sh.waiting) == 0 {
		n.ring = append(n.ring, sh)
	}
	sh.waiting.add(e)
	return false
}

// leave counts a handler out and returns the alarm whose turn it is now, counted in; nil where there is none.
func (t *alarmTurns) leave(e *alarm) (next *alarm) {
	n := t.of[e.namespace]
	sh := n.objects[e.id.object]
	n.running--
	sh.running--
	if i := slices.IndexFunc(n.ring, func(sh *share) bool { return sh.running < alarmsOfObject }); i >= 0 {
		sh := n.ring[i]
		n.ring = slices.Delete(n.ring, i, i+1)
		next = heap.Pop(&sh.waiting).(*alarm)
		next.admitted = true
		n.running++
		sh.running++
		if len(sh.waiting) > 0 {
			n.ring = append(n.ring, sh)
		}
	}
	t.tidy(e)
	return next
}

// remove takes back an alarm that waits.
func (t *alarmTurns) remove(e *alarm) {
	n := t.of[e.namespace]
	sh := n.objects[e.id.object]
	heap.Remove(&sh.waiting, e.index)
	if len(sh.waiting) == 0 {
		n.ring = slices.DeleteFunc(n.ring, func(r *share) bool { return r == sh })
	}
	t.tidy(e)
}

// tidy forgets what has neither handlers nor alarms that wait.
func (t *alarmTurns) tidy(e *alarm) {
	n := t.of[e.namespace]
	if sh := n.objects[e.id.object]; sh.running == 0 && len(sh.waiting) == 0 {
		delete(n.objects, e.id.object)
	}
	if len(n.objects) == 0 {
		delete(t.of, e.namespace)
	}
}
