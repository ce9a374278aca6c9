package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The gateway, its SQL workers and its facets are one group to the scheduler. Where other work keeps the machine busy, a
// floor made of three processes that stand alone would get three times the gateway's share, and a ratio would say
// more about that work than about the gateway. So what is compared with the gateway, this program included, has a group
// beside it with the same weight, and the load generator has a third.

// leveled are the groups; empty where the machine has no such thing, and then the figures want a quiet machine.
type leveled struct {
	floors, load string
	before       string // where this program was
}

// level makes the groups and joins that of the floors. What is started from now on is in it.
func (b *bench) level() error {
	ours, err := cpuGroup(b.gateway.gatewayPID())
	if err != nil || ours == "" {
		return err
	}
	before, err := cpuGroup(os.Getpid())
	if err != nil {
		return err
	}
	i := strings.Index(ours, "/fgw-")
	if i < 0 {
		return fmt.Errorf("the gateway's group %s has an unknown name", ours)
	}
	l := leveled{before: before}
	for name, dir := range map[string]*string{"floors": &l.floors, "load": &l.load} {
		*dir = fmt.Sprintf("%s/bench-%s-%d", ours[:i], name, os.Getpid())
		if err := os.Mkdir(*dir, 0o755); err != nil {
			return err
		}
		b.atEnd(func() { removeGroup(*dir) })
	}
	b.groups = l
	b.atEnd(func() { joinGroup(l.before) })
	return joinGroup(l.floors)
}

// cpuGroup is the directory of the cgroup that decides a process's share of CPU time, "" where there is none.
func cpuGroup(pid int) (string, error) { return group(pid, "cpu") }

// group is the directory of a process's cgroup for one controller, "" where there is none.
func group(pid int, which string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == which {
				return filepath.Join("/sys/fs/cgroup", which, parts[2]), nil
			}
		}
		if dir := filepath.Join("/sys/fs/cgroup", parts[2]); parts[0] == "0" && exists(filepath.Join("/sys/fs/cgroup", "cgroup.controllers")) {
			return dir, nil
		}
	}
	return "", nil
}

// treeDir is the group in which a gateway and all its processes lie.
func treeDir(pid int, which string) (string, error) {
	dir, err := group(pid, which)
	if err != nil {
		return "", err
	}
	i := strings.Index(dir, "/fgw-")
	if i < 0 {
		return "", fmt.Errorf("the gateway's group %q has an unknown name", dir)
	}
	tree, _, _ := strings.Cut(dir[i+1:], "/")
	return dir[:i+1] + tree, nil
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// joinGroup moves the process that calls it, which is cheap; moving another is not.
func joinGroup(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// clientFirst lets the load generator have the processor whenever it asks for it, as a client does that is not on
// the machine: how long it waits for bombs itself is no answer's lateness. What it returns takes that back.
func (l *leveled) clientFirst() (func(), error) {
	if l.load == "" {
		return func() {}, nil
	}
	file, usual, most := filepath.Join(l.load, "cpu.weight"), "100", "10000"
	if v1 := filepath.Join(l.load, "cpu.shares"); exists(v1) {
		file, usual, most = v1, "1024", "102400"
	}
	return func() { os.WriteFile(file, []byte(usual), 0) }, os.WriteFile(file, []byte(most), 0)
}

// removeGroup waits until the last process, which was just killed, has left.
func removeGroup(dir string) {
	for range 100 {
		if err := os.Remove(dir); !errors.Is(err, syscall.EBUSY) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
