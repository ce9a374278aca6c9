package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// Supervisors that misbehave: clear errors in bounded time, and objects beside them that notice nothing.
func TestBadSupervisors(t *testing.T) {
	g := rig.Start(t)
	exe := rig.App(t, "troupe", "")
	g.Deploy(exe, "good", "kid")
	g.Deploy(exe, "good", "director")
	g.Must("namespaces", "set", "good", "supervisor=director")
	g.Text("GET", "/good/calm/~on/a/count", "")
	beside := watch(g, "/good/calm/~on/a/read", "1\n")
	for _, test := range []struct {
		how, code, says string
		within          time.Duration
	}{
		{"fail", "facet_start_failed", "the theatre is closed", 5 * time.Second},
		{"panic", "facet_start_failed", "the curtain fell down", 5 * time.Second},
		{"exit", "facet_crashed", "exit status 3: no performance today", 5 * time.Second},
		{"fork", "facet_start_failed", "fork", 5 * time.Second},
	} {
		t.Run(test.how, func(t *testing.T) {
			ns := "bad-" + test.how
			g.Deploy(exe, ns, "director")
			g.Must("namespaces", "set", ns, "supervisor=director", "cpu=0.5")
			g.Must("apps", "set", ns+"/director", "env.BEHAVE="+test.how)
			began := time.Now()
			a := g.Do("GET", "/"+ns+"/x/who", nil)
			if p := a.Problem(); a.Status != 502 || p.Code != test.code && p.Code != "facet_crashed" || !strings.Contains(p.Message, test.says) && test.how != "fork" {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			if took := time.Since(began); took > test.within {
				t.Errorf("it took %s", took)
			}
			g.Must("apps", "set", ns+"/director", "env.BEHAVE=")
			rig.Eventually(t, rawWait, "it recovers", func() bool { return g.Do("GET", "/"+ns+"/x/who", nil).Status == 200 })
		})
	}
	t.Run("hang and spin, then abort", func(t *testing.T) {
		for _, how := range []string{"hang", "spin"} {
			ns := "bad-" + how
			g.Deploy(exe, ns, "director")
			g.Must("namespaces", "set", ns, "supervisor=director", "cpu=0.5")
			g.Must("apps", "set", ns+"/director", "env.BEHAVE="+how)
			got := make(chan *rig.Answer, 1)
			go func() { a, _ := g.Try("GET", "/"+ns+"/x/who", nil); got <- a }()
			rig.Eventually(t, rawWait, "it starts", func() bool {
				return g.Run("facets", "abort", ns+"/x/", "--reason", "enough").Code == 0 && len(got) == 1
			})
			if a := <-got; a.Problem().Code != "facet_aborted" || a.Problem().Message != "enough" {
				t.Errorf("%s: %d %s", how, a.Status, a.Body)
			}
		}
	})
	beside.check(t, 2*time.Second)
}
