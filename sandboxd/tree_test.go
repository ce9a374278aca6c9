package sandboxd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// supervisor starts a facet that may have children.
func (b *sandbox) supervisor(t testing.TB, l protocol.Limits) *facet {
	t.Helper()
	return b.at(t, l, protocol.Place{Supervisor: true})
}

// child starts a facet under another.
func (b *sandbox) child(t testing.TB, up *facet, l protocol.Limits) *facet {
	t.Helper()
	return b.at(t, l, protocol.Place{Under: up.Process})
}

func (b *sandbox) at(t testing.TB, l protocol.Limits, at protocol.Place) *facet {
	t.Helper()
	f, err := b.try(t, b.exe, l, at)
	if err != nil {
		t.Fatalf("spawn: %v", err)
	}
	f.do(t, "hello")
	return f
}

// dir is the directory of a facet's group, or of one around it, for one controller.
func (f *facet) dir(t testing.TB, controller string, up int) string {
	t.Helper()
	c, err := f.Confinement(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cgroup.Mount, controller, c.Cgroups[controller])
	if cgroup.Detect() == cgroup.V2 {
		dir = filepath.Join(cgroup.Mount, c.Cgroups[controller])
	}
	for range up {
		dir = filepath.Dir(dir)
	}
	return dir
}

// threads has a facet make some that stay.
func (f *facet) threads(t testing.TB, n int) {
	t.Helper()
	f.do(t, fmt.Sprint("threads ", n))
	eventually(t, "the threads are there", func() bool {
		s, err := f.Stats(t.Context())
		return err == nil && s.Processes > int64(n)
	})
}

var tribe = protocol.Limits{MemoryBytes: 128 << 20, Processes: 40, CPUMilli: 500}

// Children that each stay within what they may have can't together pass what their supervisor may.
func TestTreeMemory(t *testing.T) {
	b := newSandbox(t)
	up := b.supervisor(t, tribe)
	own := protocol.Limits{MemoryBytes: 110 << 20, Processes: 12, CPUMilli: 500}
	modest, greedy := b.child(t, up, own), b.child(t, up, own)
	modest.do(t, "alloc 20")
	greedy.ask(t, "alloc 100")
	if e := greedy.end(t); !e.OOM || e.Whose != protocol.OfSupervisor || e.Limit != tribe.MemoryBytes || e.MemoryPeak >= own.MemoryBytes {
		t.Errorf("together with its sibling: %+v (%v)", e, e)
	}
	for _, f := range []*facet{up, modest} {
		if f.do(t, "hello") != "hello" {
			t.Error("who held less is gone")
		}
	}
	one := b.child(t, up, protocol.Limits{MemoryBytes: 32 << 20, Processes: 12, CPUMilli: 500})
	one.ask(t, "alloc 100")
	if e := one.end(t); e.String() != "out of memory (limit 32 MiB)" || e.Whose != protocol.OfProcess {
		t.Errorf("alone beyond its own limit: %+v (%v)", e, e)
	}
	up.ask(t, "alloc 200")
	if e := up.end(t); e.String() != "out of memory (limit 128 MiB for it and its children)" {
		t.Errorf("the supervisor: %+v (%v)", e, e)
	}
	if modest.do(t, "hello") != "hello" {
		t.Error("the supervisor's end took a child with it")
	}
}

func TestTreeProcesses(t *testing.T) {
	b := newSandbox(t)
	up := b.supervisor(t, tribe) // 40, of which children have 24
	a := b.child(t, up, tribe)
	z := b.child(t, up, tribe)
	a.threads(t, 8)
	z.ask(t, "threads 20")
	if e := z.end(t); e.Code != 2 {
		t.Errorf("more threads than are left: %v", e)
	}
	a.threads(t, 6) // with what it had
	eventually(t, "it has 21 threads", func() bool {
		s, err := a.Stats(t.Context())
		if err == nil && s.Processes < 21 {
			a.do(t, "threads 1")
		}
		return err == nil && s.Processes >= 21
	})
	if _, err := b.try(t, b.exe, tribe, protocol.Place{Under: up.Process}); !errors.Is(err, protocol.ErrFull) || !strings.Contains(err.Error(), "it is 40") {
		t.Errorf("a child where no room is left: %v", err)
	}
	up.threads(t, 6) // its own share is untouched
}

