package sandboxd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
)

// whole is a machine on which root has everything.
var whole = Probes{Root: true, LandlockABI: 7, Cgroups: cgroup.V2}

func TestPlan(t *testing.T) {
	no := errors.New("not here")
	for _, test := range []struct {
		name     string
		change   func(*Probes)
		insecure []string
		missing  string // layers, by comma
		check    func(Decision) bool
	}{
		{"everything", func(p *Probes) {}, nil, "", func(d Decision) bool {
			return d.Namespaces && d.Identity && d.Seccomp && d.MDWE && d.LandlockABI == 7 && d.Cgroups == cgroup.V2 && !d.UserNS
		}},
		{"no cgroups", func(p *Probes) { p.Memory, p.CPU = no, no }, nil, "memory,pids", func(d Decision) bool { return d.Cgroups == cgroup.None }},
		{"no cgroups, waived", func(p *Probes) { p.Memory, p.CPU = no, no }, []string{"memory", "pids"}, "", func(d Decision) bool { return d.Cgroups == cgroup.None }},
		{"one of two waived", func(p *Probes) { p.Memory = no }, []string{"memory"}, "pids", nil},
		{"no namespaces", func(p *Probes) { p.Namespaces = no }, nil, "namespaces", func(d Decision) bool { return !d.Namespaces }},
		{"no users", func(p *Probes) { p.Identity = no }, nil, "uid", func(d Decision) bool { return !d.Identity }},
		{"no filter", func(p *Probes) { p.Seccomp = no }, nil, "seccomp", func(d Decision) bool { return !d.Seccomp }},
		{"no extras", func(p *Probes) { p.LandlockABI, p.MDWE, p.Swap, p.CgroupKill = 0, no, no, no }, nil, "", func(d Decision) bool { return !d.MDWE }},
		{"an ordinary user", func(p *Probes) { p.Root, p.Identity = false, no }, nil, "", func(d Decision) bool { return d.UserNS && !d.Identity }},
		{"an ordinary user without user namespaces", func(p *Probes) { p.Root, p.Identity, p.UserNS, p.Namespaces = false, no, no, no }, nil, "namespaces",
			func(d Decision) bool { return !d.UserNS }},
		{"a user without delegation", func(p *Probes) { p.Root, p.Identity, p.Memory = false, no, no }, nil, "memory,pids", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := whole
			test.change(&p)
			d := Plan(p, Options{Insecure: test.insecure})
			var missing []string
			for _, l := range d.Missing {
				missing = append(missing, l.Layer)
			}
			if got := strings.Join(missing, ","); got != test.missing {
				t.Errorf("missing %s, want %s", got, test.missing)
			}
			if test.check != nil && !test.check(d) {
				t.Errorf("decided %+v", d)
			}
			for _, l := range d.Layers {
				if l.Detail == "" || !l.Active && l.Mend == "" {
					t.Errorf("layer %+v does not say why, or what would mend it", l)
				}
			}
		})
	}
}

func TestRequiredLayersAreShown(t *testing.T) {
	var required []string
	for _, l := range Plan(whole, Options{}).Layers {
		if l.Required {
			required = append(required, l.Layer)
		}
	}
	want := RequiredLayers()
	slices.Sort(required)
	slices.Sort(want)
	if !slices.Equal(required, want) {
		t.Errorf("required are %v, RequiredLayers says %v", required, want)
	}
}

func TestMissingError(t *testing.T) {
	err := error(&MissingError{[]Layer{{Layer: "memory", Detail: "permission denied"}, {Layer: "pids", Detail: "permission denied"},
		{Layer: "seccomp", Detail: "function not implemented"}}})
	want := "a required confinement layer is missing: memory, pids (permission denied), seccomp (function not implemented)"
	if !errors.Is(err, ErrLayerMissing) || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestProbe(t *testing.T) {
	needRoot(t)
	p := Probe()
	for name, err := range map[string]error{
		"namespaces": p.Namespaces, "identity": p.Identity, "no new privileges": p.NoNewPrivs,
		"seccomp": p.Seccomp, "memory": p.Memory,
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := groupDirs(cgroup.Prefix+"probe", ""); len(left) > 0 {
		t.Errorf("probing left %v", left)
	}
}

func TestUIDBase(t *testing.T) {
	host := []uidRange{{0, 1 << 32}}
	for _, test := range []struct {
		name          string
		hash          uint64
		mapped, taken []uidRange
		want          int
	}{
		{"by hash", 5, host, nil, uidAreaStart + 5*uidsPerDirectory},
		{"wraps", uidAreaSize + 5, host, nil, uidAreaStart + 5*uidsPerDirectory},
		{"given to a user", 5, host, []uidRange{{uidAreaStart + 5*uidsPerDirectory + 1000, 1}}, uidAreaStart + 6*uidsPerDirectory},
		{"a small container", 5, []uidRange{{0, 200000}}, nil, 200000 - uidsPerDirectory},
		{"a small container with subuids", 5, []uidRange{{0, 300000}}, []uidRange{{250000, 65536}}, 300000 - 2*uidsPerDirectory},
		{"too small a container", 5, []uidRange{{0, 65536}}, nil, 0},
		{"one user", 5, []uidRange{{1000, 1}}, nil, 0},
	} {
		got, err := uidBase(test.hash, test.mapped, test.taken)
		if got != test.want || (err != nil) != (test.want == 0) {
			t.Errorf("%s: %d (%v), want %d", test.name, got, err, test.want)
		}
	}
}

func TestParseIDs(t *testing.T) {
	if got := parseUIDMap("         0     100000      65536\n  70000 1 1\nrubbish\n"); !slices.Equal(got, []uidRange{{0, 65536}, {70000, 1}}) {
		t.Errorf("uid_map: %v", got)
	}
	if got := parseSubUID("# comment\nalice:100000:65536\nbob:x:1\n\ncarol:165536:65536\n"); !slices.Equal(got, []uidRange{{100000, 65536}, {165536, 65536}}) {
		t.Errorf("subuid: %v", got)
	}
}

func TestUIDPool(t *testing.T) {
	p := newUIDPool(1000)
	seen := map[int]bool{}
	for {
		uid, ok := p.take()
		if !ok {
			break
		}
		if uid <= 1000 || uid >= 1000+uidsPerDirectory || seen[uid] {
			t.Fatalf("uid %d", uid)
		}
		seen[uid] = true
	}
	if len(seen) != uidsPerDirectory-2 {
		t.Errorf("%d users", len(seen))
	}
	p.give(1007)
	if uid, ok := p.take(); !ok || uid != 1007 {
		t.Errorf("given back 1007, got %d, %t", uid, ok)
	}
}
