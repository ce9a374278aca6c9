// Package cgroup gives each process of the gateway its own control groups, on
// machines with cgroup v1 (each controller a hierarchy) and v2 (one for all).
//
// containerd/cgroups makes and limits them. Three things are done directly: joining, since
// the library moves processes in the way that takes 10 ms on an idle machine;
// reading the few counters that the end of a process needs, since the library
// reads all there are; and removing, since it looks into each group before.
package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
)

// Limits of one group. Zero is none, or the kernel's default weight.
type Limits struct {
	Memory    int64 // bytes, without swap
	Processes int64 // processes and threads
	CPUMilli  int64 // thousandths of a core
	Weight    int64 // of CPU time against its siblings, 1 to 10,000, as v2 counts: 100 is the default
}

// CPU time is rationed by short periods, a tenth of the kernel's own: whoever computes on several cores at once uses a period's
// quota up at the beginning, and for that long keeps others waiting. The kernel takes no quota below a millisecond.
const (
	cpuPeriod   = 10 * time.Millisecond
	minCPUQuota = time.Millisecond
)

// cpuTime gives period and quota in microseconds; a quota of -1 is none.
func (l *Limits) cpuTime() (period uint64, quota int64) {
	us := cpuPeriod.Microseconds()
	if l.CPUMilli <= 0 {
		return uint64(us), -1
	}
	us = max(us, minCPUQuota.Microseconds()*1000/l.CPUMilli)
	return uint64(us), max(minCPUQuota.Microseconds(), us*l.CPUMilli/1000)
}

// Usage is what a group has used.
type Usage struct {
	CPU        time.Duration
	CPUKnown   bool
	Memory     int64
	MemoryPeak int64
	Processes  int64
	OOMKills   int64
}

// Group is the groups of one process, or of several that groups within it hold. Its methods are not for concurrent
// use, but for Usage, Processes, Full, Kill and Paths.
type Group interface {
	// Join are open `tasks` files, to each of which the process writes "0" (v1).
	Join() []int
	// Into is a directory to be born into (v2), or -1.
	Into() int
	Set(Limits) error
	Usage() (Usage, error)
	// Processes are how many are in it and in groups within it, threads counted.
	Processes() (int64, error)
	// Full reports whether the memory in it, groups within included, ever reached this group's own limit.
	Full() bool
	Empty() bool
	// Kill ends every process in the group; an error where this can't be had from the group.
	Kill() error
	// Delete removes the group, which must be empty, and closes its descriptors.
	Delete() error
	// Paths are the group's, by controller.
	Paths() map[string]string
}

// Tree is where one gateway's groups lie.
type Tree interface {
	// Enter moves the calling process, which must still have no descendants elsewhere, to where it does not
	// hinder its children's groups, and calls start, which makes the launcher, in between.
	Enter(start func() (pid int, err error)) error
	// New makes a group for one process; name has one part, or several, the last of them new ("facets/7").
	New(name string, l Limits) (Group, error)
	// NewParent makes a group that holds no process but other groups, by names below its own: its limits hold for all
	// of them together.
	NewParent(name string, l Limits) (Group, error)
	// Close kills what is left and removes the tree.
	Close() error
}

// Mode is which kind of cgroups a machine has.
type Mode int

// The modes.
const (
	None Mode = iota
	V1        // also hybrid: the controllers are v1's
	V2
)

func (m Mode) String() string {
	return [...]string{"none", "v1", "v2"}[m]
}

// Mount is where cgroups are mounted.
const Mount = "/sys/fs/cgroup"

// Detect says which kind this machine has.
func Detect() Mode {
	switch cgroups.Mode() {
	case cgroups.Unified:
		return V2
	case cgroups.Legacy, cgroups.Hybrid:
		return V1
	}
	return None
}

// Prefix begins the names of all trees.
const Prefix = "fgw-"

// Open prepares the tree of the given name, which begins with Prefix. What an earlier
// one of that name left must have been swept.
func Open(mode Mode, name string) (Tree, error) {
	if !strings.HasPrefix(name, Prefix) || strings.Contains(name, "/") {
		return nil, fmt.Errorf("cgroup tree named %q", name)
	}
	switch mode {
	case V1:
		return openV1(name)
	case V2:
		return openV2(name)
	}
	return nil, errors.New("this machine has no cgroups")
}

// Sweep kills every process in trees of that name, wherever they are, and removes them: what a gateway on the
// same data directory left when it was killed. It does not touch the caller's own group.
func Sweep(name string) error {
	var found []string
	filepath.WalkDir(Mount, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == name {
			found = append(found, path)
			return fs.SkipDir
		}
		return nil // a group that vanished meanwhile
	})
	for _, dir := range found {
		if err := clear(dir, 5*time.Second); err != nil {
			return fmt.Errorf("remove what an earlier gateway left: %w", err)
		}
	}
	return nil
}

// clear kills what is below dir, and removes it.
func clear(dir string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		killBelow(dir)
		err := removeBelow(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond) // the kernel tells no one when a v1 group becomes empty
	}
}

// killBelow kills each process below dir but the caller.
func killBelow(dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		procs, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, p := range bytes.Fields(procs) {
			if pid, err := strconv.Atoi(string(p)); err == nil && pid != os.Getpid() && pid > 0 {
				if proc, err := os.FindProcess(pid); err == nil {
					proc.Kill()
					proc.Release()
				}
			}
		}
		return nil
	})
}

// removeBelow removes dir and the groups in it, deepest first.
func removeBelow(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeBelow(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// ownPaths are the calling process's groups by controller; v2's is "".
func ownPaths() (map[string]string, error) { return PathsOf("self") }

// PathsOf are the groups of the process pid by controller; v2's is "".
func PathsOf(pid string) (map[string]string, error) {
	f, err := os.Open("/proc/" + pid + "/cgroup")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	paths := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		part := strings.SplitN(s.Text(), ":", 3)
		if len(part) != 3 {
			continue
		}
		for _, controller := range strings.Split(part[1], ",") {
			paths[controller] = part[2]
		}
	}
	return paths, nil
}

// number reads a file with one number in it.
func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
}

// field reads the number behind key in a file of "key number" lines.
func field(path, key string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if k, v, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" ")); ok && string(k) == key {
			return strconv.ParseInt(string(v), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s", path, key)
}
