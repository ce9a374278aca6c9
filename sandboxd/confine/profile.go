package confine

import (
	"golang.org/x/sys/unix"
)

// Profile is what one kind of child may be: data, not code. Layers that this
// machine does not give are left out by clearing their field (see Without).
type Profile struct {
	Name       string   // argv[0]
	Namespaces uint64   // clone flags
	Caps       []int    // capabilities that survive the exec; nil is none
	Filter     []byte   // a compiled seccomp program; nil is none
	Rlimits    []Rlimit // in the order in which they are set
	Hostname   string   // set in a UTS namespace of its own; "" leaves it
	DropBounds bool     // drop the bounding set: false where the parent has no such set any more
	Identity   bool     // take the Spec's UID and GID; false keeps the parent's
	Landlock   bool     // restrict by the Spec's ruleset
}

// Rlimit is one resource limit, soft and hard alike.
type Rlimit struct {
	Resource int
	Max      uint64
}

// Namespaces that processes of the gateway share or own.
const (
	quiet = unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	// NamespacesLauncher are the empty ones that all facets share. Its own pid namespace
	// means that no facet outlives the launcher, whatever happens.
	NamespacesLauncher = quiet | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID
	// NamespacesFacet is what each facet has beyond them: a net namespace each would
	// cost more than the rest of the spawn.
	NamespacesFacet = unix.CLONE_NEWPID
	// NamespacesGateway keep the host's network: it serves HTTP.
	NamespacesGateway = quiet | unix.CLONE_NEWNS | unix.CLONE_NEWPID
	// NamespacesSQLD keep nothing of the host's.
	NamespacesSQLD = NamespacesLauncher
)

// noSecrets are limits that hold for every child: no core dump shows its memory, nothing is locked
// into memory, no message queues (their memory is charged to nobody).
var noSecrets = []Rlimit{
	{unix.RLIMIT_CORE, 0},
	{unix.RLIMIT_MEMLOCK, 0},
	{unix.RLIMIT_MSGQUEUE, 0},
}

// Launcher is the process that starts facets.
func Launcher() Profile {
	return Profile{
		Name: "fgw-launcher", Namespaces: NamespacesLauncher,
		// SYS_ADMIN for pid namespaces, SETUID and SETGID for the facets' identities.
		Caps:     []int{unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID},
		Hostname: "facet", DropBounds: true,
	}
}

// Facet is hostile code. Its children would be stopped by the filter and by RLIMIT_FSIZE
// it writes no file, should it ever get hold of one. Never RLIMIT_AS: Go maps more than 1 GB.
func Facet(filter []byte) Profile {
	return Profile{
		Name: "facet", Namespaces: NamespacesFacet, Filter: filter,
		Rlimits: append([]Rlimit{
			{unix.RLIMIT_FSIZE, 0},
			{unix.RLIMIT_NOFILE, ExecFD + 1},
		}, noSecrets...),
		Identity: true, Landlock: true,
	}
}

// Gateway is the process that speaks HTTP and holds the keys.
func Gateway(filter []byte) Profile {
	return Profile{
		Name: "fgw-gateway", Namespaces: NamespacesGateway, Filter: filter,
		Rlimits: noSecrets, DropBounds: true, Identity: true, Landlock: true,
	}
}

// SQLD executes untrusted SQL.
func SQLD(filter []byte) Profile {
	return Profile{
		Name: "fgw-sqld", Namespaces: NamespacesSQLD, Filter: filter,
		Rlimits: noSecrets, DropBounds: true, Identity: true, Landlock: true,
	}
}

// Limits of a builder. The largest file that a build writes is the executable, which may have 100 MB.
const (
	builderFileBytes = 128 << 20
	builderFiles     = 1024
)

// Builder runs the Go toolchain on hostile sources. Unlike the others it starts programs: those of the toolchain,
// which inherit all that is set here.
func Builder(filter []byte) Profile {
	return Profile{
		Name: "fgw-builder", Namespaces: NamespacesSQLD, Filter: filter, Hostname: "builder",
		Rlimits: append([]Rlimit{
			{unix.RLIMIT_FSIZE, builderFileBytes},
			{unix.RLIMIT_NOFILE, builderFiles},
		}, noSecrets...),
		DropBounds: true, Identity: true, Landlock: true,
	}
}
