package logs

import "time"

// rate is how much a facet may log: a burst, and what comes back per second.
type rate struct {
	lines, linesPerSecond float64
	bytes, bytesPerSecond float64
}

// facetRate lets a stack trace of any length through and stops a loop that
// prints: with a thousand such loops the gateway still has time for its work.
var facetRate = rate{lines: 5000, linesPerSecond: 500, bytes: 2 << 20, bytesPerSecond: 256 << 10}

// wasteRate is how much beyond that is read and thrown away, so that a burst costs lines and not the
// facet's time: a dump of ten thousand goroutines is 5 MB. Whoever prints on has to wait for its reader: what is only
// thrown away must not cost the gateway a core.
var wasteRate = rate{lines: 200_000, linesPerSecond: 10_000, bytes: 16 << 20, bytesPerSecond: 2 << 20}

// bucket meters one facet. The zero bucket fills at its first use.
type bucket struct {
	rate
	linesLeft, bytesLeft float64
	at                   time.Time
}

// take tells whether a line of n bytes may pass now.
func (b *bucket) take(now time.Time, n int) bool {
	if b.at.IsZero() {
		b.linesLeft, b.bytesLeft = b.lines, b.bytes
	} else if d := now.Sub(b.at).Seconds(); d > 0 {
		b.linesLeft = min(b.lines, b.linesLeft+d*b.linesPerSecond)
		b.bytesLeft = min(b.bytes, b.bytesLeft+d*b.bytesPerSecond)
	}
	b.at = now
	if b.linesLeft < 1 || b.bytesLeft < float64(n) {
		return false
	}
	b.linesLeft--
	b.bytesLeft -= float64(n)
	return true
}

// owe takes n bytes more for the line that passed last, even those that are not there: what a line takes in its file is known once it
// is written out, which a line that does not pass must not cost. So the debt is one line's at most.
func (b *bucket) owe(n int) { b.bytesLeft -= float64(n) }
