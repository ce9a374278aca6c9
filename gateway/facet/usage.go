package facet

import (
	"context"

	"github.com/facetgateway/fgw/gateway/sqlpool"
)

// Usage is what a facet has used since the gateway started.
type Usage struct {
	CPUSeconds      float64
	MemoryPeakBytes int64
	RowsRead        int64
	RowsWritten     int64
	Requests        int64
	Errors          int64
	Starts          int64
	EgressBytes     int64
}

// add adds what one instance used.
func (u *Usage) add(v Usage) {
	u.CPUSeconds += v.CPUSeconds
	u.MemoryPeakBytes = max(u.MemoryPeakBytes, v.MemoryPeakBytes)
	u.RowsRead += v.RowsRead
	u.RowsWritten += v.RowsWritten
	u.EgressBytes += v.EgressBytes
}

// sqlUsage is the part of an instance's usage that its SQL worker counted; the worker's CPU time
// is the facet's own, since it is spent on the facet's statements.
func sqlUsage(s sqlpool.Usage) Usage {
	return Usage{CPUSeconds: s.CPU.Seconds(), RowsRead: s.RowsRead, RowsWritten: s.RowsWritten}
}

// sqlUsed is what was done with the instance's database during its life, by an administrator too. The worker counts from when the first of several
// channels was attached: one that an administrator kept open counts on from one instance to the next.
func (in *instance) sqlUsed() Usage {
	u := sqlUsage(in.sql.Usage())
	u.CPUSeconds -= in.before.CPUSeconds
	u.RowsRead -= in.before.RowsRead
	u.RowsWritten -= in.before.RowsWritten
	return u
}

// usage is the facet's usage now, the running instance included.
func (n *node) usage(ctx context.Context) Usage {
	n.mu.Lock()
	u, in := n.totals.usage, n.in
	u.Requests, u.Errors, u.Starts = n.totals.requests, n.totals.errors, n.totals.starts
	if in != nil {
		u.Requests += int64(in.inflight)
	}
	live := in != nil && in.began()
	n.mu.Unlock()
	if !live {
		return u
	}
	var now Usage
	if in.database() != nil {
		now = in.sqlUsed()
	}
	if s, err := in.proc.Stats(ctx); err == nil {
		now.CPUSeconds += s.CPU.Seconds()
		now.MemoryPeakBytes = s.MemoryPeak
	}
	u.add(now)
	return u
}
