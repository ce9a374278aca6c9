package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2"
	"golang.org/x/sys/unix"
)

// v2Tree is one directory. A v2 group either holds processes or gives
// controllers to groups within it, never both: where the tree lies below sandboxd's own
// group, everyone in that moves into a leaf beside the tree.
type v2Tree struct {
	parent string // the group in which the tree lies, as a path below Mount
	base   string // the tree's directory, absolute
	leaf   string // where sandboxd is, absolute; "" where it stays where it was
	swap   bool
}

// leafName does not begin with Prefix: it may hold the shell from which a gateway was
// started, and is never swept.
const leafName = "fgw.main"

// v2Controllers are those that limit a process.
var v2Controllers = []string{"memory", "pids", "cpu"}

func openV2(name string) (Tree, error) {
	own, err := ownPaths()
	if err != nil {
		return nil, err
	}
	parent, err := placeV2(own[""])
	if err != nil {
		return nil, err
	}
	t := &v2Tree{parent: parent, base: filepath.Join(Mount, parent, name)}
	if err := os.Mkdir(t.base, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	return t, nil
}

// placeV2 chooses the group in which the tree lies: sandboxd's own where it may give its controllers away,
// that is where nobody else is in it (a service, a scope of its own); the root otherwise, for root alone.
func placeV2(own string) (string, error) {
	if filepath.Base(own) == leafName {
		return filepath.Dir(own), nil // an earlier gateway of this session arranged it
	}
	if own == "" || own == "/" {
		return "/", nil
	}
	dir := filepath.Join(Mount, own)
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return "", fmt.Errorf("look into my own cgroup: %w", err)
	}
	if others := len(bytes.Fields(procs)) > 1; !others && unix.Access(dir, unix.W_OK) == nil && has(dir, "cgroup.controllers") {
		return own, nil
	}
	if unix.Access(filepath.Join(Mount, "cgroup.subtree_control"), unix.W_OK) == nil {
		return "/", nil
	}
	if unix.Access(dir, unix.W_OK) == nil && has(dir, "cgroup.controllers") {
		return own, nil // shared with others of this user, which move into the leaf too
	}
	return "", fmt.Errorf("cgroup %s is not delegated to this user", own)
}

// has reports whether all controllers stand in one of dir's files.
func has(dir, file string) bool {
	b, _ := os.ReadFile(filepath.Join(dir, file))
	there := strings.Fields(string(b))
	return !slices.ContainsFunc(v2Controllers, func(c string) bool { return !slices.Contains(there, c) })
}

// Enter starts the launcher from within the tree, so that its cgroup namespace begins there: a launcher whose
// namespace began elsewhere may not put a child into the tree (nsdelegate).
func (t *v2Tree) Enter(start func() (int, error)) error {
	home, err := ownPaths()
	if err != nil {
		return err
	}
	back := filepath.Join(Mount, home[""])
	if err := move(t.base, os.Getpid()); err != nil {
		return err
	}
	pid, startErr := start()
	if leaf := filepath.Join(t.base, "launcher"); startErr == nil {
		if startErr = mkdir(leaf); startErr == nil {
			startErr = move(leaf, pid)
		}
	}
	if t.parent != "/" {
		// The parent gives its controllers away: everyone in it has to leave.
		t.leaf = filepath.Join(Mount, t.parent, leafName)
		back = t.leaf
		if err := mkdir(t.leaf); err != nil {
			return err
		}
		if err := moveAll(filepath.Join(Mount, t.parent), t.leaf); err != nil {
			return err
		}
	}
	if err := move(back, os.Getpid()); err != nil {
		return err
	}
	if startErr != nil {
		return startErr
	}
	for _, dir := range []string{filepath.Join(Mount, t.parent), t.base, filepath.Join(t.base, "facets")} {
		if err := mkdir(dir); err != nil {
			return err
		}
		if has(dir, "cgroup.subtree_control") {
			continue
		}
		err := give(dir)
		// A process that another forked while they were moved was left behind; the group must be empty.
		for range 100 {
			if !errors.Is(err, unix.EBUSY) || t.leaf == "" || dir != filepath.Join(Mount, t.parent) {
				break
			}
			time.Sleep(time.Millisecond)
			if err = moveAll(dir, t.leaf); err == nil {
				err = give(dir)
			}
		}
		if err != nil {
			return err
		}
	}
	t.swap = exists(filepath.Join(t.base, "memory.swap.max"))
	facets := filepath.Join(t.base, "facets", "cpu.weight")
	return os.WriteFile(facets, strconv.AppendInt(nil, parentWeights["facets"], 10), 0)
}

// give lets groups within dir have the controllers.
func give(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0); err != nil {
		return fmt.Errorf("give cgroup controllers to %s: %w", filepath.Base(dir), err)
	}
	return nil
}

func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make cgroup: %w", err)
	}
	return nil
}

func move(dir string, pid int) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0); err != nil {
		return fmt.Errorf("move process into cgroup %s: %w", filepath.Base(dir), err)
	}
	return nil
}

