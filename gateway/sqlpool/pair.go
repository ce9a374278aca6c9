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
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socketpair: %w", err)
	}
	// The facet's end belongs to another process soon, which chooses its mode itself.
	if err := unix.SetNonblock(fds[0], false); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, fmt.Errorf("make a socketpair: %w", err)
	}
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
