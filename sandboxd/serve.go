// Package sandboxd is the privileged parent of a gateway's processes. It starts
// them, each confined by what the kernel has, accounts for them, kills and
// reaps them, and parses nothing that a facet or a client sends.
//
// DESIGN.md beside this file says in which order things are done and why.
package sandboxd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// drainPatience is how long the gateway may take to finish what is under way.
const drainPatience = 10 * time.Second

// cgroupTree is nil where groups can't be had and were waived.
type cgroupTree = cgroup.Tree

// Serve runs a gateway on a data directory until ctx ends, and then drains it; it returns once
// every process that it started is gone, and what it made in the kernel removed. The calling process must be
// the program that knows the names fgw-launcher, fgw-gateway, fgw-sqld and fgw-sandboxd as argv[0].
func Serve(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err == nil {
		err = checkListeners(cfg.Listen)
	}
	if err != nil {
		return err
	}
	plan := Plan(Probe(), Options{Insecure: cfg.Insecure})
	if len(plan.Missing) > 0 {
		return &MissingError{plan.Missing}
	}
	warn(cfg, plan)
	if plan.UserNS {
		return serveAsUser(ctx, cfg, plan)
	}
	return serveHere(ctx, cfg, plan)
}

// serveHere is Serve where this process has the privileges that the plan needs.
func serveHere(ctx context.Context, cfg Config, plan Decision) (err error) {
	// It waits for its children and passes requests on: with a second thread, each of them would be handed from one to the other.
	runtime.GOMAXPROCS(1)
	s := &server{cfg: cfg, plan: plan}
	if s.data, err = openDataDir(ctx, cfg.DataDir, cfg.Log); err != nil {
		return err
	}
	defer s.data.close()
	listeners, addrs, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	s.bound = addrs
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(); err != nil {
		return err
	}
	if err := s.startGateway(addrs, listeners); err != nil {
		return err
	}
	closeAll(listeners) // the gateway alone holds them now
	return s.run(ctx)
}

// warn says loudly which required layers are missing with the administrator's consent.
func warn(cfg Config, plan Decision) {
	for _, l := range plan.Layers {
		if l.Required && !l.Active {
			cfg.Log.Warn("INSECURE: code runs without a required confinement layer", "layer", l.Layer, "why", l.Detail, "mend", l.Mend)
		}
	}
}

// start brings up everything but the gateway, in the order in which each needs what is before it.
func (s *server) start() (err error) {
	s.uid = os.Getuid()
	var uids *uidPool
	if s.plan.Identity {
		if s.uid = s.cfg.UIDBase; s.uid == 0 {
			mapped, taken := readUIDs()
			if s.uid, err = uidBase(s.data.hash, mapped, taken); err != nil {
				return err
			}
		}
		uids = newUIDPool(s.uid)
	}
	// What an earlier gateway left may still write into the directory: it goes first.
	if err := cgroup.Sweep(s.data.tree()); err != nil {
		return err
	}
	if err := s.data.give(s.uid); err != nil {
		return err
	}
	if objects, err := s.data.objects(s.uid); err != nil {
		return err
	} else {
		objects.Close()
	}
	if err := s.openOwn(); err != nil {
		return err
	}
	if s.plan.MDWE {
		// It belongs to the address space, which a vforked child shares: set here, it is inherited by all.
		if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("refuse executable memory: %w", err)
		}
	}
	s.forker = newForker()
	if err := s.enterGroups(); err != nil {
		return err
	}
	s.facets.uids = uids
	return nil
}

// openOwn opens what every child is given.
func (s *server) openOwn() (err error) {
	if s.exe = s.cfg.Exe; s.exe == nil {
		if s.exe, err = ownProgram(); err != nil {
			return err
		}
	}
	if dynamic(s.exe) {
		return ErrDynamic
	}
	if s.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	if s.stderr, err = errorOutput(); err != nil {
		return err
	}
	s.printer = newPrinter(s.stderr)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	s.life, s.hold = os.NewFile(uintptr(pipe[0]), "life"), os.NewFile(uintptr(pipe[1]), "life")
	return nil
}

