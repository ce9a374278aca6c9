package facet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// A standby is a process that was started before anyone needs it: confined, past exec, and waiting for the message
// that tells it which facet it is. A start that finds one of its kind saves what starting a program costs, which is
// most of a wake. It becomes one facet and is never used again.
//
// Nobody is charged for a standby, so it may do nothing: it is there to wait. One that computes, grows, prints or
// ends is thrown away, and its bundle gets none for a while. Otherwise a bundle could have work done that no
// facet's limits or usage know of, by being started once a minute.

const (
	// standbyIdle is how long a standby waits: someone who comes back within a minute is worth a megabyte.
	standbyIdle = time.Minute
	// standbyRest is how long a bundle gets none whose standby misbehaved.
	standbyRest = 10 * time.Minute
	// standbyMost bounds all standbys, each of which is a user id, three cgroups and two to four threads of the kernel's.
	standbyMost = 64
	// standbyShare is the part of the machine's memory that all of them may take, as if each took the most it may.
	standbyShare = 16
	// standbyMemory is what one may take. A Go program with net/http has 2 MiB when it waits; one that has read
	// large tables by then waits for nobody.
	standbyMemory = 32 << 20
	// standbyCPU is what one may compute, its own start included: a Go program takes 5 ms, and ten times as long
	// where it has much to initialize.
	standbyCPU = 250 * time.Millisecond
	// standbyLook is when a new one is looked at first; the pauses double up to standbyLooks.
	standbyLook  = 50 * time.Millisecond
	standbyLooks = time.Second
	// standbyDelay keeps the making of a standby out of the way of the start that made it wanted, and of that
	// facet's first request: all want the processors in the same few milliseconds.
	standbyDelay = 3 * time.Millisecond
	// maxResting bounds the bundles that are remembered for having misbehaved.
	maxResting = 1024
)

// standbys keeps one process ready of each kind that was used lately.
type standbys struct {
	log   *slog.Logger
	begin func(context.Context, kind) (*process, error)
	has   func(bundle string) bool
	most  int
	idle  time.Duration
	delay time.Duration

	ctx  context.Context // ends with close
	stop context.CancelFunc
	wg   sync.WaitGroup // keepers, and what ends processes

	mu      sync.Mutex // guards what follows
	all     map[kind]*standby
	resting map[string]time.Time // bundles that get none before
	habits  map[kind]habit       // of supervisors
	spares  int                  // beside those in all
	closed  bool
}

// standby is one process kept ready, or about to be. Who takes it out of the map owns the process from then on.
type standby struct {
	kind     kind
	used     time.Time     // when its kind was last started; guarded by standbys.mu
	out      chan struct{} // closed when it is taken out of the map
	born     chan struct{} // closed when process is set
	spare    *spare        // for the first child of a supervisor, nil where there is none; guarded by standbys.mu
	*process               // nil where it was taken before it was begun, or could not be
}

