package seccomp

// Numbers of the kernel's interface that only a process which starts others needs.
const (
	cloneVM    = 0x100
	cloneVFork = 0x4000
	clonePIDFD = 0x1000
	sigChld    = 17
)

// Builder is the policy for the Go toolchain at work on hostile sources: the go command, the compiler and the
// linker. They read and write files, start each other and wait, and map no executable
// memory of their own. No sockets at all, the one that brings the job comes connected.
func Builder() Profile {
	rules := append(goRuntime(), files()...)
	rules = append(rules,
		Rule{Call: "mmap", Args: []Arg{without(2, protExec)}, Needs: "runtime; the compiler and linker map objects and their output"},
		Rule{Call: "msync", Needs: "the linker's output"},
		Rule{Call: "clone", Args: []Arg{only(0, cloneVM|cloneVFork, clonePIDFD|sigChld)}, Needs: "os/exec: a process, as Go makes one"},
		Rule{Call: "execve", Needs: "os/exec; Landlock says which files: the toolchain's"},
	)
	rules = append(rules, needed("os/exec", "waitid", "wait4", "pidfd_open", "pidfd_send_signal", "pipe2", "setpgid")...)
	rules = append(rules, needed("read and write the job", "recvfrom", "sendto", "readv", "writev", "shutdown")...)
	return Profile{Name: "builder", Allow: rules, Kill: tripwires()}
}
