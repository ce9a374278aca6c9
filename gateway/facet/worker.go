package facet

import (
	"fmt"
	"time"
)

// workerMark begins the last part of a dynamic worker's path: NUL, which no facet's name holds.
const workerMark = "\x00worker"

// worker returns the node of a dynamic worker: code that runs without a name and without a
// database. One with an id is kept while it is busy and for its idle time; one without lives for its stream.
func (in *instance) worker(c *callConn) *node {
	id := c.call.ID
	k := in.key
	idle := time.Duration(c.call.IdleMS) * time.Millisecond
	if id == "" {
		k.path += workerMark + fmt.Sprintf("\x00\x00%d", in.m.workers.Add(1))
		idle = workerIdle
	} else {
		k.path += workerMark + "\x00" + id
	}
	if idle <= 0 {
		idle = in.spec.Limits.IdleTimeout
	}
	n := in.m.nodeAt(k, in.path)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nameless, n.keep = true, idle
	return n
}

// workerIdle is how long a worker without an id lives on after its call: the call's stream may
// carry another at once.
const workerIdle = time.Second
