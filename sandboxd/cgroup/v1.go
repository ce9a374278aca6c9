package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// v1Tree lies below the group that sandboxd itself is in, in each hierarchy: whatever limits hold there
// hold for the whole gateway.
type v1Tree struct {
	name       string
	own        map[string]string // sandboxd's groups by controller, where they are mounted
	subsystems []cgroup1.Subsystem
	swap       bool
}

// v1Controllers are the hierarchies that are used, of those that there are.
var v1Controllers = []cgroup1.Name{cgroup1.Memory, cgroup1.Pids, cgroup1.Cpu, cgroup1.Cpuacct}

func openV1(name string) (Tree, error) {
	defaults, err := cgroup1.Default()
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	t := &v1Tree{name: name, own: map[string]string{}}
	path := cgroup1.NestedPath("")
	for _, s := range defaults {
		if !slices.Contains(v1Controllers, s.Name()) {
			continue
		}
		own, err := path(s.Name())
		if err != nil {
			continue // not a controller of ours
		}
		t.own[string(s.Name())] = own
		t.subsystems = append(t.subsystems, s)
	}
	_, err = os.Stat(filepath.Join(Mount, "memory", t.own["memory"], "memory.memsw.limit_in_bytes"))
	t.swap = err == nil
	// The parents weigh the facets together against gateway and workers.
	for parent, weight := range parentWeights {
		if _, err := cgroup1.New(t.path(parent), &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: shares(weight)}},
			cgroup1.WithHierarchy(t.hierarchy)); err != nil {
			t.Close()
			return nil, fmt.Errorf("make cgroup %s: %w", parent, err)
		}
	}
	return t, nil
}

// parentWeights: all facets together, however many, get a share that leaves the
// gateway and the SQL workers, which they all wait for, able to run.
var parentWeights = map[string]int64{"facets": 200}

// path is where the group of that name lies in each hierarchy.
func (t *v1Tree) path(name string) cgroup1.Path {
	return func(s cgroup1.Name) (string, error) {
		own, ok := t.own[string(s)]
		if !ok {
			return "", cgroup1.ErrControllerNotActive
		}
		return filepath.Join(own, t.name, name), nil
	}
}

func (t *v1Tree) hierarchy() ([]cgroup1.Subsystem, error) { return t.subsystems, nil }

func (t *v1Tree) Enter(start func() (int, error)) error {
	_, err := start()
	return err
}

func (t *v1Tree) resources(l Limits) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	if l.Memory > 0 {
		var never uint64
		r.Memory = &specs.LinuxMemory{Limit: &l.Memory, Swappiness: &never}
		if t.swap {
			r.Memory.Swap = &l.Memory // memory and swap together: no swap
		}
	}
	if l.Processes > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Processes}
	}
	period, quota := l.cpuTime()
	r.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota, Shares: shares(l.Weight)}
	return r
}

// shares turns v2's weight into v1's: 100 is 1024.
func shares(weight int64) *uint64 {
	s := uint64(max(2, weight*1024/100))
	if weight <= 0 {
		s = 1024
	}
	return &s
}