func TestTreeCPU(t *testing.T) {
	b := newSandbox(t)
	up := b.supervisor(t, tribe)
	two := []*facet{b.child(t, up, tribe), b.child(t, up, tribe)}
	used := func() (sum time.Duration) {
		for _, f := range two {
			s, err := f.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sum += s.CPU
		}
		return sum
	}
	before, start := used(), time.Now()
	for _, f := range two {
		f.ask(t, "spin")
	}
	for _, f := range two {
		if _, err := f.lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	// 45 ms of each 100; a period may have begun just before, and one just after.
	if most := took*45/100 + 100*time.Millisecond; used()-before > most {
		t.Errorf("two children used %v within %v; they may use %v", used()-before, took, most)
	}
	stat, err := os.ReadFile(filepath.Join(two[0].dir(t, "cpu", 1), "cpu.stat"))
	if err != nil || strings.Contains(string(stat), "nr_throttled 0\n") {
		t.Errorf("their common group was never throttled: %v, %s", err, stat)
	}
}

// Children that compute on many threads leave their sibling its part, where all together use up what they may.
func TestTreeCPUIsShared(t *testing.T) {
	b := newSandbox(t)
	l := protocol.Limits{MemoryBytes: 256 << 20, Processes: 200, CPUMilli: 1000}
	up := b.supervisor(t, l)
	one, greedy, more := b.child(t, up, l), b.child(t, up, l), b.child(t, up, l)
	used := func(f *facet) time.Duration {
		s, err := f.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.CPU
	}
	one.do(t, "burn 1")
	greedy.do(t, "burn 20")
	more.do(t, "burn 20")
	ones, all := used(one), used(one)+used(greedy)+used(more)
	var sum time.Duration
	eventually(t, "they have computed for a while", func() bool {
		sum = used(one) + used(greedy) + used(more) - all
		return sum > 900*time.Millisecond
	})
	share := float64(used(one)-ones) / float64(sum)
	t.Logf("one thread beside forty of two siblings got %.0f %%", 100*share)
	// A third would be its part. Where the others run on more cores than one before all have to wait, it gets less.
	if share < 0.1 {
		t.Errorf("one thread beside forty of two siblings got %.0f %%", 100*share)
	}
}

// A child that may have children of its own bounds them as it is bounded itself.
func TestTreeInATree(t *testing.T) {
	b := newSandbox(t)
	up := b.supervisor(t, protocol.Limits{MemoryBytes: 256 << 20, Processes: 100, CPUMilli: 1000})
	mid := b.at(t, protocol.Limits{MemoryBytes: 64 << 20, Processes: 64, CPUMilli: 1000}, protocol.Place{Under: up.Process, Supervisor: true})
	own := protocol.Limits{MemoryBytes: 60 << 20, Processes: 20, CPUMilli: 1000}
	modest, greedy := b.child(t, mid, own), b.child(t, mid, own)
	aunt := b.child(t, up, own)
	modest.do(t, "alloc 12")
	greedy.ask(t, "alloc 100")
	if e := greedy.end(t); e.String() != "out of memory (limit 64 MiB for its supervisor and all below it)" {
		t.Errorf("grandchildren together: %+v (%v)", e, e)
	}
	for _, f := range []*facet{up, mid, modest, aunt} {
		if f.do(t, "hello") != "hello" {
			t.Error("who held less is gone")
		}
	}
	if up, in := aunt.dir(t, "memory", 1), mid.dir(t, "memory", 2); up != in {
		t.Errorf("the inner tree lies in %s, its supervisor's other children in %s", in, up)
	}
}

// A tree is there as long as anyone is in it, and no longer.
func TestTreeEnds(t *testing.T) {
	b := newSandbox(t)
	up := b.supervisor(t, tribe)
	kid := b.child(t, up, tribe)
	base := kid.dir(t, "pids", 2)
	up.Kill()
	up.end(t)
	eventually(t, "the supervisor's own group is removed", func() bool {
		_, err := os.Stat(filepath.Join(base, "own"))
		return errors.Is(err, os.ErrNotExist)
	})
	if kid.do(t, "hello") != "hello" || kid.dir(t, "pids", 2) != base {
		t.Error("the supervisor's end took a child with it, or out of its tree")
	}
	if _, err := b.try(t, b.exe, tribe, protocol.Place{Under: up.Process}); !errors.Is(err, protocol.ErrGone) {
		t.Errorf("a child of a supervisor that is gone: %v", err)
	}
	kid.Kill()
	kid.end(t)
	eventually(t, "the tree is removed", func() bool {
		_, err := os.Stat(base)
		return errors.Is(err, os.ErrNotExist)
	})
	if _, err := b.try(t, b.exe, tribe, protocol.Place{Under: b.spawn(t, small).Process}); !errors.Is(err, protocol.ErrRefused) {
		t.Errorf("a child of a facet that may have none: %v", err)
	}
}

// What the gateway asks for a child is held to what its supervisor has.
func TestTreeLimits(t *testing.T) {
	b := newSandbox(t)
	read := func(f *facet, up int) string {
		t.Helper()
		files := map[string]string{"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.cfs_quota_us"}
		if cgroup.Detect() == cgroup.V2 {
			files["memory"], files["cpu"] = "memory.max", "cpu.max"
		}
		s := ""
		for _, c := range []string{"memory", "pids", "cpu"} {
			text, err := os.ReadFile(filepath.Join(f.dir(t, c, up), files[c]))
			if err != nil {
				t.Fatal(err)
			}
			s += " " + strings.Fields(string(text))[0]
		}
		return s
	}
	// The first finds no tree ready, the others one with the limits of the one before.
	for _, l := range []protocol.Limits{
		{MemoryBytes: 64 << 20, Processes: 64, CPUMilli: 400},
		{MemoryBytes: 256 << 20, Processes: 100, CPUMilli: 1000},
		{MemoryBytes: 128 << 20, Processes: 32, CPUMilli: 200},
	} {
		up := b.supervisor(t, l)
		kid := b.child(t, up, protocol.Limits{MemoryBytes: 1 << 40, Processes: 1 << 20, CPUMilli: 1 << 20})
		all := kidsLimits(l)
		for _, test := range []struct {
			what string
			got  string
			want protocol.Limits
		}{{"the tree", read(up, 1), l}, {"the supervisor", read(up, 0), l}, {"all children", read(kid, 1), all}, {"a child", read(kid, 0), all}} {
			if want := fmt.Sprint(" ", test.want.MemoryBytes, " ", test.want.Processes, " ", test.want.CPUMilli*10); test.got != want {
				t.Errorf("of %+v %s has%s, want%s", l, test.what, test.got, want)
			}
		}
		eventually(t, "trees are ready", func() bool {
			b.slots.trees.mu.Lock()
			defer b.slots.trees.mu.Unlock()
			return len(b.slots.trees.ready) == treesReady
		})
	}
	kid := b.child(t, b.supervisor(t, tribe), small)
	if err := kid.SetLimits(t.Context(), protocol.Limits{MemoryBytes: 1 << 40, Processes: 1 << 20, CPUMilli: 1 << 20}); err != nil {
		t.Error(err)
	}
	if all := kidsLimits(tribe); read(kid, 0) != fmt.Sprint(" ", all.MemoryBytes, " ", all.Processes, " ", all.CPUMilli*10) {
		t.Errorf("limits that were raised are%s", read(kid, 0))
	}
}

// A limit around the whole gateway is none of the facet's, nor of its supervisor's.
func TestLimitOfTheMachine(t *testing.T) {
	b := newSandbox(t)
	alone := b.spawn(t, small)
	kid := b.child(t, b.supervisor(t, tribe), small)
	file := "memory.limit_in_bytes"
	if cgroup.Detect() == cgroup.V2 {
		file = "memory.max"
	}
	around := filepath.Join(alone.dir(t, "memory", 1), file)
	if err := os.WriteFile(around, []byte(strconv.Itoa(40<<20)), 0); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*facet{alone, kid} {
		f.ask(t, "alloc 50")
		if e := f.end(t); e.String() != "killed because the machine is out of memory" {
			t.Errorf("%+v (%v)", e, e)
		}
	}
}

func TestManyTrees(t *testing.T) {
	b := newSandbox(t)
	many := 64
	if testing.Short() {
		many = 16
	}
	failed := make(chan error, many)
	for range cap(failed) {
		go func() {
			up, err := b.try(t, b.exe, tribe, protocol.Place{Supervisor: true})
			if err != nil {
				failed <- err
				return
			}
			var kids []*facet
			for range 3 {
				kid, e := b.try(t, b.exe, tribe, protocol.Place{Under: up.Process})
				if err = e; err != nil {
					break
				}
				kids = append(kids, kid)
			}
			for _, f := range append(kids, up) {
				f.Kill()
				<-f.Done()
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "cgroups are removed", func() bool { return len(groupDirs(b.data.tree(), "facets")) <= slotsReady+treesReady })
}