// enterGroups makes the cgroups, and the launcher on the way.
func (s *server) enterGroups() (err error) {
	if s.plan.Cgroups == cgroup.None {
		_, err = s.startLauncher()
		return err
	}
	if s.tree, err = cgroup.Open(s.plan.Cgroups, s.data.tree()); err != nil {
		return err
	}
	if err := s.tree.Enter(s.startLauncher); err != nil {
		return err
	}
	s.slots = newSlots(s.tree, s.cfg.Log)
	s.facets.slots = s.slots
	return nil
}

// trustedWeight is the share of CPU time of the gateway and of each SQL worker, which everyone waits for: twice that of all
// facets together. More was tried for the gateway, since each request passes through it several times: with 10,000 it
// runs at each wake-up instead of when several wait, and hello fell from 21,700 requests/s to 18,000.
const trustedWeight = 400

func (s *server) newGroup(name string, memory int64) (cgroup.Group, error) {
	if s.tree == nil {
		return nil, nil
	}
	return s.tree.New(name, cgroup.Limits{Memory: memory, Weight: trustedWeight})
}

// openDesk takes over our end of a gateway's channel.
func (s *server) openDesk(conn *os.File) (*desk, error) {
	d, err := newDesk(conn)
	if err != nil {
		return nil, err
	}
	d.log, d.clamp, d.landlock, d.null = s.cfg.Log, s.cfg.clamp, s.plan.LandlockABI > 0, int(s.null.Fd())
	d.startFacet, d.startSQLD, d.setLimits = s.facets.start, s.startSQLD, s.setLimits
	d.startBuild = s.startBuild
	var once sync.Once
	d.ready = func() {
		once.Do(func() {
			if s.cfg.OnReady != nil {
				s.cfg.OnReady(s.bound)
			}
		})
	}
	return d, nil
}

// run serves the gateway's requests until something ends.
func (s *server) run(ctx context.Context) error {
	s.served = make(chan struct{})
	go func() { s.desk.serve(); close(s.served) }()
	served := s.served
	var drained <-chan time.Time
	stop := ctx.Done()
	for {
		select {
		case <-stop:
			stop = nil
			drained = time.After(drainPatience)
			s.desk.drain()
		case <-drained:
			s.cfg.Log.Warn("the gateway did not finish in time", "patience", drainPatience)
			return nil
		case <-s.cfg.Stop:
			return nil
		case <-s.gateway.done:
			if stop == nil {
				return nil
			}
			return &EndedError{ErrGatewayDied, s.gateway.exit}
		case <-served:
			served = nil
			s.gateway.kill() // it closed its channel or broke the protocol; its end is told above
		case <-s.launcher.done:
			return &EndedError{ErrLauncherDied, s.launcher.exit}
		}
	}
}

func (s *server) setLimits(p *process, l protocol.Limits) error {
	if p.group == nil || p.index >= 0 || p.supervisor { // a supervisor's are those of all that it has started
		return errors.ErrUnsupported
	}
	if p.tree != nil {
		l = p.tree.cap(l)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.group.Set(facetLimits(l)); err != nil {
		return err
	}
	p.limits = l
	return nil
}

// stop kills what is left and removes what was made. It holds for every state that start can have left.
func (s *server) stop() error {
	// The gateway first: then nobody asks for more.
	if p := s.gateway; p != nil && p.pid != 0 {
		p.kill()
		<-p.done
	}
	if s.served != nil {
		<-s.served
	}
	s.builds.stop()
	trusted := s.workers.all()
	if p := s.launcher; p != nil && p.pid != 0 {
		trusted = append(trusted, p)
	}
	for _, p := range trusted {
		p.kill()
	}
	for _, p := range trusted {
		<-p.done
	}
	if s.facets != nil {
		s.facets.wait()
	}
	if s.printer != nil {
		s.printer.close() // before Serve returns, whose error is told after what the children said
	}
	if s.slots != nil {
		s.slots.close()
	}
	var err error
	for _, p := range append(trusted, s.gateway) {
		if p != nil && p.group != nil {
			err = errors.Join(err, p.group.Delete())
		}
	}
	if s.tree != nil {
		err = errors.Join(err, s.tree.Close())
	}
	if s.forker != nil {
		s.forker.close()
	}
	s.data.removeAdmin()
	for _, f := range []*os.File{s.null, s.life, s.hold, s.stderr} {
		if f != nil {
			f.Close()
		}
	}
	if s.cfg.Exe == nil && s.exe != nil {
		s.exe.Close()
	}
	return err
}
