package facet

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// desk is a scripted sandboxd: its processes are numbers, the protocol and the wires are the real ones.
type desk struct {
	t      *testing.T
	fd     int
	client *protocol.Client
	dir    string   // holds the bundles
	born   chan int // numbers of processes that were started
	killed chan int

	mu    sync.Mutex
	stats protocol.Stats // of each process; guarded by mu
}

func newDesk(t *testing.T) *desk {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, fd: fds[0], born: make(chan int, 100), killed: make(chan int, 100), stats: protocol.Stats{CPU: time.Millisecond, MemoryBytes: 1 << 20}}
	if d.client, err = protocol.NewClient(os.NewFile(uintptr(fds[1]), "sandboxd")); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); d.serve() }()
	t.Cleanup(func() { d.client.Close(); <-served; unix.Close(d.fd) })
	return d
}

func (d *desk) serve() {
	b, oob := make([]byte, protocol.HeadBytes), make([]byte, 256)
	for last := 0; ; {
		n, oobn, _, _, err := unix.Recvmsg(d.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil || n == 0 {
			return
		}
		m, err := protocol.Parse(b[:n], false)
		if err != nil {
			d.t.Error(err)
			return
		}
		if cs, _ := unix.ParseSocketControlMessage(oob[:oobn]); len(cs) > 0 {
			files, _ := unix.ParseUnixRights(&cs[0])
			for _, f := range files {
				unix.Close(f)
			}
		}
		r := protocol.Message{Op: protocol.OpReply, ID: m.ID, Process: m.Process}
		switch m.Op {
		case protocol.OpSpawnFacet:
			last++
			r.Process, r.Args[0] = uint64(last), int64(last)
			d.born <- last
		case protocol.OpStats:
			d.mu.Lock()
			r.Args[1], r.Args[2] = int64(d.stats.CPU), d.stats.MemoryBytes
			d.mu.Unlock()
		case protocol.OpKill:
			r = protocol.ExitMessage(m.Process, protocol.Exit{Signal: 9})
			d.killed <- int(m.Process)
		}
		unix.Write(d.fd, r.Append(nil))
	}
}

func (d *desk) uses(s protocol.Stats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats = s
}

// await gives the next number.
func await(t *testing.T, what string, c chan int) int {
	t.Helper()
	select {
	case n := <-c:
		return n
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not within 10 s", what)
		return 0
	}
}

// newPool is a pool that works at once, and two kinds that it knows.
func newPool(t *testing.T) (*standbys, *desk, kind, kind) {
	d := newDesk(t)
	d.dir = t.TempDir()
	store, err := bundle.NewStore(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	hash, _, err := store.Put(t.Context(), strings.NewReader("a program"), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newStandbys(slog.New(slog.DiscardHandler), func(ctx context.Context, k kind) (*process, error) {
		p, err := newProcess(k)
		if err == nil {
			err = p.start(ctx, d.client, store)
		}
		return p, err
	}, store.Has)
	s.delay, s.most = 0, 2
	t.Cleanup(s.close)
	a := kind{bundle: hash, limits: protocol.Limits{MemoryBytes: 1}, database: true}
	b := a
	b.limits.MemoryBytes = 2
	return s, d, a, b
}

func pick(s *standbys, ctx context.Context, k kind) *process {
	p, _ := s.take(ctx, k)
	return p
}

func TestStandbyIsTakenOnce(t *testing.T) {
	s, d, a, b := newPool(t)
	if p := pick(s, t.Context(), a); p != nil {
		t.Error("there is one that nobody wanted")
	}
	s.want(a)
	s.want(a) // one is enough
	n := await(t, "a process", d.born)
	if p := pick(s, t.Context(), b); p != nil {
		t.Error("one of another kind was given")
	}
	p := pick(s, t.Context(), a)
	if p == nil || p.PID() != n {
		t.Fatalf("%v, wanted process %d", p, n)
	}
	defer p.discard()
	if again := pick(s, t.Context(), a); again != nil {
		t.Error("one was given twice")
	}
	if len(d.born) > 0 {
		t.Errorf("%d more were started", len(d.born))
	}
}

func TestStandbyThatIsBeingStartedIsWaitedFor(t *testing.T) {
	s, d, a, _ := newPool(t)
	begin, under, goOn := s.begin, make(chan struct{}), make(chan struct{})
	s.begin = func(ctx context.Context, k kind) (*process, error) { under <- struct{}{}; <-goOn; return begin(ctx, k) }
	s.want(a)
	<-under
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p := pick(s, ctx, a); p != nil {
		t.Error("one was given that is not there yet")
	}
	goOn <- struct{}{}
	if n := await(t, "it is nobody's then", d.killed); n != await(t, "a process", d.born) {
		t.Errorf("process %d was ended", n)
	}

	s.want(a)
	<-under
	got := make(chan *process)
	go func() { got <- pick(s, t.Context(), a) }()
	goOn <- struct{}{}
	p := <-got
	if p == nil {
		t.Fatal("the one that was being started was not waited for")
	}
	p.discard()
}

func TestLongestUnusedStandbyMakesRoom(t *testing.T) {
	s, d, a, b := newPool(t)
	s.want(a)
	first := await(t, "a process", d.born)
	s.want(b)
	second := await(t, "a process", d.born)
	s.want(a) // used again
	c := a
	c.limits.MemoryBytes = 3
	s.want(c)
	await(t, "a process", d.born)
	if n := await(t, "one makes room", d.killed); n != second {
		t.Errorf("process %d was ended, of %d and %d", n, first, second)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) != 2 {
		t.Errorf("%d are kept, 2 may be", len(s.all))
	}
}

func TestStandbyEnds(t *testing.T) {
	for name, end := range map[string]func(*standbys, *desk, kind){
		"idle":      func(s *standbys, _ *desk, _ kind) { s.mu.Lock(); s.idle = 0; s.mu.Unlock() },
		"collected": func(s *standbys, d *desk, k kind) { os.Remove(filepath.Join(d.dir, "bundles", k.bundle)) },
		"close":     func(s *standbys, _ *desk, _ kind) { s.close() },
		"CPU":       func(_ *standbys, d *desk, _ kind) { d.uses(protocol.Stats{CPU: time.Second, MemoryBytes: 1}) },
		"memory":    func(_ *standbys, d *desk, _ kind) { d.uses(protocol.Stats{CPU: 1, MemoryBytes: 1 << 30}) },
		"unknown":   func(_ *standbys, d *desk, _ kind) { d.uses(protocol.Stats{MemoryBytes: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			s, d, a, _ := newPool(t)
			s.want(a)
			n := await(t, "a process", d.born)
			end(s, d, a)
			if got := await(t, "its end", d.killed); got != n {
				t.Errorf("process %d was ended", got)
			}
			if p := pick(s, t.Context(), a); p != nil {
				t.Error("it is given still")
			}
			s.mu.Lock()
			rests := !s.resting[a.bundle].IsZero()
			s.mu.Unlock()
			if bad := name == "CPU" || name == "memory" || name == "unknown"; rests != bad {
				t.Errorf("its bundle rests: %v", rests)
			}
			s.want(a)
			s.mu.Lock()
			wanted := len(s.all) > 0
			s.mu.Unlock()
			if wanted != (name == "idle" || name == "collected") {
				t.Errorf("it gets another: %v", wanted)
			}
		})
	}
}

func TestMisuse(t *testing.T) {
	fine := protocol.Stats{CPU: 5 * time.Millisecond, MemoryBytes: 3 << 20}
	for _, c := range []struct {
		used    protocol.Stats
		printed bool
		says    string
	}{
		{fine, false, ""}, {fine, true, "printed"},
		{protocol.Stats{CPU: standbyCPU, MemoryBytes: standbyMemory}, false, ""},
		{protocol.Stats{CPU: standbyCPU + 1, MemoryBytes: 1}, false, "computed"},
		{protocol.Stats{CPU: 1, MemoryBytes: standbyMemory + 1}, false, "memory"},
		{protocol.Stats{MemoryBytes: 1}, false, "not known"},
	} {
		if got := misuse(c.used, c.printed); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestRoomForStandbys(t *testing.T) {
	for memory, want := range map[uint64]int{256 << 20: 0, 512 << 20: 1, 8 << 30: 16, 1 << 40: standbyMost} {
		if got := roomFor(memory); got != want {
			t.Errorf("%d MiB: %d, want %d", memory>>20, got, want)
		}
	}
}

func TestRestingBundlesAreBounded(t *testing.T) {
	s := &standbys{resting: map[string]time.Time{}}
	for i := range 3 * maxResting {
		s.rest(strings.Repeat("x", i))
	}
	if n := len(s.resting); n > maxResting {
		t.Errorf("%d bundles are remembered", n)
	}
}
