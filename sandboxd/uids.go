package sandboxd

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Each data directory has 65,536 user ids. Which, its hash decides, among 4,096 stretches: two gateways on one machine
// rarely share theirs, but nobody checks it, since nothing lists the gateways of a machine. Of two that do, facets
// are held apart by namespaces and Landlock alone, as an ordinary user's are; Config.UIDBase says it otherwise. Of the ids
// the first is the gateway's and its SQL workers', the last owns the build cache (see warmUID),
// each of the others is at most one running facet's or builder's.
const uidsPerDirectory = 1 << 16

// The area from which directories draw: above what systemd gives to containers and
// dynamic users, below what does not fit a signed number.
const (
	uidAreaStart = 0x60000000
	uidAreaSize  = 1 << 12 // directories' worth
)

// uidRange is a stretch of user ids.
type uidRange struct{ start, count int64 }

func (r uidRange) overlaps(start, count int64) bool {
	return start < r.start+r.count && r.start < start+count
}

// uidBase chooses the first of a directory's user ids: by the directory's hash, where this user
// namespace maps them and /etc/subuid has not given them to someone; otherwise the next such
// stretch; where the namespace maps no more than a few (a container), a stretch at its upper end.
func uidBase(hash uint64, mapped, taken []uidRange) (int, error) {
	free := func(start int64) bool {
		for _, r := range taken {
			if r.overlaps(start, uidsPerDirectory) {
				return false
			}
		}
		for _, r := range mapped {
			if r.start <= start && start+uidsPerDirectory <= r.start+r.count {
				return true
			}
		}
		return false
	}
	for i := range uint64(uidAreaSize) {
		start := uidAreaStart + int64((hash+i)%uidAreaSize)*uidsPerDirectory
		if free(start) {
			return int(start), nil
		}
	}
	for _, r := range mapped {
		for start := r.start + r.count - uidsPerDirectory; start >= max(r.start, uidsPerDirectory); start -= uidsPerDirectory {
			if free(start) {
				return int(start), nil
			}
		}
	}
	return 0, fmt.Errorf("no %d user ids that are mapped here and given to nobody in /etc/subuid", uidsPerDirectory)
}

// parseUIDMap reads /proc/self/uid_map: the ids that exist in this user namespace.
func parseUIDMap(text string) (ranges []uidRange) {
	for line := range strings.Lines(text) {
		var inside, outside, count int64
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 {
			ranges = append(ranges, uidRange{inside, count})
		}
	}
	return ranges
}

// parseSubUID reads /etc/subuid: name:start:count.
func parseSubUID(text string) (ranges []uidRange) {
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		part := strings.Split(s.Text(), ":")
		var r uidRange
		if len(part) != 3 {
			continue
		}
		if n, _ := fmt.Sscan(part[1]+" "+part[2], &r.start, &r.count); n == 2 {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// readUIDs reads both for this machine.
func readUIDs() (mapped, taken []uidRange) {
	m, _ := os.ReadFile("/proc/self/uid_map")
	s, _ := os.ReadFile("/etc/subuid")
	return parseUIDMap(string(m)), parseSubUID(string(s))
}

// uidPool hands out the facets' user ids. One that was given back waits longest.
type uidPool struct {
	mu   sync.Mutex // guards free
	free []int
}

func newUIDPool(base int) *uidPool {
	p := &uidPool{}
	for i := 1; i < uidsPerDirectory-1; i++ {
		p.free = append(p.free, base+i)
	}
	return p
}

func (p *uidPool) take() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return 0, false
	}
	uid := p.free[0]
	p.free = p.free[1:]
	return uid, true
}

func (p *uidPool) give(uid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, uid)
}
