package protocol

import (
	"context"
	"os"
)

// Build describes a builder: a process that turns sources into an executable with the Go toolchain.
type Build struct {
	Limits
	// Tree is the number of the tree of modules that sources may import: DATA/build/modules/TREE.
	Tree int64
	// Warm has the builder fill the cache that all others only read.
	Warm bool
}

// BuildFiles are the descriptors of a new builder. SpawnBuild duplicates them; the caller keeps its own
// and closes them.
type BuildFiles struct {
	Job    *os.File // a stream socket, becomes descriptor 3
	Output *os.File // becomes descriptors 1 and 2
}

// SpawnBuild starts a builder. Concurrent calls are fine.
func (c *Client) SpawnBuild(ctx context.Context, b Build, f BuildFiles) (*Process, error) {
	m := Message{Op: OpSpawnBuild, Args: [6]int64{b.MemoryBytes, b.Processes, b.CPUMilli, b.Tree}}
	if b.Warm {
		m.Flags |= Warm
	}
	return c.spawn(ctx, m, f.Job, f.Output)
}

// spawns reports whether an answer to the request brings a process.
func (o Op) spawns() bool { return o == OpSpawnFacet || o == OpSpawnSQLD || o == OpSpawnBuild }

// Spawns reports whether a request that was answered so has brought a process.
func (m *Message) Spawns(answer Message) bool {
	return m.Op.spawns() && answer.Flags&(Refused|Gone) == 0 && answer.Process != 0
}
