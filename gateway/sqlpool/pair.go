package sqlpool

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Pair is the two ends of a channel that is made before its database is known: so a process
// can be started with its end while the database is being looked up. It goes into
// AttachOptions, once, or is closed.
type Pair struct{ facetEnd, workerEnd *os.File }

// NewPair makes a pair.
func NewPair() (*Pair, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socketpair: %w", err)
	}
	// Both ends still block, which keeps them out of this process's poller: it would wake the gateway for each packet of
	// each facet, since the worker's end is the same open file. Worker and facet choose the mode themselves.
	return &Pair{os.NewFile(uintptr(fds[0]), "sql-channel"), os.NewFile(uintptr(fds[1]), "sql-channel")}, nil
}

// FacetEnd is the client's end, once: the caller passes it on and closes it.
func (p *Pair) FacetEnd() *os.File {
	f := p.facetEnd
	p.facetEnd = nil
	return f
}

// Close closes what was not taken.
func (p *Pair) Close() {
	for _, f := range []*os.File{p.facetEnd, p.workerEnd} {
		if f != nil {
			f.Close()
		}
	}
	p.facetEnd, p.workerEnd = nil, nil
}
