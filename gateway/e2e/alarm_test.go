package e2e_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
	"github.com/facetgateway/fgw/gateway/marks"
)

// rang is when a child's alarm rang, in milliseconds.
func (s *stage) rang(name string) (at []int64) {
	s.T.Helper()
	var all [][]int64
	s.Get(s.path("on", name, "/rang"), &all)
	for _, row := range all {
		at = append(at, row[0])
	}
	return at
}

// rangAsleep is rang for a facet that is not to be woken by the question.
func (s *stage) rangAsleep(address string) int {
	s.T.Helper()
	var all []struct{ N int }
	s.JSON(&all, "sql", address, "SELECT count(*) AS n FROM rang")
	return all[0].N
}

// Facets can set alarms here: for themselves, over one another, and take them back.
func TestFacetAlarms(t *testing.T) {
	s := staged(t)
	s.on("a", "/alarm?in=100ms")
	rig.Eventually(t, rawWait, "it rings", func() bool { return len(s.rang("a")) == 1 })
	rig.Eventually(t, rawWait, "it is over", func() bool { return s.on("a", "/alarm/get") == `"none"` })
	s.on("b", "/alarm?in=1h")
	at := s.on("b", "/alarm/get")
	s.on("b", "/alarm?in=2h")
	if later := s.on("b", "/alarm/get"); later <= at {
		t.Errorf("set over %s it is %s", at, later)
	}
	s.on("b", "/alarm?in=-1h") // what has passed is due at once
	rig.Eventually(t, rawWait, "it rings", func() bool { return len(s.rang("b")) == 1 })
	s.on("c", "/alarm?in=2s")
	s.on("c", "/alarm/delete")
	s.on("d", "/alarm?in=3s")
	rig.Eventually(t, rawWait, "a later one rings", func() bool { return len(s.rang("d")) == 1 })
	if n := len(s.rang("c")); n != 0 {
		t.Errorf("an alarm that was taken back rang %d times", n)
	}
	s.Text("GET", "/t/studio/alarm?in=100ms", "")
	rig.Eventually(t, rawWait, "the supervisor's rings", func() bool { return s.rangAsleep(s.address()) == 1 })
}

// An alarm is set if and only if its transaction commits.
func TestAlarmIsPartOfTheTransaction(t *testing.T) {
	s := staged(t)
	s.on("rolled", "/alarm?in=1h")
	at := s.on("rolled", "/alarm/get")
	s.on("rolled", "/alarm?in=10ms&tx=rollback")
	s.expect("rolled", "/read", "0")
	s.expect("rolled", "/alarm/get", at)
	s.on("done", "/alarm?in=10ms&tx=commit")
	s.expect("done", "/read", "1")
	rig.Eventually(t, rawWait, "it rings", func() bool { return len(s.rang("done")) == 1 })
	if n := len(s.rang("rolled")); n != 0 {
		t.Errorf("an alarm of a transaction that was rolled back rang %d times", n)
	}
}

// Alarms survive a restart and a kill; those that were due meanwhile ring at once, and wake child and supervisor.
func TestAlarmsSurviveRestarts(t *testing.T) {
	s := staged(t)
	s.plan("a", plan{"children": true, "props": "of a"})
	s.expect("a", "/~on/b/count", "0")
	s.on("a", "/alarm?in=2s")
	s.on("a", "/~on/b/alarm?in=2s")
	s.on("far", "/alarm?in=24h")
	far := s.on("far", "/alarm/get")
	due := time.Now().Add(2 * time.Second)
	s.Stop()
	time.Sleep(time.Until(due)) // that they are due while nothing runs is the point
	s.Start()
	for _, address := range []string{s.address("a"), s.address("a", "b")} {
		rig.Eventually(t, rawWait, address+" rings", func() bool { return s.rangAsleep(address) >= 1 })
	}
	if k := s.who("a"); k.Props != "of a" {
		t.Errorf("the child that was woken has the props %v", k.Props)
	}
	s.expect("a", "/~on/b/count", "1")
	s.expect("far", "/alarm/get", far)
}

// The alarm of a sleeping child of a sleeping supervisor wakes both, without anybody's request.
func TestAlarmWakesASleepingTree(t *testing.T) {
	s := staged(t)
	s.Must("namespaces", "set", "t", "idle_timeout=300ms")
	s.object = "nap"
	s.on("a", "/alarm?in=3s")
	for _, a := range []string{s.address("a"), s.address()} {
		rig.Eventually(t, rawWait, a+" sleeps", func() bool { return s.Inspect(a).State == "stopped" })
	}
	rig.Eventually(t, rawWait, "it rings", func() bool { return s.rangAsleep(s.address("a")) == 1 })
	if d := s.Inspect(s.address("a")); d.Usage.Starts != 2 {
		t.Errorf("the child started %d times", d.Usage.Starts)
	}
	if d := s.Inspect(s.address()); d.Usage.Starts != 2 {
		t.Errorf("the supervisor started %d times", d.Usage.Starts)
	}
	for _, a := range []string{s.address("a"), s.address()} {
		rig.Eventually(t, rawWait, a+" sleeps again", func() bool { return s.Inspect(a).State == "stopped" })
	}
}

