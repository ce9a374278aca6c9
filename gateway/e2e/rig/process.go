package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Process is one process, by its id and its start, so that another that is given the same
// id later is not taken for it.
type Process struct {
	PID  int
	Name string // argv[0] without its directory: fgw-gateway, fgw-sqld, …
	born string
}

// look reads what a process is; ok is false where there is none.
func look(pid int) (p Process, parent int, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, 0, false
	}
	name, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return p, 0, false
	}
	p = Process{PID: pid, born: fields[19], Name: name[strings.IndexByte(name, '(')+1:]}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(line) > 0 {
		arg, _, _ := strings.Cut(string(line), "\x00")
		p.Name = filepath.Base(arg)
	}
	parent, _ = strconv.Atoi(fields[1])
	return p, parent, true
}

// Alive tells whether the process has not ended.
func (p Process) Alive() bool {
	now, _, ok := look(p.PID)
	return ok && now.born == p.born
}

// Descendants are the processes that pid started, and theirs.
func Descendants(pid int) []Process {
	children := map[int][]Process{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, parent, ok := look(id); ok {
			children[parent] = append(children[parent], p)
		}
	}
	var found []Process
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		for _, p := range children[todo[0]] {
			found = append(found, p)
			todo = append(todo, p.PID)
		}
	}
	return found
}

// Named are the gateway's processes of one kind: fgw-gateway, fgw-launcher, fgw-sqld.
func (g *Gateway) Named(name string) []Process {
	return slices.DeleteFunc(Descendants(g.PID()), func(p Process) bool { return p.Name != name })
}

// PeakRSS is the most memory that the gateway process has held, in bytes.
func (g *Gateway) PeakRSS() int64 {
	g.T.Helper()
	own := g.Named("fgw-gateway")
	if len(own) != 1 {
		g.T.Fatalf("there are %d gateway processes", len(own))
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", own[0].PID))
	if err != nil {
		g.T.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kb << 10
		}
	}
	g.T.Fatal("the kernel does not tell the gateway's memory")
	return 0
}

// seen is what gateways of this run made, to be looked for at the end.
var seen struct {
	sync.Mutex
	processes map[Process]bool
	trees     map[string]bool // names of cgroups
}

// remember notes the gateway's processes and the name of its cgroups.
func remember(g *Gateway) {
	seen.Lock()
	defer seen.Unlock()
	if seen.processes == nil {
		seen.processes, seen.trees = map[Process]bool{}, map[string]bool{}
	}
	for _, p := range Descendants(g.PID()) {
		seen.processes[p] = true
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
		for part := range strings.SplitSeq(strings.ReplaceAll(string(text), "\n", "/"), "/") {
			if strings.HasPrefix(part, "fgw-") {
				seen.trees[part] = true
			}
		}
	}
}

// Remember notes what runs now, so that Main finds what outlives it. A test that
// kills parts of the gateway calls it before.
func (g *Gateway) Remember() { remember(g) }

// Cgroups are the directories of cgroups that this run's gateways made and that are still there.
func Cgroups() []string {
	seen.Lock()
	defer seen.Unlock()
	var found []string
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && seen.trees[d.Name()] {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// Mounts are the lines of this namespace's mount table that name the run's directories.
func Mounts() []string {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, work.dir) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// Orphans are processes of this run's gateways whose gateway is gone.
func Orphans() []Process {
	seen.Lock()
	defer seen.Unlock()
	var found []Process
	for p := range seen.processes {
		if p.Alive() {
			found = append(found, p)
		}
	}
	return found
}

// leftovers says what is left when no gateway runs any more.
func leftovers() []string {
	var found []string
	for _, p := range Orphans() {
		found = append(found, fmt.Sprintf("process %d (%s)", p.PID, p.Name))
	}
	for _, c := range Cgroups() {
		found = append(found, "cgroup "+c)
	}
	for _, m := range Mounts() {
		found = append(found, "mount "+m)
	}
	return found
}