// moveAll moves every process from one group to another.
func moveAll(from, to string) error {
	procs, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, p := range bytes.Fields(procs) {
		pid, _ := strconv.Atoi(string(p))
		if err := move(to, pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func (t *v2Tree) resources(l Limits, parent bool) *cgroup2.Resources {
	r := &cgroup2.Resources{CPU: &cgroup2.CPU{}}
	if l.Memory > 0 {
		var none int64
		group := !parent // all of a facet or nothing, but not all of a supervisor's children for one
		r.Memory = &cgroup2.Memory{Max: &l.Memory, OOMGroup: &group}
		if t.swap {
			r.Memory.Swap = &none
		}
	}
	if l.Processes > 0 {
		r.Pids = &cgroup2.Pids{Max: l.Processes}
	}
	period, q := l.cpuTime()
	var quota *int64
	if q > 0 {
		quota = &q
	}
	r.CPU.Max = cgroup2.NewCPUMax(quota, &period)
	if l.Weight > 0 {
		w := uint64(l.Weight)
		r.CPU.Weight = &w
	}
	return r
}

func (t *v2Tree) NewParent(name string, l Limits) (Group, error) {
	g, err := t.make(name, l, true)
	if err != nil {
		return nil, err
	}
	if err := give(g.dir); err != nil {
		g.Delete()
		return nil, err
	}
	return g, nil
}

func (t *v2Tree) make(name string, l Limits, parent bool) (*v2Group, error) {
	dir := filepath.Join(t.base, name)
	if err := mkdir(dir); err != nil {
		return nil, err
	}
	group, err := filepath.Rel(Mount, dir)
	if err != nil {
		return nil, err
	}
	g := &v2Group{tree: t, parent: parent, dir: dir, path: "/" + group, into: -1}
	if g.manager, err = cgroup2.Load(g.path); err != nil {
		return nil, fmt.Errorf("make cgroup %s: %w", name, err)
	}
	if err := g.Set(l); err != nil {
		g.Delete()
		return nil, err
	}
	return g, nil
}

func (t *v2Tree) New(name string, l Limits) (Group, error) {
	g, err := t.make(name, l, false)
	if err != nil {
		return nil, err
	}
	if g.into, err = unix.Open(g.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		g.Delete()
		return nil, fmt.Errorf("open cgroup %s: %w", name, err)
	}
	return g, nil
}

// Close kills what is left and takes the tree away. Where no other gateway needs it, the parent group is
// given back to those who were in it.
func (t *v2Tree) Close() error {
	if exists(t.base) {
		if err := clear(t.base, 5*time.Second); err != nil {
			return err
		}
	}
	if t.leaf == "" || !exists(t.leaf) {
		return nil
	}
	parent := filepath.Join(Mount, t.parent)
	err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("-memory -pids -cpu"), 0)
	if errors.Is(err, unix.EBUSY) {
		return nil // another tree lies beside this one
	}
	if err == nil {
		err = moveAll(t.leaf, parent)
	}
	if err != nil {
		return fmt.Errorf("take cgroup controllers back: %w", err)
	}
	return os.Remove(t.leaf)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

type v2Group struct {
	tree    *v2Tree
	manager *cgroup2.Manager
	parent  bool   // it holds groups
	dir     string // absolute
	path    string // below Mount
	once    sync.Once
	into    int
}

func (g *v2Group) Join() []int { return nil }
func (g *v2Group) Into() int   { return g.into }

func (g *v2Group) Paths() map[string]string {
	paths := map[string]string{}
	for _, c := range v2Controllers {
		paths[c] = g.path
	}
	return paths
}

func (g *v2Group) Set(l Limits) error {
	if err := g.manager.Update(g.tree.resources(l, g.parent)); err != nil {
		return fmt.Errorf("set cgroup limits: %w", err)
	}
	return nil
}

func (g *v2Group) Usage() (u Usage, err error) {
	var errs [4]error
	u.Memory, errs[0] = number(filepath.Join(g.dir, "memory.current"))
	if u.MemoryPeak, err = number(filepath.Join(g.dir, "memory.peak")); err != nil {
		u.MemoryPeak = u.Memory // before Linux 5.19
	}
	u.OOMKills, errs[1] = field(filepath.Join(g.dir, "memory.events"), "oom_kill")
	u.Processes, errs[2] = g.Processes()
	usec, err := field(filepath.Join(g.dir, "cpu.stat"), "usage_usec")
	u.CPU, u.CPUKnown, errs[3] = time.Duration(usec)*time.Microsecond, err == nil, err
	return u, errors.Join(errs[:]...)
}

func (g *v2Group) Processes() (int64, error) { return number(filepath.Join(g.dir, "pids.current")) }

// Full goes by the events of this very group: memory.events counts those of the groups within it as well.
func (g *v2Group) Full() bool {
	n, err := field(filepath.Join(g.dir, "memory.events.local"), "oom")
	return err == nil && n > 0
}

func (g *v2Group) Empty() bool {
	n, err := field(filepath.Join(g.dir, "cgroup.events"), "populated")
	return err != nil || n == 0
}

func (g *v2Group) Kill() error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
}

func (g *v2Group) Delete() error {
	g.once.Do(func() {
		if g.into >= 0 {
			unix.Close(g.into)
		}
	})
	if err := unix.Rmdir(g.dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	return nil
}
