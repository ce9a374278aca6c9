package bundle

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of what objects hand over: executables, and what was built of their sources.
const (
	// GivenEach is one object's: two of the largest executables, or some hundred of the usual ones.
	GivenEach = 1 << 30
	// GivenAll is everybody's together. That it is used up takes sixteen objects which run different code in all that
	// they may, or a thousand with a program each.
	GivenAll = 16 << 30
	// givenLeast is what a bundle counts at the least: tiny ones cost files, and are remembered.
	givenLeast = 1 << 20
)

// ErrQuota is wrapped where code has no room, and all that has is in use.
var ErrQuota = errors.New("no room for more code")

// Given accounts for the bundles that objects handed over, to which no version of an app refers. One that is in use is
// pinned. The others are kept since they will be handed over again, and go, the longest unused first, where there
// is no room. It knows what was handed over since the start: what is left of an earlier time and not in use, the gateway collects.
type Given struct {
	store     *Store
	keeps     func(hash string) bool
	each, all int64

	mu     sync.Mutex                  // guards the fields below
	owners map[string]map[string]*gift // by object and hash
	shared map[string]int              // how many objects have handed a bundle over
	bytes  int64                       // of all bundles, each counted once
}

// gift is a bundle of one object's.
type gift struct {
	owner, hash string
	bytes       int64
	used        time.Time
	pins        int
}

// NewGiven starts without any. keeps says which bundles somebody else keeps; nil is none.
func NewGiven(store *Store, each, all int64, keeps func(hash string) bool) *Given {
	if keeps == nil {
		keeps = func(string) bool { return false }
	}
	return &Given{store: store, keeps: keeps, each: each, all: all, owners: map[string]map[string]*gift{}, shared: map[string]int{}}
}

// Take enters a bundle of that size which the owner hands over. It takes over the caller's pin of it, which release gives back. It
// fails with ErrQuota where there is no room, and the bundle is removed then unless somebody else has it.
func (g *Given) Take(owner, hash string, bytes int64) (release func(), err error) {
	return g.take(owner, hash, bytes, true)
}

// Keep is Take of a bundle that is in use already, and needs no pin of the caller's. It is never refused for want of room.
func (g *Given) Keep(owner, hash string) (release func(), err error) {
	bytes, err := g.store.Pin(hash)
	if err != nil {
		return nil, err
	}
	return g.take(owner, hash, bytes, false)
}

func (g *Given) take(owner, hash string, bytes int64, bounded bool) (release func(), err error) {
	e, doomed, err := g.enter(owner, hash, max(bytes, givenLeast), bounded)
	if err != nil {
		g.store.Unpin(hash)
	}
	for _, hash := range doomed { // which may be pinned again by now
		if !g.keeps(hash) {
			g.store.remove(hash, 0) // left where it can't be; Collect tries again
		}
	}
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() {
		g.mu.Lock()
		e.pins--
		e.used = g.store.now()
		g.mu.Unlock()
		g.store.Unpin(hash)
	}), nil
}

// enter counts one use of a bundle, and gives those that nobody has any more.
func (g *Given) enter(owner, hash string, bytes int64, bounded bool) (e *gift, doomed []string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e = g.owners[owner][hash]; e == nil {
		if doomed, err = g.makeRoom(owner, hash, bytes); err != nil && bounded {
			if g.shared[hash] == 0 {
				doomed = append(doomed, hash)
			}
			return nil, doomed, err
		}
		e = &gift{owner: owner, hash: hash, bytes: bytes}
		if g.owners[owner] == nil {
			g.owners[owner] = map[string]*gift{}
		}
		g.owners[owner][hash] = e
		if g.shared[hash]++; g.shared[hash] == 1 {
			g.bytes += bytes
		}
	}
	e.pins++
	e.used = g.store.now()
	return e, doomed, nil
}

// makeRoom forgets what is not in use until the bundle fits. g.mu is held.
func (g *Given) makeRoom(owner, hash string, bytes int64) (doomed []string, err error) {
	for {
		var own int64
		for _, e := range g.owners[owner] {
			own += e.bytes
		}
		among := g.owners
		switch {
		case own+bytes > g.each:
			among = map[string]map[string]*gift{owner: g.owners[owner]}
			err = fmt.Errorf("%w: the code that an object hands over may take %d MiB", ErrQuota, g.each>>20)
		case g.shared[hash] == 0 && g.bytes+bytes > g.all:
			err = fmt.Errorf("%w: the code that all objects hand over may take %d MiB", ErrQuota, g.all>>20)
		default:
			return doomed, nil
		}
		oldest := longestUnused(among)
		if oldest == nil {
			return doomed, err
		}
		if g.forget(oldest) {
			doomed = append(doomed, oldest.hash)
		}
	}
}

// longestUnused is nil where all are in use.
func longestUnused(among map[string]map[string]*gift) (oldest *gift) {
	for _, gifts := range among {
		for _, e := range gifts {
			if e.pins == 0 && (oldest == nil || e.used.Before(oldest.used)) {
				oldest = e
			}
		}
	}
	return oldest
}

// forget takes a gift out of the account, and reports whether it was the last of its bundle. g.mu is held.
func (g *Given) forget(e *gift) bool {
	delete(g.owners[e.owner], e.hash)
	if len(g.owners[e.owner]) == 0 {
		delete(g.owners, e.owner)
	}
	if g.shared[e.hash]--; g.shared[e.hash] > 0 {
		return false
	}
	delete(g.shared, e.hash)
	g.bytes -= e.bytes
	return true
}
