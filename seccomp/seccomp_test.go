package seccomp

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

// What a program returns, and how the kernel names the architectures (linux/audit.h).
const (
	retKill  = 0x80000000
	retErrno = 0x00050000
	retAllow = 0x7fff0000

	auditAMD64 = 0xc000003e
	auditI386  = 0x40000003
	auditARM64 = 0xc00000b7
)

// program is a compiled filter in a machine of golang.org/x/net/bpf.
type program struct{ vm *bpf.VM }

func load(t testing.TB, profile, arch string) program {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("bpf", FileName(profile, arch)))
	if err != nil {
		t.Fatal(err)
	}
	if len(raw)%8 != 0 || len(raw)/8 > 4096 {
		t.Fatalf("%s for %s: %d bytes", profile, arch, len(raw))
	}
	var code []bpf.Instruction
	for b := range slices.Chunk(raw, 8) {
		code = append(code, bpf.RawInstruction{
			Op: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:]),
		}.Disassemble())
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatalf("%s for %s: %v", profile, arch, err)
	}
	return program{vm}
}

// run gives the verdict on one call. The kernel loads words in its own byte order, the
// machine in the network's: so each word of struct seccomp_data is written that way, low half first.
func (p program) run(t testing.TB, audit uint32, nr int, args [6]uint64) uint32 {
	t.Helper()
	data := binary.BigEndian.AppendUint32(nil, uint32(nr))
	data = binary.BigEndian.AppendUint32(data, audit)
	data = append(data, make([]byte, 8)...) // instruction pointer
	for _, a := range args {
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	n, err := p.vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func verdict(ret uint32) Verdict {
	switch ret & 0xffff0000 {
	case retAllow:
		return Allowed
	case retKill:
		return Killed
	}
	return Denied
}

// numbers are the calls that the tests name, on amd64.
var numbers = map[string]int{
	"read": 0, "write": 1, "close": 3, "mmap": 9, "mprotect": 10, "munmap": 11, "rt_sigaction": 13, "ioctl": 16, "pipe": 22, "madvise": 28,
	"getpid": 39, "socket": 41, "connect": 42, "recvmsg": 47, "sendmmsg": 307, "sendmsg": 46, "getsockopt": 55, "clone": 56, "fork": 57, "execve": 59, "kill": 62,
	"fcntl": 72, "ptrace": 101, "prctl": 157, "arch_prctl": 158, "mount": 165, "futex": 202, "tgkill": 234, "openat": 257,
	"unshare": 272, "splice": 275, "prlimit64": 302, "open_by_handle_at": 304, "seccomp": 317, "bpf": 321, "execveat": 322,
	"io_uring_setup": 425, "clone3": 435, "open": 2, "setns": 308, "exit_group": 231, "unlinkat": 263, "pwrite64": 18, "fdatasync": 75,
	"accept4": 288, "memfd_create": 319, "setresuid": 117, "open_tree_attr": 467, "listns": 470,
}

func TestVerdicts(t *testing.T) {
	type call struct {
		name  string
		args  [6]uint64
		facet Verdict
		gw    Verdict
		sqld  Verdict
	}
	for _, c := range []call{
		{"read", [6]uint64{}, Allowed, Allowed, Allowed},
		{"execveat", [6]uint64{63, 0, 0, 0, 0x1000}, Allowed, Allowed, Allowed},
		{"execveat", [6]uint64{62, 0, 0, 0, 0x1000}, Denied, Denied, Denied},
		{"execveat", [6]uint64{63, 0, 0, 0, 0}, Denied, Denied, Denied},
		{"execve", [6]uint64{}, Denied, Denied, Denied},
		{"fork", [6]uint64{}, Denied, Denied, Denied},
		{"clone", [6]uint64{0xd0f00}, Allowed, Allowed, Allowed},
		{"clone", [6]uint64{0xd0f00 | 0x10000000}, Denied, Denied, Denied},
		{"clone", [6]uint64{17}, Denied, Denied, Denied},
		{"clone", [6]uint64{0xd0f00 | 1<<40}, Denied, Denied, Denied},
		{"clone3", [6]uint64{}, Denied, Denied, Denied},
		{"mmap", [6]uint64{0, 4096, 3, 0x22, 1<<32 - 1}, Allowed, Allowed, Allowed},
		{"mmap", [6]uint64{0, 4096, 3, 0x4032}, Allowed, Allowed, Allowed},
		{"mmap", [6]uint64{0, 4096, 7, 0x22}, Denied, Denied, Denied},
		{"mmap", [6]uint64{0, 4096, 3, 0x01}, Denied, Allowed, Allowed},
		{"mmap", [6]uint64{0, 4096, 3, 0x02}, Denied, Allowed, Allowed},
		{"mmap", [6]uint64{0, 4096, 3, 0x22 | 0x2000}, Denied, Allowed, Allowed},
		{"mprotect", [6]uint64{0, 4096, 1}, Allowed, Allowed, Allowed},
		{"mprotect", [6]uint64{0, 4096, 5}, Denied, Denied, Denied},
		{"futex", [6]uint64{0, 128}, Allowed, Allowed, Allowed},
		{"futex", [6]uint64{0, 129}, Allowed, Allowed, Allowed},
		{"futex", [6]uint64{0, 6}, Denied, Denied, Denied},
		{"tgkill", [6]uint64{1, 1, 23}, Allowed, Allowed, Allowed},
		{"tgkill", [6]uint64{1, 1, 9}, Denied, Denied, Denied},
		{"kill", [6]uint64{}, Denied, Denied, Denied},
		{"fcntl", [6]uint64{3, 1030}, Allowed, Allowed, Allowed},
		{"fcntl", [6]uint64{3, 8}, Denied, Allowed, Allowed},
		{"prctl", [6]uint64{0x53564d41, 0}, Allowed, Allowed, Allowed},
		{"prctl", [6]uint64{4, 0}, Denied, Allowed, Allowed},
		{"prctl", [6]uint64{4, 1}, Denied, Denied, Denied},
		{"prlimit64", [6]uint64{0, 7, 0}, Allowed, Allowed, Allowed},
		{"prlimit64", [6]uint64{0, 7, 1}, Denied, Denied, Denied},
		{"arch_prctl", [6]uint64{0x1002}, Allowed, Allowed, Allowed},
		{"arch_prctl", [6]uint64{0x1001}, Denied, Denied, Denied},
		{"openat", [6]uint64{}, Denied, Allowed, Allowed},
		{"open", [6]uint64{}, Denied, Allowed, Allowed},
		{"unlinkat", [6]uint64{}, Denied, Allowed, Allowed},
		{"pwrite64", [6]uint64{}, Denied, Allowed, Allowed},
		{"fdatasync", [6]uint64{}, Denied, Allowed, Allowed},
		{"ioctl", [6]uint64{}, Denied, Allowed, Allowed},
		{"socket", [6]uint64{}, Denied, Allowed, Denied},
		{"connect", [6]uint64{}, Denied, Allowed, Denied},
		{"accept4", [6]uint64{}, Denied, Allowed, Denied},
		{"memfd_create", [6]uint64{}, Denied, Allowed, Denied},
		{"recvmsg", [6]uint64{}, Denied, Allowed, Allowed},
		{"sendmmsg", [6]uint64{}, Denied, Allowed, Allowed},
		{"getsockopt", [6]uint64{3, 1, 3}, Allowed, Allowed, Allowed},
		{"getsockopt", [6]uint64{3, 6, 11}, Denied, Allowed, Denied},
		{"setresuid", [6]uint64{}, Denied, Denied, Denied},
		{"seccomp", [6]uint64{}, Denied, Denied, Denied},
		{"splice", [6]uint64{}, Killed, Allowed, Killed},
		{"ptrace", [6]uint64{}, Killed, Killed, Killed},
		{"mount", [6]uint64{}, Killed, Killed, Killed},
		{"unshare", [6]uint64{}, Killed, Killed, Killed},
		{"setns", [6]uint64{}, Killed, Killed, Killed},
		{"bpf", [6]uint64{}, Killed, Killed, Killed},
		{"open_by_handle_at", [6]uint64{}, Killed, Killed, Killed},
		{"io_uring_setup", [6]uint64{}, Killed, Killed, Killed},
		{"open_tree_attr", [6]uint64{}, Killed, Killed, Killed},
		{"listns", [6]uint64{}, Killed, Killed, Killed},
	} {
		nr, ok := numbers[c.name]
		if !ok {
			t.Fatalf("no number for %s", c.name)
		}
		for profile, want := range map[string]Verdict{"facet": c.facet, "gateway": c.gw, "sqld": c.sqld} {
			if got := verdict(load(t, profile, "amd64").run(t, auditAMD64, nr, c.args)); got != want {
				t.Errorf("%s: %s(%x) is %v, want %v", profile, c.name, c.args, got, want)
			}
		}
	}
}

func TestDefault(t *testing.T) {
	for _, p := range Profiles() {
		filter := load(t, p.Name, "amd64")
		if got := filter.run(t, auditAMD64, numbers["fork"], [6]uint64{}); got != retErrno|Default {
			t.Errorf("%s: a call that is not named returns %x", p.Name, got)
		}
		for name, got := range map[string]uint32{
			"int80 ": filter.run(t, auditI386, 0, [6]uint64{}),
			"x32":    filter.run(t, auditAMD64, 0x40000000, [6]uint64{}),
			"arm64":  filter.run(t, auditARM64, 63, [6]uint64{}),
		} {
			if got != retKill {
				t.Errorf("%s: a call of %s returns %x", p.Name, name, got)
			}
		}
	}
}

// TestARM64 looks at what differs there.
func TestARM64(t *testing.T) {
	filter := load(t, "facet", "arm64")
	for _, c := range []struct {
		nr   int
		args [6]uint64
		want Verdict
	}{
		{63, [6]uint64{}, Allowed},               // read
		{220, [6]uint64{0x50f00}, Allowed},       // clone, as Go calls it there
		{220, [6]uint64{0xd0f00}, Denied},        // as on amd64
		{56, [6]uint64{}, Denied},                // openat
		{117, [6]uint64{}, Killed},               // ptrace
		{281, [6]uint64{63, 4: 0x1000}, Allowed}, // execveat
	} {
		if got := verdict(filter.run(t, auditARM64, c.nr, c.args)); got != c.want {
			t.Errorf("arm64: call %d(%x) is %v, want %v", c.nr, c.args, got, c.want)
		}
	}
}

// TestTables holds the policies to their form.
func TestTables(t *testing.T) {
	for _, p := range Profiles() {
		for _, r := range append(slices.Clone(p.Allow), p.Kill...) {
			if r.Call == "" || r.Needs == "" {
				t.Errorf("%s: rule %+v does not say what it is for", p.Name, r)
			}
			for _, a := range r.Args {
				if a.Index < 0 || a.Index > 5 || a.Value&^a.Mask != 0 {
					t.Errorf("%s: %s has a condition that never holds: %+v", p.Name, r.Call, a)
				}
			}
		}
		for _, r := range p.Kill {
			if slices.ContainsFunc(p.Allow, func(a Rule) bool { return a.Call == r.Call }) {
				t.Errorf("%s: %s is allowed and a tripwire", p.Name, r.Call)
			}
		}
	}
	if n := len(Facet().Allow); n > 60 {
		t.Errorf("the facet's list has grown to %d rules", n)
	}
}

// FuzzPrograms compares the compiled programs with what the tables mean, over every call that the test can name.
func FuzzPrograms(f *testing.F) {
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range numbers {
			if !yield(n) {
				return
			}
		}
	})
	for i := range names {
		f.Add(uint16(i), uint64(0), uint64(0), uint64(0), uint64(0x22), uint64(0x1000), uint64(0))
	}
	f.Add(uint16(slices.Index(names, "clone")), uint64(0xd0f00), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
	f.Add(uint16(slices.Index(names, "mmap")), uint64(0), uint64(4096), uint64(7), uint64(0x4032), uint64(1), uint64(0))
	profiles := Profiles()
	var programs []program
	for _, p := range profiles {
		programs = append(programs, load(f, p.Name, "amd64"))
	}
	f.Fuzz(func(t *testing.T, which uint16, a, b, c, d, e, g uint64) {
		name := names[int(which)%len(names)]
		args := [6]uint64{a, b, c, d, e, g}
		for i, p := range profiles {
			want := p.Decide("amd64", name, numbers[name], args)
			if got := verdict(programs[i].run(t, auditAMD64, numbers[name], args)); got != want {
				t.Errorf("%s: %s(%x) is %v, the table says %v", p.Name, name, args, got, want)
			}
		}
	})
}

func ExampleProfile_Decide() {
	p := Facet()
	fmt.Println(p.Decide("amd64", "read", 0, [6]uint64{}), p.Decide("amd64", "openat", 257, [6]uint64{}), p.Decide("amd64", "ptrace", 101, [6]uint64{}))
	// Output: allowed denied killed
}
