package sandboxd

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/facetgateway/fgw/sandboxd/confine"
	"github.com/facetgateway/fgw/sandboxd/launcher"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/seccomp"
	"golang.org/x/sys/unix"
)

// Where things lie in the worlds of the gateway and of the SQL workers.
const (
	gatewayData = "/data"
	sqldObjects = "/objects"
)

// maxListeners is how many descriptors the gateway can start with, less those that have a fixed place.
const maxListeners = confine.ExecFD - protocol.BootHTTP

// gatewayFiles are what the gateway needs of the host's files to speak to others: names, certificates.
// Single files, not /etc: what is not here can't be read by whoever takes the gateway over.
var gatewayFiles = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl/certs", "/etc/pki/tls/certs",
	"/etc/pki/ca-trust/extracted", "/etc/ca-certificates/extracted", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
}

// profile leaves out of a profile what was decided not to be had.
func (d Decision) profile(name string, make func(filter []byte) confine.Profile) (confine.Profile, error) {
	var filter []byte
	if d.Seccomp && name != "" {
		var err error
		if filter, err = seccomp.Filter(name); err != nil {
			return confine.Profile{}, err
		}
	}
	p := make(filter)
	if !d.Namespaces {
		p.Namespaces = 0
	}
	if !d.Identity {
		p.Identity = false
	}
	p.Landlock = d.LandlockABI > 0
	return p, nil
}

// server is one gateway's sandboxd at work.
type server struct {
	cfg   Config
	plan  Decision
	uid   int      // the gateway's and its workers'
	bound []string // the listeners' addresses
	data  *dataDir
	exe   *os.File
	null  *os.File
	life  *os.File // the reading end: closes with sandboxd
	hold  *os.File // the writing end

	stderr  *os.File
	printer *printer // of what the children print, to stderr

	forker *forker
	tree   cgroupTree
	slots  *slots
	facets *facets
	desk   *desk
	served chan struct{} // closed when the desk is; nil before

	launcher, gateway *process
	workers           workers
	builds            builds
}

// ownOutput stands in a Spec's Files for a pipe that sandboxd copies to its error output.
const ownOutput = -1

// spec is what every child of sandboxd's own starts with: no input, its output to be copied by sandboxd.
func (s *server) spec(files ...*os.File) confine.Spec {
	spec := confine.Spec{
		Exe: int(s.exe.Fd()), Files: []int{int(s.null.Fd()), ownOutput, ownOutput},
		Env: []string{"GODEBUG=containermaxprocs=0,updatemaxprocs=0"},
		UID: s.uid, GID: s.uid, Into: -1, Ruleset: -1, Life: int(s.life.Fd()),
	}
	for _, f := range files {
		spec.Files = append(spec.Files, int(f.Fd()))
	}
	return spec
}