// A function that fails, by an error or a panic, is called again, after 2 s and 4 s: at least once means until it succeeds.
func TestAlarmRetries(t *testing.T) {
	s := staged(t)
	s.on("a", "/alarm?in=10ms&fails=2")
	rig.Eventually(t, 20*time.Second, "it succeeds", func() bool { return len(s.rang("a")) == 3 && s.on("a", "/alarm/get") == `"none"` })
	at := s.rang("a")
	for i, want := range []int64{2000, 4000} {
		if waited := at[i+1] - at[i]; waited < want-100 || waited > 2*want+2000 {
			t.Errorf("retry %d came after %d ms", i+1, waited)
		}
	}
	log := s.Must("logs", s.address("a"))
	for _, says := range []string{"the alarm clock fell down", "too tired to get up"} {
		if !strings.Contains(log, says) {
			t.Errorf("the log does not say %q: %s", says, log)
		}
	}
}

// What is deleted or cloned over rings no more.
func TestAlarmsOfWhatIsGone(t *testing.T) {
	s := staged(t)
	s.expect("src", "/count", "0")
	for _, name := range []string{"gone", "over"} {
		s.on(name, "/alarm?in=3s")
	}
	s.done("delete", "gone", "")
	s.done("clone", "src", "?to=over")
	s.on("last", "/alarm?in=3s")
	rig.Eventually(t, rawWait, "a later one rings", func() bool { return len(s.rang("last")) == 1 })
	for _, name := range []string{"gone", "over"} {
		if n := len(s.rang(name)); n != 0 {
			t.Errorf("%s rang %d times", name, n)
		}
	}
}

// A copy has the alarm that lies in its data, from its first start on.
func TestAlarmOfACopy(t *testing.T) {
	s := staged(t)
	s.on("src", "/alarm?in=4s")
	at := s.on("src", "/alarm/get")
	s.done("clone", "src", "?to=dst")
	s.expect("dst", "/alarm/get", at)
	for _, name := range []string{"src", "dst"} {
		rig.Eventually(t, rawWait, name+" rings", func() bool { return len(s.rang(name)) == 1 })
	}
}

// quiet has a facet set its alarm, due after d, and say nothing that would tell the gateway of it.
func (s *stage) quiet(name string, d time.Duration) {
	s.T.Helper()
	s.expect(name, "/count", "0")
	s.on(name, "/alarm?quiet&in="+d.String())
	s.Must("sql", s.address(name), "UPDATE counter SET n = 1000")
	rig.Eventually(s.T, rawWait, "its alarm is set", func() bool {
		return strings.Contains(s.Must("sql", s.address(name), "SELECT n FROM counter", "--output", "json"), "2000")
	})
}

// An alarm of which nothing that left the facet tells is known all the same when the facet has ended, or the gateway was killed:
// nobody has to wake the facet for it.
func TestAlarmThatNobodyHeardOf(t *testing.T) {
	s := staged(t)
	s.quiet("aborted", 4*time.Second)
	s.done("abort", "aborted", "")
	rig.Eventually(t, rawWait, "it rings", func() bool { return s.rangAsleep(s.address("aborted")) == 1 })
	s.plan("parent", plan{"props": "of parent"})
	s.expect("bystander", "/count", "0")
	s.quiet("killed", 5*time.Second)
	s.quiet("parent", 5*time.Second)
	s.Remember()
	syscall.Kill(s.PID(), syscall.SIGKILL)
	if !s.Ended(rawWait) {
		t.Fatal("it does not end")
	}
	s.Start()
	for _, name := range []string{"killed", "parent"} {
		if n := s.rangAsleep(s.address(name)); n != 0 {
			t.Fatalf("%s rang %d times before the gateway was killed", name, n)
		}
	}
	for _, name := range []string{"killed", "parent"} {
		rig.Eventually(t, rawWait, name+" rings", func() bool { return s.rangAsleep(s.address(name)) == 1 })
	}
	if k := s.who("parent"); k.Props != "of parent" {
		t.Errorf("the child that was woken has the props %v", k.Props)
	}
	s.Stop()
	left, err := marks.Open(filepath.Join(s.Data, "running"))
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	if all := left.All(); len(all) != 0 {
		t.Errorf("when nothing runs, marked as running are %v", all)
	}
}
