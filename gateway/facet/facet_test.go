package facet

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire"
)

// newRegistry is a registry with the namespace n.
func newRegistry(t *testing.T) (*registry.Registry, *registry.Namespace) {
	t.Helper()
	reg, err := registry.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	ns, err := reg.CreateNamespace(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	return reg, ns
}

func TestBackoff(t *testing.T) {
	last := time.Duration(0)
	for n := range 40 {
		d := backoff(n)
		if d < last || d > time.Minute || (n <= freeCrashes) != (d == 0) {
			t.Errorf("after %d failures: %s", n, d)
		}
		last = d
	}
	if last != time.Minute {
		t.Errorf("it ends at %s", last)
	}
}

func TestCrashLine(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""},
		{"\n\n", ""},
		{"hello\nbye\n", "bye"},
		{"log\npanic: no ink\n\ngoroutine 1 [running]:\nmain.main()\n", "panic: no ink"},
		{"fatal error: out of memory\n\nruntime stack:\n", "fatal error: out of memory"},
		{strings.Repeat("x", 600), strings.Repeat("x", 500) + "…"},
	} {
		if got := crashLine(c[0]); got != c[1] {
			t.Errorf("%q: %q, wanted %q", c[0], got, c[1])
		}
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add([]byte(`{"a":{"b":{}}}`))
	f.Fuzz(func(t *testing.T, attrs []byte) {
		if line := logLine(&wire.LogRecord{Message: "m", Attrs: attrs}, len(attrs)); len(line) > logs.MaxLine {
			t.Errorf("a line of %d bytes", len(line))
		}
	})
}

func TestStripped(t *testing.T) {
	for _, c := range [][3]string{
		{"/run/todo/add", "/add", "/run/todo"},
		{"/run/todo/?q=1", "/?z=2", "/run/todo"},
		{"/x", "/x", ""},
		{"/x", "/y", ""},
		{"/", "/", ""},
	} {
		if got := stripped(c[0], c[1]); got != c[2] {
			t.Errorf("%q to %q: %q, wanted %q", c[0], c[1], got, c[2])
		}
	}
}

func TestValidTarget(t *testing.T) {
	for _, c := range []struct {
		method, target string
		ok             bool
	}{
		{"GET", "/", true}, {"M-SEARCH", "/x?y=%20", true}, {"GET", "", false}, {"GET", "x", false}, {"GET", "/a b", false},
		{"GET", "/a\r\nX: y", false}, {"", "/", false}, {"GET /", "/", false}, {"GET", "/" + strings.Repeat("x", 70<<10), false},
	} {
		if got := validTarget(c.method, c.target); got != c.ok {
			t.Errorf("%q %.20q: %v", c.method, c.target, got)
		}
	}
}

