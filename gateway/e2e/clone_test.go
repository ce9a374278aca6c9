package e2e_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// family makes a child with two counts and a grandchild with three.
func (s *stage) family(name string) {
	s.T.Helper()
	s.plan(name, plan{"children": true})
	s.expect(name, "/count", "0", "1")
	s.expect(name, "/~on/kid/count", "0", "1", "2")
}

func TestFacetCloning(t *testing.T) {
	s := staged(t)
	t.Run("the subtree is copied and src is unaffected", func(t *testing.T) {
		s := s.at(t, "one")
		s.family("src")
		s.expect("src", "/mem", "0")
		s.plan("dst", plan{"children": true})
		s.done("clone", "src", "?to=dst")
		s.expect("dst", "/count", "2", "3")
		s.expect("dst", "/~on/kid/count", "3")
		s.expect("src", "/mem", "1") // it ran on
		s.expect("src", "/count", "2")
		s.expect("src", "/~on/kid/count", "3")
	})
	t.Run("an overwrite drops the old children", func(t *testing.T) {
		s := s.at(t, "two")
		s.expect("src", "/count", "0", "1")
		s.plan("dst", plan{"children": true})
		s.expect("dst", "/count", "0")
		s.expect("dst", "/~on/old/count", "0", "1")
		s.done("clone", "src", "?to=dst")
		s.expect("dst", "/count", "2")
		s.expect("dst", "/~on/old/count", "0")
	})
	t.Run("who waits on dst is told", func(t *testing.T) {
		s := s.at(t, "told")
		s.expect("src", "/count", "0")
		s.expect("dst", "/count", "0")
		got := make(chan *rig.Answer, 1)
		go func() { a, _ := s.Try("GET", s.path("on", "dst", "/wait?door=never"), nil); got <- a }()
		rig.Eventually(t, rawWait, "it waits", func() bool { return requests(s.Gateway, s.address("dst")) == 2 })
		s.done("clone", "src", "?to=dst")
		if a := <-got; a.Problem().Code != "facet_aborted" || !strings.Contains(a.Problem().Message, "cloned over") {
			t.Errorf("told %s", a.Body)
		}
	})
	t.Run("a src that never was empties dst", func(t *testing.T) {
		s := s.at(t, "three")
		s.family("dst")
		s.done("clone", "never was", "?to=dst")
		s.expect("dst", "/count", "0")
		s.expect("dst", "/~on/kid/count", "0")
		s.done("clone", "never was", "?to=nor+this")
	})
	t.Run("onto itself it loses its memory and keeps its data", func(t *testing.T) {
		s := s.at(t, "four")
		s.family("src")
		s.expect("src", "/mem", "0", "1")
		s.done("clone", "src", "?to=src")
		s.expect("src", "/mem", "0")
		s.expect("src", "/count", "2")
		s.expect("src", "/~on/kid/count", "3")
	})
	t.Run("onto its own descendant or ancestor it is refused", func(t *testing.T) {
		s := s.at(t, "five")
		s.family("src")
		if out := s.Run("facets", "clone", s.address("src"), s.address("src", "kid"), "--yes"); out.Code == 0 || !strings.Contains(out.Stderr, "within one another") {
			t.Errorf("exit %d %s", out.Code, out.Stderr)
		}
		s.expect("src", "/~on/kid/count", "3")
	})
	t.Run("consistent while src writes", func(t *testing.T) {
		s := s.at(t, "six")
		s.expect("src", "/count", "0")
		s.script("src", "", `CREATE TABLE pair (a INTEGER, b INTEGER)`, `INSERT INTO pair VALUES (0, 0)`)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.Try("POST", s.path("on", "src", "/script?tx=commit"), strings.NewReader(`["UPDATE pair SET a = a + 1", "UPDATE pair SET b = b + 1"]`))
				}
			}
		})
		for range 5 {
			s.done("clone", "src", "?to=dst")
			r := s.script("dst", "", `SELECT a = b FROM pair`, `PRAGMA quick_check`)
			if r[0].Fault != nil || r[0].Rows[0][0] != 1.0 || r[1].Rows[0][0] != "ok" {
				t.Errorf("the copy: %+v", r)
			}
		}
		close(stop)
		wg.Wait()
	})
	t.Run("of one moment in all of the tree", func(t *testing.T) {
		s := s.at(t, "nine")
		for _, name := range []string{"src", "dst"} {
			s.plan(name, plan{"children": true})
		}
		kid := func(of string) string { return s.path("on", of, "/~on/kid/count") }
		s.script("src", "", `CREATE TABLE pad (a)`, `INSERT INTO pad VALUES (zeroblob(4000000))`) // its copy takes a while
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for { // what the child counts was counted by src before
				select {
				case <-stop:
					return
				default:
					s.Try("GET", s.path("on", "src", "/count"), nil)
					s.Try("GET", kid("src"), nil)
				}
			}
		})
		for range 5 {
			s.done("clone", "src", "?to=dst")
			var own, kids int
			s.Get(s.path("on", "dst", "/count"), &own)
			s.Get(kid("dst"), &kids)
			if own != kids && own != kids+1 {
				t.Errorf("the copy counts %d, its child %d", own, kids)
			}
		}
		close(stop)
		wg.Wait()
	})
	t.Run("survives a restart", func(t *testing.T) {
		s := s.at(t, "seven")
		s.family("src")
		s.plan("dst", plan{"children": true})
		s.done("clone", "src", "?to=dst")
	})
	s.restart()
	s.object = "seven"
	s.expect("dst", "/count", "2")
	s.expect("dst", "/~on/kid/count", "3")
	s.expect("src", "/count", "2")
}
