package sandboxd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What sandboxd's own limit of descriptors is spent on. Go has raised the soft limit to the hard one by the time that
// main runs. Where it is used up, the kernel cuts descriptors off the messages that carry them: what a message was
// for can't be done then, and a facet whose pidfd was cut off could not be killed. So facets are refused before.
const (
	ownFiles     = 128 // sandboxd's own, the groups that wait for facets, gateway, workers, and what they print
	requestFiles = 20  // one request under way: what it brings, a builder's root
	facetFDs     = 5   // a facet: its pidfd, and its group in each of up to four hierarchies
)

// facetsWanted is how many facets a machine should have room for; doctor tells of fewer.
const facetsWanted = 1000

// errNoFiles is wrapped where sandboxd has no descriptor left for what is asked of it.
var errNoFiles = errors.New("the gateway's parent process is out of file descriptors")

// filesMend says what to do about it.
const filesMend = "raise the limit before fgw starts: ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit"

// noFiles is errNoFiles with the limit.
func noFiles() error { return fmt.Errorf("%w (limit %d): %s", errNoFiles, fileLimit(), filesMend) }

// fileLimit is how many descriptors this process may have.
func fileLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(l.Cur, 1<<30))
}

// shareFiles divides a limit: how many requests are worked on at once, and how many descriptors facets may take
// in all.
func shareFiles(limit int) (requests, facets int) {
	requests = min(max(limit/128, 4), maxRequests)
	return requests, max(0, limit-ownFiles-requests*requestFiles)
}

// filesOf is what a facet or builder takes of them; a supervisor has a group ready for its next child.
func filesOf(supervisor bool) int {
	if supervisor {
		return 2 * facetFDs
	}
	return facetFDs
}

// fileError says why a machine has room for fewer facets than it should.
func fileError(limit int) error {
	if _, n := shareFiles(limit); n/facetFDs < facetsWanted {
		return fmt.Errorf("room for %d facets at once: a process may have %d open files", n/facetFDs, limit)
	}
	return nil
}