func (t *v1Tree) NewParent(name string, l Limits) (Group, error) {
	g, err := t.make(name, l)
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (t *v1Tree) make(name string, l Limits) (*v1Group, error) {
	control, err := cgroup1.New(t.path(name), t.resources(l), cgroup1.WithHierarchy(t.hierarchy))
	if err != nil {
		return nil, fmt.Errorf("make cgroup %s: %w", name, err)
	}
	g := &v1Group{tree: t, control: control, paths: map[string]string{}, dirs: map[string]string{}}
	g.memory.Store(l.Memory)
	for _, s := range t.subsystems {
		path, _ := t.path(name)(s.Name())
		g.paths[string(s.Name())], g.dirs[string(s.Name())] = path, filepath.Join(Mount, string(s.Name()), path)
	}
	return g, nil
}

func (t *v1Tree) New(name string, l Limits) (Group, error) {
	g, err := t.make(name, l)
	if err != nil {
		return nil, err
	}
	joined := map[string]bool{}
	for _, s := range t.subsystems {
		dir := g.dirs[string(s.Name())]
		// cpu and cpuacct are often one hierarchy under two names.
		real, err := filepath.EvalSymlinks(dir)
		if err == nil && joined[real] {
			continue
		}
		joined[real] = true
		fd, err := unix.Open(filepath.Join(dir, "tasks"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			g.Delete()
			return nil, fmt.Errorf("open cgroup %s: %w", name, err)
		}
		g.join = append(g.join, fd)
	}
	return g, nil
}

func (t *v1Tree) Close() error {
	var errs []error
	seen := map[string]bool{}
	for _, s := range t.subsystems {
		dir, err := filepath.EvalSymlinks(filepath.Join(Mount, string(s.Name()), t.own[string(s.Name())], t.name))
		if err == nil && !seen[dir] {
			seen[dir] = true
			errs = append(errs, clear(dir, 5*time.Second))
		}
	}
	return errors.Join(errs...)
}

type v1Group struct {
	tree    *v1Tree
	control cgroup1.Cgroup
	paths   map[string]string
	dirs    map[string]string
	memory  atomic.Int64 // the limit
	once    sync.Once
	join    []int
}

func (g *v1Group) Join() []int              { return g.join }
func (g *v1Group) Into() int                { return -1 }
func (g *v1Group) Paths() map[string]string { return g.paths }

func (g *v1Group) Set(l Limits) error {
	if l.Memory > g.memory.Load() && g.tree.swap {
		// Memory may never pass memory+swap. The library means to change the order itself when it
		// raises a limit, but exchanges the wrong two settings (v3.1.3).
		if err := g.control.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: &l.Memory}}); err != nil {
			return fmt.Errorf("set cgroup limits: %w", err)
		}
	}
	if err := g.control.Update(g.tree.resources(l)); err != nil {
		return fmt.Errorf("set cgroup limits: %w", err)
	}
	g.memory.Store(l.Memory)
	return nil
}

func (g *v1Group) Usage() (u Usage, err error) {
	memory := g.dirs["memory"]
	var errs [4]error
	u.Memory, errs[0] = number(filepath.Join(memory, "memory.usage_in_bytes"))
	u.MemoryPeak, errs[1] = number(filepath.Join(memory, "memory.max_usage_in_bytes"))
	u.OOMKills, errs[2] = field(filepath.Join(memory, "memory.oom_control"), "oom_kill")
	u.Processes, errs[3] = g.Processes()
	if dir := g.dirs["cpuacct"]; dir != "" {
		ns, err := number(filepath.Join(dir, "cpuacct.usage"))
		u.CPU, u.CPUKnown = time.Duration(ns), err == nil
	}
	return u, errors.Join(errs[:]...)
}

func (g *v1Group) Processes() (int64, error) {
	return number(filepath.Join(g.dirs["pids"], "pids.current"))
}

// fullSlack is how far below its limit a full group's peak may stay: the kernel charges up to 64 pages at once.
const fullSlack = 512 << 10

// Full goes by the peak: v1 tells of no limit that was reached but by failcnt, which Linux 6.18 leaves at 0.
func (g *v1Group) Full() bool {
	limit := g.memory.Load()
	peak, err := number(filepath.Join(g.dirs["memory"], "memory.max_usage_in_bytes"))
	return err == nil && limit > 0 && peak >= limit-fullSlack
}

func (g *v1Group) Empty() bool {
	n, err := g.Processes()
	return err != nil || n == 0
}

// Kill is the pid namespace's on v1: there is no such file, and a signal to each would race against fork.
func (g *v1Group) Kill() error { return errors.ErrUnsupported }

// Delete removes the directories itself: the library first walks each of them for processes, which takes
// 1 ms, and the kernel refuses to remove a group that has any.
func (g *v1Group) Delete() error {
	g.once.Do(func() {
		for _, fd := range g.join {
			unix.Close(fd)
		}
	})
	for _, dir := range g.dirs {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
	return nil
}
