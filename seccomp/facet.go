package seccomp

// Facet is the policy for hostile native code: a Go program that computes,
// and talks over descriptors that it was given. No files, no sockets of its own,
// no processes, no executable memory.
func Facet() Profile {
	return Profile{
		Name: "facet",
		Allow: append(goRuntime(),
			Rule{Call: "mmap", Args: []Arg{
				without(2, protExec), only(3, mapPrivate|mapAnonymous, mapFixed|mapNoReserve),
			}, Needs: "runtime.sysReserve, sysMap: private memory, never a file, never executable"},
		),
		Kill: tripwires(),
	}
}
