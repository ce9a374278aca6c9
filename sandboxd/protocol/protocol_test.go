package protocol

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"golang.org/x/sys/unix"
)

func TestMessageRoundTrip(t *testing.T) {
	same := func(op, flags uint32, id, process uint64, args [6]int64, text string) bool {
		m := Message{Op(op), flags, id, process, args, text}
		got, err := Parse(m.Append(nil), true)
		return err == nil && got == m
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	long := Message{Text: strings.Repeat("x", 2*MaxText)}
	if got, err := Parse(long.Append(nil), true); err != nil || len(got.Text) != MaxText {
		t.Errorf("a text of %d bytes arrives as %d: %v", len(long.Text), len(got.Text), err)
	}
}

func TestRequestsHaveOneSize(t *testing.T) {
	for n, want := range map[int]bool{0: false, HeadBytes - 1: false, HeadBytes: true, HeadBytes + 1: false} {
		if _, err := Parse(make([]byte, n), false); (err == nil) != want {
			t.Errorf("a request of %d bytes: %v", n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add((&Message{Op: OpExit, Text: "x"}).Append(nil), true)
	f.Fuzz(func(t *testing.T, b []byte, text bool) {
		m, err := Parse(b, text)
		if err != nil {
			return
		}
		if again, err := Parse(m.Append(nil), text); err != nil || again != m {
			t.Errorf("%+v comes back as %+v: %v", m, again, err)
		}
	})
}

func TestExit(t *testing.T) {
	for _, test := range []struct {
		exit Exit
		want string
	}{
		{Exit{}, "exit status 0"},
		{Exit{Code: 7}, "exit status 7"},
		{Exit{Signal: 9}, "killed by signal 9 (killed)"},
		{Exit{Signal: 9, OOM: true, Limit: 64 << 20}, "out of memory (limit 64 MiB)"},
		{Exit{Signal: 9, OOM: true, Limit: 3 << 30}, "out of memory (limit 3 GiB)"},
		{Exit{Signal: 9, OOM: true, Limit: 1<<20 + 1<<19}, "out of memory (limit 1.5 MiB)"},
		{Exit{Signal: 9, OOM: true, Limit: 1 << 10}, "out of memory (limit 1 KiB)"},
		{Exit{Signal: 9, OOM: true, Limit: 1}, "out of memory (limit 1 bytes)"},
		{Exit{Signal: 9, OOM: true}, "out of memory (limit unknown)"},
		{Exit{Signal: 31, Seccomp: true}, "killed for a forbidden system call"},
	} {
		if got := test.exit.String(); got != test.want {
			t.Errorf("%+v is %q, want %q", test.exit, got, test.want)
		}
	}
	full := Exit{Code: 1, Signal: 2, OOM: true, Seccomp: true, CPU: 3, MemoryPeak: 4, Limit: 5}
	if got := exitOf(ExitMessage(6, full)); got != full {
		t.Errorf("%+v comes back as %+v", full, got)
	}
}

// peer is a scripted sandboxd.
type peer struct {
	t    *testing.T
	conn *net.UnixConn
}

func connect(t *testing.T) (*Client, peer) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "")
	conn, err := net.FileConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	c, err := NewClient(os.NewFile(uintptr(fds[0]), ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); conn.Close(); <-c.Done() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return c, peer{t, conn.(*net.UnixConn)}
}

// next reads a request and closes what came with it, telling how many descriptors that was.
func (p peer) next() (Message, int) {
	p.t.Helper()
	b, oob := make([]byte, HeadBytes), make([]byte, 256)
	n, oobn, _, _, err := p.conn.ReadMsgUnix(b, oob)
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := Parse(b[:n], false)
	if err != nil {
		p.t.Fatal(err)
	}
	files := 0
	messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
	for _, c := range messages {
		fds, _ := unix.ParseUnixRights(&c)
		for _, fd := range fds {
			unix.Close(fd)
			files++
		}
	}
	return m, files
}

func (p peer) say(m Message) {
	p.t.Helper()
	if _, err := p.conn.Write(m.Append(nil)); err != nil {
		p.t.Fatal(err)
	}
}

func null(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestClientSpawn(t *testing.T) {
	c, p := connect(t)
	f := null(t)
	type result struct {
		p   *Process
		err error
	}
	got := make(chan result)
	go func() {
		r, err := c.SpawnFacet(context.Background(), Limits{1, 2, 3}, Place{Under: &Process{id: 9}, Supervisor: true}, FacetFiles{f, f, f, f})
		got <- result{r, err}
	}()
	m, files := p.next()
	if m.Op != OpSpawnFacet || files != 4 || m.Flags != HasSQL|Supervisor || m.Process != 9 || m.Args != [6]int64{1, 2, 3} {
		t.Errorf("request %+v with %d descriptors", m, files)
	}
	p.say(Message{Op: OpReply, ID: m.ID, Process: 7, Args: [6]int64{100, 200}})
	r := <-got
	if r.err != nil || r.p.PID() != 100 || r.p.UID() != 200 {
		t.Fatalf("spawned %+v: %v", r.p, r.err)
	}
	if r.p.Exit() != (Exit{}) {
		t.Errorf("a running process has ended: %v", r.p.Exit())
	}
	r.p.Kill()
	if m, _ := p.next(); m.Op != OpKill || m.Process != 7 {
		t.Errorf("kill is %+v", m)
	}
	p.say(ExitMessage(7, Exit{Signal: 9}))
	<-r.p.Done()
	if r.p.Exit().Signal != 9 {
		t.Errorf("exit %+v", r.p.Exit())
	}
}

func TestClientErrors(t *testing.T) {
	c, p := connect(t)
	f := null(t)
	ask := func(ctx context.Context) chan error {
		failed := make(chan error)
		go func() {
			_, err := c.SpawnFacet(ctx, Limits{}, Place{}, FacetFiles{Exe: f, Wire: f, Output: f})
			failed <- err
		}()
		return failed
	}
	failed := ask(context.Background())
	m, files := p.next()
	if files != 3 || m.Flags != 0 {
		t.Errorf("without a database: flags %d, %d descriptors", m.Flags, files)
	}
	p.say(Message{Op: OpReply, ID: m.ID, Flags: Refused, Text: "exec: exec format error"})
	if err := <-failed; !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("refused: %v", err)
	}
	// Nobody waits any longer: what is started all the same is killed.
	ctx, cancel := context.WithCancel(context.Background())
	failed = ask(ctx)
	m, _ = p.next()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	p.say(Message{Op: OpReply, ID: m.ID, Process: 8, Args: [6]int64{1, 1}})
	if m, _ := p.next(); m.Op != OpKill || m.Process != 8 {
		t.Errorf("after cancelling: %+v", m)
	}
	closed := null(t)
	closed.Close()
	if _, err := c.SpawnFacet(context.Background(), Limits{}, Place{}, FacetFiles{Exe: closed, Wire: f, Output: f}); err == nil {
		t.Error("a closed file is passed")
	}
	failed = ask(context.Background())
	p.next()
	p.conn.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("sandboxd gone: %v", err)
	}
	<-c.Done()
}

func TestClientProcessesEndWithSandboxd(t *testing.T) {
	c, p := connect(t)
	f := null(t)
	started := make(chan *Process)
	go func() {
		r, err := c.SpawnSQLD(context.Background(), 3, f, f)
		if err != nil {
			t.Error(err)
		}
		started <- r
	}()
	m, files := p.next()
	if m.Op != OpSpawnSQLD || m.Args[0] != 3 || files != 2 {
		t.Errorf("request %+v with %d descriptors", m, files)
	}
	p.say(Message{Op: OpReply, ID: m.ID, Process: 1, Args: [6]int64{5, 5}})
	r := <-started
	p.conn.Close()
	<-r.Done()
	if r.Exit().Signal != 9 {
		t.Errorf("exit %+v", r.Exit())
	}
	if err := r.Kill(); err != nil {
		t.Errorf("killing it then: %v", err)
	}
}

func TestClientDrain(t *testing.T) {
	for _, late := range []bool{false, true} {
		c, p := connect(t)
		drained := make(chan struct{})
		if late {
			p.say(Message{Op: OpDrain})
			// The answer to a later request shows that the drain was read.
			go func() { m, _ := p.next(); p.say(Message{Op: OpReply, ID: m.ID}) }()
			if err := c.Ready(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		c.OnDrain(func() { close(drained) })
		if !late {
			p.say(Message{Op: OpDrain})
		}
		<-drained
	}
}

func TestClientAsksAboutProcesses(t *testing.T) {
	c, p := connect(t)
	proc := &Process{c: c, id: 9, done: make(chan struct{})}
	answer := func(m Message) {
		got, _ := p.next()
		m.Op, m.ID = OpReply, got.ID
		p.say(m)
	}
	go answer(Message{Args: [6]int64{0, 1, 2, 3, 4}})
	if s, err := proc.Stats(t.Context()); err != nil || s != (Stats{1, 2, 3, 4}) {
		t.Errorf("stats %+v: %v", s, err)
	}
	go answer(Message{Text: `{"uid":5,"capabilities":"0"}`})
	if v, err := proc.Confinement(t.Context()); err != nil || v.UID != 5 || v.Capabilities != "0" {
		t.Errorf("confinement %+v: %v", v, err)
	}
	go answer(Message{Flags: Gone})
	if err := proc.SetLimits(t.Context(), Limits{}); !errors.Is(err, ErrGone) {
		t.Errorf("limits of an ended process: %v", err)
	}
}
