package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// Children that each stay below their own limits together pass their supervisor's: the kernel keeps the sum, the
// cause is told which limit it was, and the others notice nothing.
func TestSupervisorsLimitsBoundTheSum(t *testing.T) {
	s := staged(t)
	s.Must("namespaces", "set", "t", "memory=128MiB", "processes=60", "cpu=0.5")
	t.Run("memory", func(t *testing.T) {
		s := s.at(t, "memory")
		s.plan("greedy", plan{"memory": 110 << 20})
		s.plan("small", plan{"memory": 32 << 20})
		s.expect("modest", "/hold?mb=20", "20")
		s.expect("modest", "/mem", "0")
		for name, says := range map[string]string{
			"greedy": "its supervisor's limit of 128MiB, for all that is below it together, was reached, and this facet held the most",
			"small":  "ran out of memory: its limit is 32MiB",
		} {
			if p := s.Refused(502, "facet_crashed", "GET", s.path("on", name, "/eat"), nil); !strings.Contains(p.Message, says) {
				t.Errorf("%s is told %q", name, p.Message)
			}
			if d := s.Inspect(s.address(name)); d.LastExit == nil || d.LastExit.Reason != "memory" {
				t.Errorf("%s: %+v", name, d.LastExit)
			}
		}
		s.expect("modest", "/mem", "1")
		if d := s.Inspect(s.address()); d.Usage.Starts != 1 || d.LastExit != nil {
			t.Errorf("the supervisor: %+v", d)
		}
		if p := s.Refused(502, "facet_crashed", "GET", "/t/memory/eat", nil); !strings.Contains(p.Message, "its limit of 128MiB is for it and its children together") {
			t.Errorf("the supervisor is told %q", p.Message)
		}
	})
	t.Run("processes", func(t *testing.T) {
		s := s.at(t, "processes")
		s.expect("calm", "/mem", "0")
		if got := number(t, s.group("calm", "pids"), "pids.max"); got != 16 { // not told, it can't take all that there is
			t.Errorf("a child may have %d processes and threads of 60", got)
		}
		s.done("abort", "calm", "")
		for _, name := range []string{"modest", "greedy", "third"} {
			s.plan(name, plan{"processes": 60})
		}
		s.expect("modest", "/threads?n=20", "20")
		if p := s.Refused(502, "facet_crashed", "GET", s.path("on", "greedy", "/threads?n=50"), nil); !strings.Contains(p.Message, "failed to create new OS thread") ||
			!strings.Contains(p.Message, "its limit is 60 processes and threads; its supervisor's, for all that is below it together, 60") {
			t.Errorf("the greedy one is told %q", p.Message)
		}
		kids := filepath.Dir(s.group("modest", "pids"))
		for most := number(t, kids, "pids.max"); number(t, kids, "pids.current") <= most-4; {
			s.expect("modest", "/threads?n=1", "1")
		}
		p := s.Refused(503, "overloaded", "GET", s.path("on", "third", "/count"), nil)
		if !strings.Contains(p.Message, "limit of 60 processes and threads") {
			t.Errorf("a third is told %q", p.Message)
		}
		if got := s.Text("GET", "/t/processes/threads?n=5", ""); strings.TrimSpace(got) != "5" {
			t.Errorf("the supervisor says %s", got)
		}
	})
	t.Run("cpu", func(t *testing.T) {
		s := s.at(t, "cpu")
		for _, name := range []string{"one", "two"} {
			s.expect(name, "/mem", "0")
			go s.Try("GET", s.path("on", name, "/spin"), nil)
		}
		used := func() float64 {
			return s.Inspect(s.address("one")).Usage.CPUSeconds + s.Inspect(s.address("two")).Usage.CPUSeconds
		}
		from, began := used(), time.Now()
		rig.Eventually(t, time.Minute, "they compute", func() bool { return used()-from >= 0.9 })
		// Less than 0.45 of each second, and two periods of 100 ms that were only begun. A busy machine takes longer.
		if took := time.Since(began); took.Seconds() < (0.9-0.1)/0.45 {
			t.Errorf("two children used 0.9 s of CPU within %s, with half a core for all", took)
		}
		kids := filepath.Dir(s.group("one", "cpu"))
		if stat, err := os.ReadFile(filepath.Join(kids, "cpu.stat")); err != nil || strings.Contains(string(stat), "nr_throttled 0\n") {
			t.Errorf("their common group was not throttled: %s %v", stat, err)
		}
		for _, name := range []string{"one", "two"} {
			s.done("abort", name, "")
		}
	})
}

// What a supervisor's children store together stays below its storage, and leaves it a part for itself.
func TestSupervisorsStorageBoundsTheSum(t *testing.T) {
	s := staged(t)
	s.Must("namespaces", "set", "t", "storage=16MiB")
	s = s.at(t, "studio")
	stored := 0
	for _, name := range []string{"one", "two", "three"} {
		s.script(name, "", `CREATE TABLE t (v)`)
		for range 20 {
			r := s.script(name, "", `INSERT INTO t VALUES (zeroblob(1000000))`)
			if f := r[0].Fault; f != nil {
				if f.Code != "storage_quota" || !strings.Contains(f.Message, "14 MiB together") {
					t.Errorf("%s is told %+v", name, f)
				}
				break
			}
			stored++
		}
	}
	if stored < 10 || stored > 14 {
		t.Errorf("three children stored %d MB, where 14 MiB are allowed", stored)
	}
	if out := s.Run("facets", "clone", s.address("one"), s.address("four")); out.Code == 0 || !strings.Contains(out.Stderr, "may take 14MiB together") {
		t.Errorf("a copy without room: exit %d %s", out.Code, out.Stderr)
	}
	s.Must("sql", s.address(), `CREATE TABLE decided (v); INSERT INTO decided VALUES (zeroblob(500000))`)
	s.done("delete", "one", "")
	if r := s.script("three", "", `INSERT INTO t VALUES (zeroblob(1000000))`); r[0].Fault != nil {
		t.Errorf("once another was deleted: %+v", r[0].Fault)
	}
}

// group is the directory of a child's group.
func (s *stage) group(name, controller string) string {
	s.T.Helper()
	path := s.Inspect(s.address(name)).Confinement.Cgroups[controller]
	if path == "" {
		s.T.Fatalf("%s has no group for %s", name, controller)
	}
	for _, mount := range []string{"/sys/fs/cgroup/" + controller, "/sys/fs/cgroup"} {
		if _, err := os.Stat(mount + path); err == nil {
			return mount + path
		}
	}
	s.T.Fatalf("no group %s", path)
	return ""
}

func number(t *testing.T, dir, file string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
