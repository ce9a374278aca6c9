package seccomp

// Numbers of the kernel's interface, as the rules need them.
const (
	protExec     = 4
	mapPrivate   = 0x02
	mapFixed     = 0x10
	mapAnonymous = 0x20
	mapNoReserve = 0x4000

	cloneThread = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 // VM FS FILES SIGHAND THREAD SYSVSEM
	cloneSetTLS = 0x80000

	futexWaitPrivate = 128
	futexWakePrivate = 129

	prSetVMA      = 0x53564d41
	archSetFS     = 0x1002
	atEmptyPath   = 0x1000
	fGetFD        = 1
	fSetFD        = 2
	fGetFL        = 3
	fSetFL        = 4
	fDupCloexec   = 1030
	solSocket     = 1
	sigQuit       = 3
	sigAbrt       = 6
	sigBus        = 7
	sigFPE        = 8
	sigSegv       = 11
	sigPipe       = 13
	sigUrg        = 23
	execFD        = 63 // confine.ExecFD
	goThreadNoTLS = cloneThread
	goThread      = cloneThread | cloneSetTLS
)

// goRuntime is what every Go program without cgo calls, memory apart.
func goRuntime() []Rule {
	rules := []Rule{
		{Call: "execveat", Args: []Arg{is32(0, execFD), is32(4, atEmptyPath)}, Needs: "the last step of confinement: the descriptor closes with it"},
		{Call: "arch_prctl", Arch: "amd64", Args: []Arg{is32(0, archSetFS)}, Needs: "runtime.settls, at start"},
		{Call: "sched_getaffinity", Needs: "runtime.getproccount, at start"},
		{Call: "clone", Arch: "amd64", Args: []Arg{is(0, goThread)}, Needs: "runtime.newosproc: a thread, exactly as Go makes one"},
		{Call: "clone", Arch: "arm64", Args: []Arg{is(0, goThreadNoTLS)}, Needs: "runtime.newosproc"},
		{Call: "exit", Needs: "runtime.exitThread"},
		{Call: "exit_group", Needs: "os.Exit"},
		{Call: "gettid", Needs: "runtime.minit, signals to a thread"},
		{Call: "getpid", Needs: "runtime.raise, os.Getpid"},
		{Call: "futex", Args: []Arg{is32(1, futexWaitPrivate)}, Needs: "runtime.futexsleep"},
		{Call: "futex", Args: []Arg{is32(1, futexWakePrivate)}, Needs: "runtime.futexwakeup"},
		{Call: "nanosleep", Needs: "runtime.usleep"},
		{Call: "sched_yield", Needs: "runtime.osyield"},
		{Call: "clock_gettime", Needs: "time.Now where the vDSO can't answer"},
		{Call: "restart_syscall", Needs: "a timed wait goes on after the process was stopped"},
		{Call: "rt_sigaction", Needs: "runtime.initsig"},
		{Call: "rt_sigprocmask", Needs: "runtime.sigblock, around thread creation"},
		{Call: "rt_sigreturn", Needs: "end of every signal handler"},
		{Call: "sigaltstack", Needs: "runtime.minitSignalStack"},
		{Call: "madvise", Needs: "runtime.sysUnused, sysHugePage"},
		{Call: "munmap", Needs: "runtime.sysFree"},
		{Call: "mprotect", Args: []Arg{without(2, protExec)}, Needs: "runtime.sysFault; never executable"},
		{Call: "prctl", Args: []Arg{is32(0, prSetVMA), is(1, 0)}, Needs: "runtime.setVMAName"},
		{Call: "prlimit64", Args: []Arg{is32(0, 0), is(2, 0)}, Needs: "syscall.adjustFileLimit, reading its own limits"},
		{Call: "getrandom", Needs: "runtime.randinit, crypto/rand"},
		{Call: "read", Needs: "os, net"},
		{Call: "write", Needs: "os, net, a panic's text"},
		{Call: "close", Needs: "os, net"},
		{Call: "epoll_create1", Needs: "runtime.netpollinit"},
		{Call: "epoll_ctl", Needs: "runtime.netpollopen"},
		{Call: "epoll_pwait", Needs: "runtime.netpoll"},
		{Call: "eventfd2", Needs: "runtime.netpollinit, to be woken"},
		{Call: "getsockname", Needs: "net.FileConn"},
		{Call: "getpeername", Needs: "net.FileConn"},
		{Call: "getsockopt", Args: []Arg{is32(1, solSocket)}, Needs: "net.FileConn: type and pending error"},
	}
	for _, cmd := range []struct {
		n     uint64
		needs string
	}{
		{fGetFL, "os.NewFile, poll.FD: is it non-blocking"},
		{fSetFL, "syscall.SetNonblock"},
		{fGetFD, "runtime.checkfds, at start"},
		{fSetFD, "syscall.CloseOnExec"},
		{fDupCloexec, "net.FileConn, (*net.UnixConn).File"},
	} {
		rules = append(rules, Rule{Call: "fcntl", Args: []Arg{is32(1, cmd.n)}, Needs: cmd.needs})
	}
	for _, sig := range []struct {
		n     uint64
		needs string
	}{
		{sigUrg, "runtime.preemptM"},
		{sigAbrt, "runtime.crash"},
		{sigQuit, "runtime.dieFromSignal"},
		{sigSegv, "runtime.dieFromSignal"},
		{sigBus, "runtime.dieFromSignal"},
		{sigFPE, "runtime.dieFromSignal"},
		{sigPipe, "os.epipecheck: output that nobody reads"},
	} {
		rules = append(rules, Rule{Call: "tgkill", Args: []Arg{is32(2, sig.n)}, Needs: sig.needs})
	}
	return rules
}
