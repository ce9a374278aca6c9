// Package seccomp holds the system call filters of the gateway's processes: the
// policies as tables in plain Go, a line per call that says which code needs it,
// and the programs for the kernel that were compiled from them, embedded per
// architecture. Package compile turns the one into the other, with libseccomp; `make
// generate` runs it, and a test compares.
//
// Every policy is an allow-list. What it does not name fails with EPERM, so that a
// program which tries something ordinary, like opening a file, gets an error that
// it can report; what no honest program tries kills the process, see tripwires.
package seccomp

import "slices"

// Profile is the policy of one kind of process.
type Profile struct {
	Name  string
	Allow []Rule
	Kill  []Rule // tripwires: kill the process; never a call that Allow names
}

// Rule allows one system call, where its arguments meet all conditions. Several rules for one
// call are alternatives.
type Rule struct {
	Call  string
	Nr    int // the number, for calls too new for libseccomp to name; 0 otherwise
	Args  []Arg
	Arch  string // only on this architecture; "" is all
	Needs string // which code calls it
}

// Arg is a condition on one argument: argument & Mask == Value.
type Arg struct {
	Index       int
	Mask, Value uint64
}

const all = ^uint64(0)

// is: argument i equals v, all 64 bits.
func is(i int, v uint64) Arg { return Arg{i, all, v} }

// is32: the low 32 bits of argument i equal v; for arguments that the kernel itself takes for 32 bits.
func is32(i int, v uint64) Arg { return Arg{i, 1<<32 - 1, v} }

// without: argument i has none of these bits.
func without(i int, bits uint64) Arg { return Arg{i, bits, 0} }

// only: argument i is base, with or without the optional bits.
func only(i int, base, optional uint64) Arg { return Arg{i, all &^ optional, base} }

// Default is what happens to a call that no rule names: it fails with EPERM.
const Default = 1

// Verdict is what a policy does with a call.
type Verdict int

// The verdicts.
const (
	Allowed Verdict = iota
	Denied
	Killed
)

func (v Verdict) String() string { return [...]string{"allowed", "denied", "killed"}[v] }

// Decide is the policy's meaning, against which the compiled programs are tested. name and nr are the
// same call; libseccomp's names are used.
func (p *Profile) Decide(arch, name string, nr int, args [6]uint64) Verdict {
	hit := func(r Rule) bool {
		if r.Arch != "" && r.Arch != arch || r.Nr != 0 && r.Nr != nr || r.Nr == 0 && r.Call != name {
			return false
		}
		return !slices.ContainsFunc(r.Args, func(a Arg) bool { return args[a.Index]&a.Mask != a.Value })
	}
	switch {
	case slices.ContainsFunc(p.Allow, hit):
		return Allowed
	case slices.ContainsFunc(p.Kill, hit):
		return Killed
	}
	return Denied
}

// Profiles are all policies, by name: what there is a compiled program of.
func Profiles() []Profile { return []Profile{Facet(), Gateway(), SQLD(), Builder()} }