func TestDeriveLimits(t *testing.T) {
	one, own := registry.DefaultLimits(), registry.SupervisorLimits()
	for _, c := range []struct {
		name  string
		given wire.Limits
		code  string
		check func(*registry.Limits) bool
	}{
		{"nothing given", wire.Limits{}, "", func(l *registry.Limits) bool { return *l == one }},
		{"all that there is", wire.Limits{Memory: own.Memory, CPUMilli: own.CPUMilli, Processes: int64(own.Processes)}, "", func(l *registry.Limits) bool { return *l == own }},
		{"less", wire.Limits{Memory: 64 << 20, Storage: 1 << 20, CPUMilli: 250, Processes: 16, InFlight: 2, StatementMS: 100, RequestMS: 1000}, "", func(l *registry.Limits) bool {
			return l.Memory == 64<<20 && l.Storage == 1<<20 && l.CPUMilli == 250 && l.Processes == 16 && l.InFlight == 2 && l.StatementTimeout == 100*time.Millisecond && l.RequestTimeout == time.Second
		}},
		{"more memory", wire.Limits{Memory: own.Memory + 1}, problem.LimitAboveOwn, nil},
		{"more time", wire.Limits{RequestMS: 61_000}, problem.LimitAboveOwn, nil},
		{"negative", wire.Limits{Storage: -1}, problem.BadRequest, nil},
		{"too little to start in", wire.Limits{Memory: 1 << 20}, problem.BadRequest, nil},
		{"too few threads", wire.Limits{Processes: 7}, problem.BadRequest, nil},
		{"as few as may be", wire.Limits{Processes: 8}, "", func(l *registry.Limits) bool { return l.Processes == 8 }},
	} {
		l, err := deriveLimits(&own, &c.given)
		if c.code == "" {
			if err != nil || !c.check(l) {
				t.Errorf("%s: %+v %v", c.name, l, err)
			}
			continue
		}
		if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A time that ran out is the limit of whoever asked for less than there was.
func TestRequestTimeOf(t *testing.T) {
	for _, c := range []struct {
		seconds []time.Duration // of the root, its child, and so on
		says    string
	}{
		{[]time.Duration{60}, "namespace ns"},
		{[]time.Duration{60, 60, 60}, "namespace ns"},
		{[]time.Duration{60, 5}, "its supervisor set"},
		{[]time.Duration{60, 5, 5}, "its supervisor set"},
	} {
		var in *instance
		for _, s := range c.seconds {
			next := newInstance(&node{key: key{namespace: "ns"}}, nil)
			next.spec = &Spec{Limits: registry.Limits{RequestTimeout: s * time.Second}}
			if in != nil {
				next.starter = &starter{parent: in}
			}
			in = next
		}
		if got := in.requestTimeOf(); !strings.Contains(got, c.says) {
			t.Errorf("%d s: %s", c.seconds, got)
		}
	}
}

func TestDeeper(t *testing.T) {
	for said, want := range map[string]string{"": "1", "1": "2", "31": "32", "32": problem.CallDepth, "65535": problem.CallDepth, "65536": problem.BadRequest, "-1": problem.BadRequest, "x": problem.BadRequest} {
		h := http.Header{}
		if said != "" {
			h.Set(wire.HeaderDepth, said)
		}
		got, err := deeper(h)
		if p, ok := errors.AsType[*problem.Error](err); ok {
			got.Value = p.Code
		}
		if got.Value != want {
			t.Errorf("%q: %s, wanted %s", said, got.Value, want)
		}
	}
}

// A child of a supervisor that has less than one facet usually has no more than its supervisor.
func TestDeriveLimitsOfLittle(t *testing.T) {
	own := registry.DefaultLimits()
	own.Memory, own.CPUMilli = 32<<20, 100
	for has, want := range map[int]int{8: 8, 16: 16, 20: 16, 100: 25, 200: 50, 400: 64} {
		own.Processes = has
		l, err := deriveLimits(&own, &wire.Limits{})
		if err != nil || l.Processes != want {
			t.Errorf("of %d: %+v %v", has, l, err)
			continue
		}
		if l.Processes = has; *l != own {
			t.Errorf("%+v", l)
		}
	}
}

func TestCheckChild(t *testing.T) {
	for _, c := range []struct {
		depth int
		name  string
		code  string
	}{
		{1, "a", ""}, {3, strings.Repeat("x", 256), ""}, {1, "../a/b", ""},
		{4, "a", problem.DepthLimit}, {1, strings.Repeat("x", 257), problem.BadName}, {1, "", problem.BadName}, {1, "a\x00b", problem.BadName},
	} {
		err := checkChild(c.depth, c.name)
		p, _ := errors.AsType[*problem.Error](err)
		if (err == nil) != (c.code == "") || err != nil && p.Code != c.code {
			t.Errorf("depth %d, %.20q: %v", c.depth, c.name, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	h := canonical(map[string][]string{"transfer-encoding": {"chunked"}, "fgw-service": {"admin"}, "X-A": {"1"}, "x-a": {"2"}})
	if len(h["Transfer-Encoding"]) != 1 || len(h["Fgw-Service"]) != 1 || len(h["X-A"]) != 2 || len(h) != 3 {
		t.Errorf("%v", h)
	}
}