func newStandbys(log *slog.Logger, begin func(context.Context, kind) (*process, error), has func(bundle string) bool) *standbys {
	s := &standbys{log: log, begin: begin, has: has, most: mostStandbys(), idle: standbyIdle, delay: standbyDelay,
		all: map[kind]*standby{}, resting: map[string]time.Time{}, habits: map[kind]habit{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// mostStandbys is how many this machine has room for.
func mostStandbys() int {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 1
	}
	return roomFor(uint64(info.Totalram) * uint64(info.Unit))
}

func roomFor(memory uint64) int { return int(min(standbyMost, memory/standbyShare/standbyMemory)) }

// want notes that a process of that kind was started and did well: the next one is kept ready.
func (s *standbys) want(k kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if k.seat.Under != nil {
		return // it would lie in its supervisor's limits, and take room there that a facet asks for
	}
	if s.closed || s.most == 0 || now.Before(s.resting[k.bundle]) {
		return
	}
	if b := s.all[k]; b != nil {
		b.used = now
		return
	}
	if len(s.all) >= s.most {
		s.throwOut(longestUnused(s.all))
	}
	b := &standby{kind: k, used: now, out: make(chan struct{}), born: make(chan struct{})}
	s.all[k] = b
	s.wg.Go(func() { s.keep(b) })
}

func longestUnused(all map[kind]*standby) (oldest *standby) {
	for _, b := range all {
		if oldest == nil || b.used.Before(oldest.used) {
			oldest = b
		}
	}
	return oldest
}

// take gives a process of that kind, which is the caller's from then on, and the spare beside it, which may be nil and ends in
// its time; nil where none is kept. One that is being started is waited for: it is ahead of any that would be started now.
func (s *standbys) take(ctx context.Context, k kind) (*process, *spare) {
	s.mu.Lock()
	b := s.all[k]
	if b != nil {
		s.remove(b)
	}
	s.mu.Unlock()
	if b == nil {
		return nil, nil
	}
	select {
	case <-b.born:
	case <-ctx.Done():
		s.end(b)
		return nil, nil
	}
	if b.process == nil {
		return nil, nil
	}
	select {
	case <-b.Done(): // it ended, and its keeper had no time to find out
		b.discard()
		return nil, nil
	default:
	}
	if b.spare != nil {
		s.leaveSpare(b.spare)
	}
	return b.process, b.spare
}

// count is how many there are.
func (s *standbys) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// remove takes a standby out of the map. s.mu is held.
func (s *standbys) remove(b *standby) {
	delete(s.all, b.kind)
	close(b.out)
	if b.spare != nil {
		s.spares--
	}
}

// discard ends the process, and before it the spare that lies in its limits.
func (b *standby) discard() {
	if b.spare != nil {
		b.spare.end()
	}
	b.process.discard()
}

// throwOut ends a standby. s.mu is held.
func (s *standbys) throwOut(b *standby) {
	s.remove(b)
	s.end(b)
}

// end ends a standby's process in the background.
func (s *standbys) end(b *standby) {
	s.wg.Go(func() {
		if <-b.born; b.process != nil {
			b.discard()
		}
	})
}

// keep makes a standby and watches over it until it is taken out.
func (s *standbys) keep(b *standby) {
	if !s.bear(b) {
		return
	}
	s.accompany(b)
	pause := standbyLook
	for {
		var why string
		select {
		case <-b.out:
			return
		case <-b.Done():
			why = "it ended: " + b.Exit().String()
		case <-time.After(pause):
			pause = min(2*pause, standbyLooks)
			s.accompany(b) // what its kind starts may be known by now
			why = s.look(b)
		}
		if over, mine := s.judge(b, why); over {
			if mine && why != "" { // what it said would be lost with it: no facet has a log for it
				s.log.Info("a process that was kept ready did more than wait: its bundle gets none for a while", "bundle", b.kind.bundle,
					"reason", why, "for", standbyRest.String(), "printed", clip(b.saidSoFar()))
			}
			if mine {
				b.discard()
			}
			return
		}
	}
}

// judge takes a standby out whose time is over, or that misbehaved. It reports whether that has happened, and
// whether by this call.
func (s *standbys) judge(b *standby, why string) (over, mine bool) {
	gone := !s.has(b.kind.bundle) || b.spare != nil && !s.has(b.spare.kind.bundle)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.all[b.kind] != b:
		return true, false
	case why == "" && !gone && time.Since(b.used) <= s.idle:
		return false, false
	}
	s.remove(b)
	if why != "" {
		s.rest(b.kind.bundle)
	}
	return true, true
}

// rest keeps a bundle from having standbys for a while. s.mu is held.
func (s *standbys) rest(bundle string) {
	now := time.Now()
	for b, until := range s.resting {
		if now.After(until) || len(s.resting) >= maxResting {
			delete(s.resting, b)
		}
	}
	s.resting[bundle] = now.Add(standbyRest)
}

// bear starts the process. It reports whether there is one to be watched.
func (s *standbys) bear(b *standby) bool {
	defer close(b.born)
	select {
	case <-time.After(s.delay):
	case <-b.out:
		return false
	}
	ctx, cancel := context.WithTimeout(s.ctx, killTime)
	defer cancel()
	p, err := s.begin(ctx, b.kind)
	if err == nil {
		b.process = p
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[b.kind] == b {
		s.remove(b)
		if s.ctx.Err() == nil {
			s.log.Warn("no process could be kept ready", "bundle", b.kind.bundle, "error", err)
		}
	}
	return false
}

// look says what a standby has done that it may not, "" where it waits as it should.
func (s *standbys) look(b *standby) string {
	ctx, cancel := context.WithTimeout(s.ctx, killTime)
	defer cancel()
	if why := b.process.misused(ctx); why != "" || b.spare == nil || b.spare.process == nil {
		return why
	}
	if why := b.spare.process.misused(ctx); why != "" {
		return "the process beside it, of bundle " + b.spare.kind.bundle + ": " + why
	}
	return ""
}

func (p *process) misused(ctx context.Context) string {
	used, err := p.Stats(ctx)
	if err != nil {
		return "what it uses is not known: " + err.Error()
	}
	return misuse(used, p.hasPrinted())
}

// misuse judges what a standby has used.
func misuse(used protocol.Stats, printed bool) string {
	switch {
	case used.CPU == 0: // it has run: nobody counts
		return "what it computes is not known"
	case used.CPU > standbyCPU:
		return fmt.Sprintf("it computed for %s, at most %s is a start", used.CPU.Round(time.Millisecond), standbyCPU)
	case used.MemoryBytes > standbyMemory:
		return fmt.Sprintf("it took %s of memory, at most %s is a start", sizeText(used.MemoryBytes), sizeText(standbyMemory))
	case printed:
		return "it printed"
	}
	return ""
}

// close ends every standby and returns when none is left.
func (s *standbys) close() {
	s.mu.Lock()
	s.closed = true
	for _, b := range s.all {
		s.throwOut(b)
	}
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
}
