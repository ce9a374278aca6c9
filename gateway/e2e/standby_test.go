package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// standbys are the processes in cgroups of facets that are no running facet's.
func standbys(g *rig.Gateway) (pids []int) {
	g.T.Helper()
	var list []struct{ PID *int }
	g.JSON(&list, "facets", "ls")
	known := map[int]bool{}
	for _, f := range list {
		if f.PID != nil {
			known[*f.PID] = true
		}
	}
	for _, p := range rig.Descendants(g.PID()) {
		if !known[p.PID] && inFacetGroup(p.PID) {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

func inFacetGroup(pid int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return strings.Contains(string(text), "/facets/")
}

// oneStandby waits until exactly one process is kept ready.
func oneStandby(g *rig.Gateway) (pid int) {
	g.T.Helper()
	rig.Eventually(g.T, 10*time.Second, "one process is kept ready", func() bool {
		found := standbys(g)
		if len(found) == 1 {
			pid = found[0]
		}
		return len(found) == 1
	})
	return pid
}

func TestStandbyBecomesAFacet(t *testing.T) {
	g := probes(t)
	g.Text("GET", "/t/a/probe/hello", "")
	for _, object := range []string{"b", "c"} {
		ready := oneStandby(g)
		w := whoIs(g, "/t/"+object+"/probe")
		d := g.Inspect("t/" + object + "/probe")
		if d.PID != ready {
			t.Errorf("%s is process %d, %d was kept ready", object, d.PID, ready)
		}
		if string(w.Object) != object || w.Facet != "probe" || w.Version != 1 {
			t.Errorf("%s takes itself for %+v", object, w)
		}
		g.Text("POST", "/t/"+object+"/probe/incr", "")
		if n := g.Text("GET", "/t/"+object+"/probe/read", ""); n != "1" {
			t.Errorf("%s counts %s: it is not its own database", object, n)
		}
	}
}

// A process that was kept ready lives as any other: it is aborted, and its facet comes back in the next one.
func TestAbortWhileOneIsKeptReady(t *testing.T) {
	g := probes(t)
	g.Text("POST", "/t/a/probe/incr", "")
	ready := oneStandby(g)
	g.Must("facets", "abort", "t/a/probe")
	if n := g.Text("GET", "/t/a/probe/read", ""); n != "1" {
		t.Errorf("the next instance reads %s", n)
	}
	if d := g.Inspect("t/a/probe"); d.PID != ready {
		t.Errorf("it is process %d, %d was kept ready", d.PID, ready)
	}
	oneStandby(g)
}

func TestDeployWhileOneIsKeptReady(t *testing.T) {
	g := probes(t)
	g.Text("GET", "/t/a/probe/hello", "")
	old := oneStandby(g)
	g.Must("deploy", rig.App(t, "probe", "second"), "--namespace", "t", "--app", "probe")
	if w := whoIs(g, "/t/b/probe"); w.Edition != "second" || w.Version != 2 {
		t.Errorf("after a deploy: %+v", w)
	}
	if d := g.Inspect("t/b/probe"); d.PID == old {
		t.Error("a process of the old version became a facet of the new one")
	}
}

// What the kernel bounds a process by is set when it is born: one of other limits is of no use.
func TestStandbyOfOtherLimits(t *testing.T) {
	g := probes(t)
	g.Text("GET", "/t/a/probe/hello", "")
	ready := oneStandby(g)
	for _, limit := range []string{"memory=100MiB", "cpu=0.5", "processes=40"} {
		g.Must("namespaces", "set", "t", limit)
		object := strings.NewReplacer("=", "-", ".", "-").Replace(limit)
		g.Text("GET", "/t/"+object+"/probe/hello", "")
		if d := g.Inspect("t/" + object + "/probe"); d.PID == ready {
			t.Errorf("with %s a process of other limits was used", limit)
		}
	}
}

func TestStandbysEndWithTheGateway(t *testing.T) {
	g := probes(t)
	g.Text("GET", "/t/a/probe/hello", "")
	pid := oneStandby(g)
	g.Stop() // looks for what outlives it
	if inFacetGroup(pid) {
		t.Error("a process that was kept ready outlived the gateway")
	}
}

// A bundle whose process does more than wait before it is anyone's gets none, until much later.
func TestBadStandbys(t *testing.T) {
	g := probes(t)
	for _, test := range []struct{ edition, says string }{
		{"early-exit", "it ended: exit status 4"},
		{"early-print", "hello from nobody"},
		{"early-spin", "it computed for"},
		{"early-grow", "of memory"},
	} {
		t.Run(test.edition, func(t *testing.T) {
			g.T = t
			g.Deploy(rig.App(t, "hostile", test.edition), test.edition, "h")
			good := "/" + test.edition + "/good/h/"
			g.Text("GET", good, "")
			rig.Eventually(t, 20*time.Second, "the gateway tells of it", func() bool {
				return strings.Contains(g.Log(), "did more than wait") && strings.Contains(g.Log(), test.says)
			})
			g.Must("facets", "abort", test.edition+"/good/h")
			g.Text("GET", good, "") // as if there never had been one
			g.Text("GET", "/t/"+test.edition+"/probe/hello", "")
			oneStandby(g) // the probe's; the other would have been there before
		})
	}
}

// What a process printed before it was anyone's belongs into the log of the facet that it becomes.
func TestEarlyOutputIsLogged(t *testing.T) {
	g := rig.Start(t)
	g.Deploy(rig.App(t, "hostile", "early-print"), "t", "h")
	for range 5 { // in a process that was kept ready as in any other
		g.Text("GET", "/t/good/h/", "")
		g.Must("facets", "abort", "t/good/h")
	}
	rig.Eventually(t, 10*time.Second, "each line is in the log", func() bool {
		return strings.Count(g.Must("logs", "t/good/h"), "hello from nobody") == 5
	})
}
