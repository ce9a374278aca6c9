package seccomp

// Gateway is the policy for the process that serves HTTP: the Go runtime,
// sockets, files below its data directory. It can start no program and map no
// executable memory, so whoever takes it over by a bug stays within its code.
func Gateway() Profile {
	rules := append(goRuntime(), memory()...)
	rules = append(rules, files()...)
	rules = append(rules, messages()...)
	rules = append(rules, needed("net: HTTP in, egress out",
		"accept4", "accept", "socket", "connect", "bind", "listen", "setsockopt", "sendto", "recvfrom",
		"shutdown", "socketpair", "sendfile", "splice", "readv", "writev")...)
	rules = append(rules, Rule{Call: "getsockopt", Needs: "net: TCP_INFO and the like"})
	rules = append(rules, needed("facets: output pipes, shared memory with the SQL workers", "pipe2", "memfd_create")...)
	rules = append(rules, needed("gate: files synced without a thread that waits", "io_setup", "io_submit", "io_getevents", "io_destroy")...)
	return Profile{Name: "gateway", Allow: rules, Kill: except(tripwires(), "splice")}
}

// SQLD is the policy for a SQL worker: files below the directory that it sees,
// messages over sockets that it was given. It makes no socket.
func SQLD() Profile {
	rules := append(goRuntime(), memory()...)
	rules = append(rules, files()...)
	rules = append(rules, messages()...)
	rules = append(rules, needed("net.UnixConn", "shutdown", "recvfrom", "sendto", "readv", "writev")...)
	return Profile{Name: "sqld", Allow: rules, Kill: tripwires()}
}

// memory: files and shared memory may be mapped, never executable.
func memory() []Rule {
	return []Rule{
		{Call: "mmap", Args: []Arg{without(2, protExec)}, Needs: "runtime; shared memory; SQLite"},
		{Call: "mremap", Needs: "modernc.org/libc"},
		{Call: "prctl", Args: []Arg{is32(0, 4), is(1, 0)}, Needs: "protocol.Hide: PR_SET_DUMPABLE 0"},
		{Call: "msync", Needs: "modernc.org/libc"},
	}
}

// messages: descriptors travel beside them.
func messages() []Rule {
	return needed("messages with descriptors, waiting for them", "sendmsg", "sendmmsg", "recvmsg", "recvmmsg", "poll", "ppoll")
}

// files: whatever the mount namespace, Landlock and the user's identity leave.
func files() []Rule {
	rules := needed("os, SQLite: files and directories",
		"openat", "pread64", "pwrite64", "preadv", "pwritev", "lseek", "fstat", "newfstatat", "statx", "fstatfs", "statfs",
		"fsync", "fdatasync", "ftruncate", "fallocate", "fadvise64", "sync_file_range", "copy_file_range", "flock",
		"unlinkat", "mkdirat", "renameat", "renameat2", "linkat", "symlinkat", "readlinkat", "faccessat", "faccessat2",
		"fchmod", "fchmodat", "fchown", "fchownat", "utimensat", "getdents64", "getcwd", "chdir", "fchdir", "umask",
		"fcntl", "dup", "dup3", "ioctl")
	for _, c := range []string{
		"open", "stat", "lstat", "access", "unlink", "rmdir", "mkdir", "rename", "link", "readlink", "chmod", "chown", "truncate",
		"utimes", "getdents", "dup2", "creat", "pipe", "time",
	} {
		rules = append(rules, Rule{Call: c, Arch: "amd64", Needs: "modernc.org/libc: the older forms"})
	}
	return append(rules, needed("modernc.org/libc, process figures",
		"getuid", "geteuid", "getgid", "getegid", "getppid", "uname", "sysinfo", "getrusage", "clock_getres", "clock_nanosleep",
		"gettimeofday", "times", "getpriority", "set_robust_list", "set_tid_address", "rseq")...)
}

func needed(needs string, calls ...string) []Rule {
	var rules []Rule
	for _, c := range calls {
		rules = append(rules, Rule{Call: c, Needs: needs})
	}
	return rules
}
