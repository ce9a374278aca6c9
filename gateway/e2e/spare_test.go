package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// A supervisor's process kept ready and the one beside it become a supervisor and the child that it starts first, each with data of its
// own; where another child comes first, or none, what lay beside ends.
func TestSpareBecomesTheFirstChild(t *testing.T) {
	s := staged(t)
	for _, object := range []string{"first", "second"} { // twice is a habit
		s.at(t, object).expect("kid", "/mem", "0")
	}
	two := func() (pids []int) {
		t.Helper()
		rig.Eventually(t, 10*time.Second, "two processes are kept ready", func() bool { pids = standbys(s.Gateway); return len(pids) == 2 })
		return pids
	}
	ready := two()
	third := s.at(t, "third")
	third.expect("kid", "/mem", "0", "1")
	if who := third.who("kid"); who.Name != "kid" {
		t.Errorf("the child takes itself for %+v", who)
	}
	up, down := s.Inspect(third.address()).PID, s.Inspect(third.address("kid")).PID
	if !slices.Contains(ready, up) || !slices.Contains(ready, down) {
		t.Errorf("the supervisor is process %d and its child %d; %v were kept ready", up, down, ready)
	}

	ready = two()
	s.at(t, "fourth").plan("kid", plan{}) // which starts the supervisor and no child
	up = s.Inspect("t/fourth/").PID
	ready = slices.DeleteFunc(ready, func(pid int) bool { return pid == up })
	if len(ready) != 1 {
		t.Fatalf("the supervisor is process %d, of none that was kept ready", up)
	}
	rig.Eventually(t, 10*time.Second, "what lay beside it has ended", func() bool { return !slices.Contains(standbys(s.Gateway), ready[0]) })
	s.at(t, "fourth").expect("kid", "/mem", "0")
}
