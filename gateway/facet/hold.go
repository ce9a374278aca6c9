package facet

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
)

// hold keeps facets from starting while their data are deleted or replaced: all at or below a key, those included of which nobody
// has heard yet. A hold on the facets that are known would let a new one begin in a directory on its way to the trash.
type hold struct {
	key
	reads bool          // their data are only read: they may start, and others may read them, but nobody deletes or replaces them
	over  chan struct{} // closed at its end
}

// covers reports whether other lies at or below k, which may name an object or a namespace as well.
func (k key) covers(other key) bool {
	return other.namespace == k.namespace && (k.object == "" || other.object == k.object) &&
		(k.path == "" || other.path == k.path || strings.HasPrefix(other.path, k.path+"\x00"))
}

// enter counts an instance that is about to start, unless the gateway stops. Where the facet is held it counts none, and returns what
// to wait for.
func (m *Manager) enter(k key) (held <-chan struct{}, err error) {
	m.lives.Lock()
	defer m.lives.Unlock()
	if m.closed {
		return nil, errStopping
	}
	for h := range m.holds {
		if !h.reads && h.covers(k) {
			return h.over, nil
		}
	}
	m.live.Add(1)
	return nil, nil
}

// holdAll ends every facet at or below a and keeps them from starting until the returned function is called; what lies at or below
// read is not deleted or replaced until then. It waits for other holds on some of them.
func (m *Manager) holdAll(ctx context.Context, a address.Address, reason string, read ...address.Address) (release func(), err error) {
	over := make(chan struct{})
	holds := []*hold{{key: keyOf(a), over: over}}
	for _, r := range read {
		holds = append(holds, &hold{key: keyOf(r), reads: true, over: over})
	}
	for other := m.take(holds); other != nil; other = m.take(holds) {
		select {
		case <-other.over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	release = func() {
		m.lives.Lock()
		for _, h := range holds {
			delete(m.holds, h)
		}
		m.lives.Unlock()
		close(over)
	}
	// From here on it is done, whether its caller still waits or not. Whoever entered before is seen here: its node is known, and its
	// mutex held until it has its instance.
	ctx, cancel := lasting(ctx)
	defer cancel()
	if err := m.abort(ctx, a, reason); err != nil {
		release()
		return nil, late(ctx, err)
	}
	return release, nil
}

// changeTime bounds a change of what is stored that goes on without its caller: 10,000 databases are removed in seconds, or some
// minutes on a disk that is busy.
const changeTime = 5 * time.Minute

// slowestDisk is how many bytes a second a copy is given time for, beside changeTime: what is not finished then is on a disk in trouble.
const slowestDisk = 4 << 20

// lasting returns a context that does not end with its parent, but in time.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) { return lastingFor(ctx, 0) }

// lastingFor is lasting for a change that copies so many bytes.
func lastingFor(ctx context.Context, bytes int64) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), changeTime+time.Duration(bytes/slowestDisk)*time.Second, errLate)
}

// late is err, or what is told where ctx, a lasting one, was over.
func late(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errLate) {
		return &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: "this takes too long and is not finished: the disk is busy; ask for it again"}
	}
	return err
}

var errLate = errors.New("a change of what is stored took too long")

// take begins holds, all or none: two that wait for one another's would do so for ever. It gives one that is in their way.
func (m *Manager) take(holds []*hold) (other *hold) {
	m.lives.Lock()
	defer m.lives.Unlock()
	for other := range m.holds {
		for _, h := range holds {
			if !(h.reads && other.reads) && (other.covers(h.key) || h.covers(other.key)) {
				return other
			}
		}
	}
	for _, h := range holds {
		m.holds[h] = struct{}{}
	}
	return nil
}

// subtree returns the nodes at or below a facet, an object or a namespace.
func (m *Manager) subtree(a address.Address) []*node { return m.all(keyOf(a).covers) }
