package sandboxd

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/confine"
	"github.com/facetgateway/fgw/seccomp"
	"golang.org/x/sys/unix"
)

// Probes is what was tried on this machine, as this user. An error says why something can't be had; nil is
// that it can.
type Probes struct {
	Root        bool
	UserNS      error // where not root: a user namespace of one's own
	Namespaces  error // mount, net, ipc, uts, cgroup, pid, and an empty root
	Identity    error // a user per facet
	NoNewPrivs  error
	Seccomp     error
	LandlockABI int
	MDWE        error // memory-deny-write-execute
	Cgroups     cgroup.Mode
	Memory      error // limits of memory and processes
	CPU         error
	Swap        error // swap is limited too
	CgroupKill  error
	Files       error // descriptors for many facets
}

// Probe tries each layer by itself, in children that end at once. It leaves nothing behind.
func Probe() Probes {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := Probes{Root: os.Geteuid() == 0, LandlockABI: confine.LandlockABI(), Cgroups: cgroup.Detect(), Files: fileError(fileLimit())}
	null, err := os.Open(os.DevNull)
	if err != nil {
		p.Namespaces, p.Seccomp, p.Memory = err, err, err
		return p
	}
	defer null.Close()
	var userNS uint64
	if !p.Root {
		userNS = unix.CLONE_NEWUSER
		p.UserNS = try(null, confine.Profile{Namespaces: userNS}, nil)
	}
	p.Namespaces = probeNamespaces(null, userNS)
	p.Identity = errors.New("an ordinary user has one user id")
	if p.Root {
		mapped, taken := readUIDs()
		base, err := uidBase(0, mapped, taken)
		if p.Identity = err; err == nil {
			p.Identity = tryAs(null, confine.Profile{Identity: true, DropBounds: true}, base)
		}
	}
	p.NoNewPrivs = try(null, confine.Profile{}, nil)
	filter, err := seccomp.Filter("facet")
	if p.Seccomp = err; err == nil {
		p.Seccomp = try(null, confine.Profile{Filter: filter}, nil)
	}
	if _, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_GET_MDWE, 0, 0, 0, 0, 0); errno != 0 {
		p.MDWE = errno
	}
	p.Memory = cgroup.Probe(p.Cgroups)
	p.CPU = p.Memory
	p.Swap = cgroup.ProbeSwap(p.Cgroups)
	if p.CgroupKill = errors.New("cgroup v1 has no such thing"); p.Cgroups == cgroup.V2 {
		p.CgroupKill = cgroup.ProbeKill()
	}
	return p
}

func try(null *os.File, profile confine.Profile, root *confine.Root) error {
	return tryWith(null, profile, confine.Spec{Root: root})
}

func tryAs(null *os.File, profile confine.Profile, uid int) error {
	return tryWith(null, profile, confine.Spec{UID: uid, GID: uid})
}

func tryWith(null *os.File, profile confine.Profile, spec confine.Spec) error {
	s, err := confine.NewStarter(profile)
	if err != nil {
		return err
	}
	defer s.Close()
	spec.Exe, spec.Into, spec.Ruleset, spec.Life = int(null.Fd()), -1, -1, -1
	return s.Try(spec)
}

// probeNamespaces tries the launcher's world. A root can be prepared by root alone: an ordinary
// user does that within the user namespace.
func probeNamespaces(null *os.File, userNS uint64) error {
	profile := confine.Launcher()
	profile.Namespaces |= userNS
	if userNS != 0 {
		profile.Caps, profile.DropBounds = nil, false
		return try(null, profile, nil)
	}
	root, err := confine.NewRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	return try(null, profile, root)
}

// totalMemory is the machine's.
func totalMemory() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 1 << 30
	}
	return int64(si.Totalram) * int64(si.Unit)
}

// dynamic reports whether a program asks for a loader.
func dynamic(exe *os.File) bool {
	f, err := elf.NewFile(exe)
	if err != nil {
		return false // the exec will tell
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}

// ownProgram opens the program that this process runs, whatever has become of its path.
func ownProgram() (*os.File, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("open my own program: %w", err)
	}
	return f, nil
}
