package sandboxd

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// process is one that sandboxd answers for: the launcher, the gateway, a SQL
// worker, a facet. Life: started → (killed) → ended: reaped, by whoever is its
// parent → gone: its cgroup is empty, exit is set, done closed.
type process struct {
	id    uint64 // for the gateway; 0 for the launcher and the gateway itself
	name  string
	pid   int
	uid   int
	index int // of a SQL worker; -1
	group cgroup.Group
	files int // descriptors that the desk has set aside for it

	tree       *tree // that its group lies in; nil where it stands alone
	supervisor bool  // the tree is its own: it may have children

	mu     sync.Mutex // guards pidfd, limits and killed
	pidfd  int        // -1 once the process has ended
	limits protocol.Limits
	killed bool

	exit protocol.Exit // set before done is closed
	done chan struct{}
}

// kill ends the process and, as it is the init of a pid namespace, everything it started.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return
	}
	p.killed = true
	unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
	if p.group != nil {
		p.group.Kill() // on v2 also what might be left outside the namespace; v1 has no such thing
	}
}

// oomScore makes the kernel, when the whole machine is out of memory, choose a facet or builder before the gateway, a
// SQL worker or sandboxd, which all would miss. Half of the scale: a gateway that itself holds most of the memory is still found.
const oomScore = "500"

// expendable gives the process that score. It is done from without, once the process runs: in the facets' world there
// is no /proc. Failing, it is left: the facet's own limit holds all the same.
func (p *process) expendable() {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/oom_score_adj", p.pid), unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	p.mu.Lock()
	defer p.mu.Unlock()
	// It lives, after the file was opened: so the file is its own and not that of a later process with its number.
	if p.pidfd >= 0 && unix.PidfdSendSignal(p.pidfd, 0, nil, 0) == nil {
		unix.Write(fd, []byte(oomScore))
	}
}

// terminate asks the process to end.
func (p *process) terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd >= 0 {
		unix.PidfdSendSignal(p.pidfd, unix.SIGTERM, nil, 0)
	}
}

// ended is called once, when the process is reaped. It waits until the group is empty: the
// kernel takes the last task out of it a moment after the parent learns of its end.
func (p *process) ended(status syscall.WaitStatus, cpu time.Duration) {
	p.mu.Lock()
	unix.Close(p.pidfd)
	p.pidfd = -1
	limit := p.limits.MemoryBytes
	p.mu.Unlock()
	e := protocol.Exit{CPU: cpu, Limit: limit}
	if status.Signaled() {
		e.Signal = int(status.Signal())
		e.Seccomp = status.Signal() == syscall.SIGSYS
	} else {
		e.Code = status.ExitStatus()
	}
	if p.group != nil {
		for tries := 0; !p.group.Empty() && tries < 1000; tries++ {
			time.Sleep(time.Millisecond) // no event tells when a v1 group becomes empty
		}
		if u, err := p.group.Usage(); err == nil {
			e.MemoryPeak = u.MemoryPeak
			if e.OOM = u.OOMKills > 0 && e.Signal == int(syscall.SIGKILL); e.OOM && !p.group.Full() {
				e.Limit, e.Whose = p.tree.full(p.supervisor)
			}
			if u.CPUKnown {
				e.CPU = u.CPU
			}
		}
	}
	p.exit = e
	close(p.done)
}

// await reaps a child of sandboxd's own.
func (p *process) await() {
	var (
		status syscall.WaitStatus
		usage  syscall.Rusage
	)
	for {
		_, err := syscall.Wait4(p.pid, &status, 0, &usage)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	p.ended(status, time.Duration(usage.Utime.Nano()+usage.Stime.Nano()))
}

// stats reads what the process has used so far.
func (p *process) stats() (protocol.Stats, error) {
	if p.group == nil {
		return protocol.Stats{}, errors.ErrUnsupported
	}
	u, err := p.group.Usage()
	return protocol.Stats{CPU: u.CPU, MemoryBytes: u.Memory, MemoryPeak: u.MemoryPeak, Processes: u.Processes}, err
}
