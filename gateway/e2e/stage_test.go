package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// stage is an object whose supervisor the program in troupe is: it does with its children what the test tells it.
type stage struct {
	*rig.Gateway
	object string
}

// staged starts a gateway with the director as the supervisor of the namespace t, and two apps for its children
// that differ in nothing but their edition: kid and other.
func staged(t *testing.T, args ...string) *stage {
	t.Helper()
	g := rig.Start(t, args...)
	g.Deploy(rig.App(t, "troupe", ""), "t", "kid")
	g.Deploy(rig.App(t, "troupe", "other"), "t", "other")
	g.Deploy(rig.App(t, "troupe", "director"), "t", "director")
	g.Must("namespaces", "set", "t", "supervisor=director", "idle_timeout=1m")
	return &stage{g, "studio"}
}

// at is the same gateway for a subtest and an object of its own.
func (s *stage) at(t *testing.T, object string) *stage {
	g := *s.Gateway
	g.T = t
	return &stage{&g, object}
}

// escape encodes any name as a part of a path.
func escape(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// path is the path of an order to the director.
func (s *stage) path(verb, name, rest string) string {
	return "/t/" + s.object + "/~" + verb + "/" + escape(name) + rest
}

// address is that of a facet of the object; of the director without names.
func (s *stage) address(names ...string) string {
	if len(names) == 0 {
		return "t/" + s.object + "/"
	}
	a := "t/" + s.object
	for _, n := range names {
		a += "/" + escape(n)
	}
	return a
}

type plan map[string]any

// plan says how a child starts from now on.
func (s *stage) plan(name string, p plan) {
	s.T.Helper()
	s.Text("PUT", s.path("plan", name, ""), text(s.T, p))
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// on calls a child, which has to answer 200, and gives what it said.
func (s *stage) on(name, rest string) string {
	s.T.Helper()
	return strings.TrimSpace(s.Text("GET", s.path("on", name, rest), ""))
}

// fault is an error that the director or a player tells of.
type fault struct{ Code, Message, Stack string }

// order has the director do something; it gives the error that the director got.
func (s *stage) order(verb, name, query string) *fault {
	s.T.Helper()
	a := s.Do("POST", s.path(verb, name, "")+query, nil)
	return faultIn(s.T, a)
}

func faultIn(t testing.TB, a *rig.Answer) *fault {
	t.Helper()
	switch a.Status {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		var f fault
		if err := json.Unmarshal(a.Body, &f); err != nil {
			t.Fatalf("%v in %q", err, a.Body)
		}
		return &f
	}
	t.Fatalf("%d %.300s", a.Status, a.Body)
	return nil
}

// done is order for what has to succeed.
func (s *stage) done(verb, name, query string) {
	s.T.Helper()
	if f := s.order(verb, name, query); f != nil {
		s.T.Fatalf("%s %q: %+v", verb, name, f)
	}
}

// starts is how often the start function of a child ran in this life of the director.
func (s *stage) starts(name string) (n int) {
	s.T.Helper()
	s.Get(s.path("starts", name, ""), &n)
	return n
}

// kid is what a player says of itself.
type kid struct {
	Born, Edition, Name, ID, Object, Namespace, Colour, Key, Path, Query, Method, Host string
	Version                                                                            int
	Props                                                                              any
	Services                                                                           []string
	Headers                                                                            http.Header
}

func (s *stage) who(name string) (k kid) {
	s.T.Helper()
	s.Get(s.path("on", name, "/who"), &k)
	return k
}

// expect calls a child with each path and compares what it says.
func (s *stage) expect(name, path string, want ...string) {
	s.T.Helper()
	for _, w := range want {
		if got := s.on(name, path); got != w {
			s.T.Errorf("%s%s is %s, not %s", name, path, got, w)
		}
	}
}

// files are the names of what lies in the object's directory, of the only object there is.
func (s *stage) files() []string {
	s.T.Helper()
	roots, err := filepath.Glob(filepath.Join(s.Data, "objects", "*", "*", "0.db"))
	if err != nil || len(roots) != 1 {
		s.T.Fatalf("%d objects, %v", len(roots), err)
	}
	entries, err := os.ReadDir(filepath.Dir(roots[0]))
	if err != nil {
		s.T.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

// databases are the numbers of the databases in the object's directory.
func (s *stage) databases() string {
	s.T.Helper()
	var found []string
	for _, name := range s.files() {
		if n, ok := strings.CutSuffix(name, ".db"); ok {
			found = append(found, n)
		}
	}
	return strings.Join(found, " ")
}

// restart ends the gateway and starts another on the same data.
func (s *stage) restart() {
	s.T.Helper()
	s.Stop()
	s.Start()
}

// result is what a statement of a script gave; the last is the transaction's end.
type result struct {
	Rows  [][]any
	Fault *fault
}

// script has a child run statements on one connection.
func (s *stage) script(name, query string, statements ...string) (results []result) {
	s.T.Helper()
	a := s.Do("POST", s.path("on", name, "/script")+query, strings.NewReader(text(s.T, statements)))
	if f := faultIn(s.T, a); f != nil {
		s.T.Fatalf("a script: %+v", f)
	}
	if err := json.Unmarshal(a.Body, &results); err != nil {
		s.T.Fatal(err)
	}
	return results
}

// rawWait bounds waits for what happens at once on an idle machine.
const rawWait = 15 * time.Second