// fork starts a child of that profile in a group of its own, and watches over it.
func (s *server) fork(p *process, profile confine.Profile, spec confine.Spec) error {
	starter, err := confine.NewStarter(profile)
	if err != nil {
		return err
	}
	defer starter.Close()
	if p.group != nil {
		spec.Join, spec.Into = p.group.Join(), p.group.Into()
	}
	ended := func() {}
	if slices.Contains(spec.Files, ownOutput) {
		var w *os.File
		if w, ended, err = s.printer.pipe(p.name); err != nil {
			return err
		}
		defer w.Close()
		for i, fd := range spec.Files {
			if fd == ownOutput {
				spec.Files[i] = int(w.Fd())
			}
		}
	}
	p.done = make(chan struct{})
	child, err := s.forker.start(starter, spec)
	p.pid, p.pidfd, p.uid = child.PID, child.PIDFD, spec.UID
	if child.PID == 0 {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.await()
		ended()
	}()
	if err != nil {
		<-p.done
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

// startLauncher starts the process that makes facets, in the empty world that they share.
func (s *server) startLauncher() (int, error) {
	ours, theirs, err := seqpacket()
	if err != nil {
		return 0, err
	}
	defer theirs.Close()
	profile, err := s.plan.profile("", func([]byte) confine.Profile { return confine.Launcher() })
	if err != nil {
		return 0, err
	}
	profile.Landlock = false // its children have rulesets of their own
	spec := s.spec(theirs)
	spec.UID = os.Geteuid()
	spec.Args = launcher.Options{
		LandlockABI: s.plan.LandlockABI, Seccomp: s.plan.Seccomp, Namespaces: s.plan.Namespaces, Identity: s.plan.Identity,
	}.Args()
	if s.plan.Namespaces {
		root, err := confine.NewRoot()
		if err != nil {
			return 0, fmt.Errorf("prepare the facets' root: %w", err)
		}
		defer root.Close()
		spec.Root, spec.Dir = root, "/"
	}
	s.launcher = &process{name: "the launcher", index: -1}
	if err := s.fork(s.launcher, profile, spec); err != nil {
		ours.Close()
		return 0, err
	}
	s.facets, err = newFacets(ours)
	return s.launcher.pid, err
}

// startGateway starts the gateway with its listeners, and closes ours.
func (s *server) startGateway(addrs []string, listeners []*os.File) error {
	ours, theirs, err := seqpacket()
	if err != nil {
		return err
	}
	defer theirs.Close()
	admin, err := s.data.listenAdmin(s.uid)
	if err != nil {
		return err
	}
	defer admin.Close()
	boot, err := s.bootFile(addrs)
	if err != nil {
		return err
	}
	defer boot.Close()
	profile, err := s.plan.profile("gateway", confine.Gateway)
	if err != nil {
		return err
	}
	spec := s.spec(append([]*os.File{theirs, boot, admin, s.data.lock}, listeners...)...)
	spec.Dir = s.data.path
	if s.plan.Namespaces {
		spec.Dir = gatewayData
		binds := []confine.Bind{
			{FD: s.data.fd(), Target: gatewayData, Writable: true},
			{Path: os.DevNull, Target: os.DevNull, Writable: true, Devices: true},
		}
		for _, f := range gatewayFiles {
			binds = append(binds, confine.Bind{Path: f, Target: f, Optional: true})
		}
		if spec.Root, err = confine.NewRoot(binds...); err != nil {
			return fmt.Errorf("prepare the gateway's root: %w", err)
		}
		defer spec.Root.Close()
		if s.plan.LandlockABI >= 2 { // version 1 forbids moving files between directories
			if spec.Ruleset, err = confine.NewRuleset(s.plan.LandlockABI, true,
				confine.Allow{FD: int(s.exe.Fd()), Right: confine.Exec},
				confine.Allow{FD: spec.Root.FD(), Right: confine.Read},
				confine.Allow{FD: spec.Root.Tree(gatewayData), Right: confine.Write},
				confine.Allow{FD: spec.Root.Tree(os.DevNull), Right: confine.Write}); err != nil {
				return err
			}
			defer closeFDs([]int{spec.Ruleset})
		}
	}
	s.gateway = &process{name: "the gateway", index: -1}
	if s.gateway.group, err = s.newGroup("gateway", 0); err != nil {
		return err
	}
	if err := s.fork(s.gateway, profile, spec); err != nil {
		ours.Close()
		return err
	}
	s.desk, err = s.openDesk(ours)
	return err
}

// bootFile writes what the gateway needs to know into a sealed memfd.
func (s *server) bootFile(addrs []string) (*os.File, error) {
	dir := s.data.path
	if s.plan.Namespaces {
		dir = gatewayData
	}
	raw, err := json.Marshal(protocol.BootFile{
		DataDir: dir, HostPath: s.data.path, Addrs: addrs, Workers: s.cfg.Workers,
		MaxFacet: s.cfg.MaxFacet, Config: s.cfg.GatewayConfig,
	})
	if err != nil {
		return nil, fmt.Errorf("write the gateway's configuration: %w", err)
	}
	fd, err := unix.MemfdCreate("boot", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "boot")
	if _, err := f.Write(raw); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the gateway's configuration: %w", err)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the gateway's configuration: %w", err)
	}
	return f, nil
}

// startSQLD starts SQL worker index. It is the one user of its files, so a predecessor must have
// ended first: a living one is refused, a killed one is waited for.
func (s *server) startSQLD(id uint64, index, control, shared int) (*process, error) {
	if index < 0 || index >= s.cfg.Workers {
		return nil, fmt.Errorf("no SQL worker %d: there are %d", index, s.cfg.Workers)
	}
	old, err := s.workers.begin(index)
	if err != nil {
		return nil, err
	}
	if old != nil && old.group != nil {
		if err := old.group.Delete(); err != nil {
			s.cfg.Log.Warn("cgroup can't be removed", "error", err)
		}
	}
	p := &process{id: id, name: "a SQL worker", index: index}
	if err = s.forkSQLD(p, control, shared); err != nil {
		p = nil
	}
	s.workers.end(index, p)
	return p, err
}

func (s *server) forkSQLD(p *process, control, shared int) error {
	profile, err := s.plan.profile("sqld", confine.SQLD)
	if err != nil {
		return err
	}
	objects, err := s.data.objects(s.uid)
	if err != nil {
		return err
	}
	defer objects.Close()
	spec := s.spec()
	spec.Files = append(spec.Files, control, shared, int(s.data.lock.Fd()))
	spec.Dir = s.data.path + "/objects"
	if s.plan.Namespaces {
		spec.Dir = sqldObjects
		if spec.Root, err = confine.NewRoot(confine.Bind{FD: int(objects.Fd()), Target: sqldObjects, Writable: true}); err != nil {
			return fmt.Errorf("prepare the SQL worker's root: %w", err)
		}
		defer spec.Root.Close()
		if s.plan.LandlockABI >= 2 {
			if spec.Ruleset, err = confine.NewRuleset(s.plan.LandlockABI, false,
				confine.Allow{FD: int(s.exe.Fd()), Right: confine.Exec},
				confine.Allow{FD: spec.Root.FD(), Right: confine.Read},
				confine.Allow{FD: spec.Root.Tree(sqldObjects), Right: confine.Write}); err != nil {
				return err
			}
			defer closeFDs([]int{spec.Ruleset})
		}
	}
	p.limits.MemoryBytes = s.cfg.SQLMemory
	// The collector works harder before the kernel kills.
	spec.Env = append(spec.Env, fmt.Sprintf("GOMEMLIMIT=%d", s.cfg.SQLMemory/10*9))
	if p.group, err = s.newGroup(fmt.Sprintf("sqld-%d.%d", p.index, p.id), s.cfg.SQLMemory); err != nil {
		return err
	}
	return s.fork(p, profile, spec)
}

// seqpacket makes a pair of connected sockets that keep messages apart.
func seqpacket() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socketpair"), os.NewFile(uintptr(fds[1]), "socketpair"), nil
}

// checkListeners holds the number of listeners to what fits.
func checkListeners(addrs []string) error {
	if len(addrs) > maxListeners {
		return fmt.Errorf("%d addresses to listen on: at most %d", len(addrs), maxListeners)
	}
	if slices.Contains(addrs, "") {
		return fmt.Errorf("an empty address to listen on")
	}
	return nil
}
