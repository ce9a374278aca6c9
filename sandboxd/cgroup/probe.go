package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Probe tries whether this user can have groups with limits. On v2 it moves nobody: it looks whether a
// group could be made where the tree would lie.
func Probe(mode Mode) error {
	name := fmt.Sprintf("%sprobe-%d", Prefix, os.Getpid())
	switch mode {
	case V1:
		t, err := openV1(name)
		if err != nil {
			return err
		}
		g, err := t.New("facets/0", Limits{Memory: 64 << 20, Processes: 16, CPUMilli: 1000, Weight: 100})
		if err == nil {
			err = g.Delete()
		}
		return errors.Join(err, t.Close())
	case V2:
		own, err := ownPaths()
		if err != nil {
			return err
		}
		parent, err := placeV2(own[""])
		if err != nil {
			return err
		}
		dir := filepath.Join(Mount, parent)
		if !has(dir, "cgroup.controllers") {
			return fmt.Errorf("cgroup %s lacks one of the controllers memory, pids and cpu", parent)
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return fmt.Errorf("make a cgroup: %w", err)
		}
		return os.Remove(filepath.Join(dir, name))
	}
	return errors.New("no cgroups are mounted at " + Mount)
}

// ProbeSwap tells whether swap can be limited.
func ProbeSwap(mode Mode) error {
	own, err := ownPaths()
	if err != nil {
		return err
	}
	file := filepath.Join(Mount, own[""], "memory.swap.max")
	if mode == V1 {
		file = filepath.Join(Mount, "memory", "memory.memsw.limit_in_bytes")
	}
	if own[""] == "/" && mode == V2 {
		return nil // the root group has no limits to look at
	}
	return unix.Access(file, unix.F_OK)
}

// ProbeKill tells whether a v2 group can be killed as a whole.
func ProbeKill() error {
	own, err := ownPaths()
	if err != nil || own[""] == "/" {
		return err
	}
	return unix.Access(filepath.Join(Mount, own[""], "cgroup.kill"), unix.F_OK)
}
