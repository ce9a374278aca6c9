package sandboxd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/facetgateway/fgw/sandboxd/launcher"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// facets starts facets through the launcher and learns from it how they end.
type facets struct {
	conn  *net.UnixConn
	slots *slots         // nil without cgroups; like uids set before the first start
	uids  *uidPool       // nil without a user per facet
	one   int            // the only user there is, where there is no pool
	read  chan struct{}  // closed when the launcher is gone
	wg    sync.WaitGroup // what sees a facet to its end

	mu      sync.Mutex // guards the fields below
	last    uint64
	asked   map[uint64]*request // who takes one out answers it and sees to the facet's resources
	running map[uint64]*process
	closed  bool
}

// request is a spawn under way.
type request struct {
	p      *process
	answer chan error
	failed error // the step that failed, while the child's end is awaited
}

// newFacets takes over sandboxd's end of the launcher's socket.
func newFacets(conn *os.File) (*facets, error) {
	if err := unix.SetsockoptInt(int(conn.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return nil, fmt.Errorf("ask for the launcher's credentials: %w", err)
	}
	c, err := net.FileConn(conn)
	conn.Close()
	if err != nil {
		return nil, fmt.Errorf("open the channel to the launcher: %w", err)
	}
	f := &facets{
		conn: c.(*net.UnixConn), one: os.Getuid(), read: make(chan struct{}),
		asked: map[uint64]*request{}, running: map[uint64]*process{},
	}
	go f.listen()
	return f, nil
}

// wait returns once the launcher is gone, every facet has come to its end and what it held was given back.
func (f *facets) wait() {
	<-f.read
	f.wg.Wait()
}

var errTooMany = errors.New("every user id of this data directory is in use")

// facetFiles are the descriptors that a facet starts with.
type facetFiles struct{ exe, wire, output, sql int }

// start makes a facet and returns once it has been exec'ed.
func (f *facets) start(id uint64, l protocol.Limits, at place, files facetFiles) (*process, error) {
	p := &process{id: id, name: "facet", uid: f.one, index: -1, pidfd: -1, limits: l, done: make(chan struct{})}
	if f.uids != nil {
		var ok bool
		if p.uid, ok = f.uids.take(); !ok {
			return nil, errTooMany
		}
	}
	if f.slots != nil {
		if err := f.slots.seat(p, at); err != nil {
			f.release(p)
			return nil, err
		}
	}
	r := &request{p: p, answer: make(chan error, 1)}
	if err := f.ask(r, p.limits, []int{files.exe, files.wire, files.sql, files.output}); err != nil {
		f.release(p)
		return nil, err
	}
	if err := <-r.answer; err != nil {
		return nil, err // released by received, once no child is left
	}
	p.expendable()
	return p, nil
}

// ask sends a request. After an error the facet's resources are the caller's to release; otherwise an answer comes, from
// whoever took the request out of asked, and who took it out releases them.
func (f *facets) ask(r *request, l protocol.Limits, files []int) error {
	m := launcher.Request{
		UID: uint32(r.p.uid), GID: uint32(r.p.uid), Memory: l.MemoryBytes / 10 * 9,
		Threads: uint32(max(1, (l.CPUMilli+999)/1000)),
	}
	if g := r.p.group; g != nil {
		m.Joins = uint16(len(g.Join()))
		files = append(files, g.Join()...)
		if g.Into() >= 0 {
			m.Into = true
			files = append(files, g.Into())
		}
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return errStopped
	}
	f.last++
	m.ID = f.last
	f.asked[m.ID] = r
	f.mu.Unlock()
	if _, _, err := f.conn.WriteMsgUnix(m.Append(nil), unix.UnixRights(files...), nil); err != nil {
		f.mu.Lock()
		_, ours := f.asked[m.ID]
		delete(f.asked, m.ID)
		f.mu.Unlock()
		if ours {
			return fmt.Errorf("ask the launcher: %w", err)
		}
	}
	return nil
}

// release gives back what a facet held.
func (f *facets) release(p *process) {
	if p.group != nil {
		f.slots.remove(p.group, p.tree)
	}
	if f.uids != nil {
		f.uids.give(p.uid)
	}
}

// listen handles what the launcher says, until it is gone.
func (f *facets) listen() {
	defer close(f.read)
	defer f.end()
	buf := make([]byte, launcher.EventBytes+1)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*4))
	for {
		n, oobn, _, _, err := f.conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		e, err := launcher.ParseEvent(buf[:n])
		if err != nil {
			return
		}
		pid, pidfd := childOf(oob[:oobn])
		f.received(e, pid, pidfd)
	}
}

// childOf takes pid and pidfd of a new child from beside an event. The kernel has translated the pid that the
// launcher knows into ours.
func childOf(oob []byte) (pid, pidfd int) {
	pidfd = -1
	messages, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) > 0 {
			pidfd = fds[0]
		}
	}
	return pid, pidfd
}

func (f *facets) received(e launcher.Event, pid, pidfd int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Exited {
		if p := f.running[e.ID]; p != nil {
			delete(f.running, e.ID)
			failed := f.asked[e.ID]
			delete(f.asked, e.ID)
			f.wg.Go(func() { f.finish(p, e, failed) })
		}
		return
	}
	r := f.asked[e.ID]
	if r == nil {
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
		return
	}
	var failed error
	if e.Step != "" {
		failed = fmt.Errorf("%s: %w", e.Step, e.Errno)
	}
	if !e.Child {
		delete(f.asked, e.ID)
		f.wg.Go(func() { f.release(r.p) })
		r.answer <- failed
		return
	}
	r.p.pid, r.p.pidfd = pid, pidfd
	f.running[e.ID] = r.p
	if pidfd < 0 {
		// Cut off: without it nobody could end the facet later. Now its number is still its own: numbers come again
		// only when all others were in use since the launcher's message.
		if pid > 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
		failed = errors.Join(failed, noFiles())
	}
	if failed != nil {
		r.failed = failed // answered when the child's end is known, so that nothing of it is left
		return
	}
	delete(f.asked, e.ID)
	r.answer <- nil
}

// finish sees a facet to its end and gives back what it held. failed is the request that brought it, where it has
// not been answered yet.
func (f *facets) finish(p *process, e launcher.Event, failed *request) {
	p.ended(e.Status, e.CPU)
	f.release(p)
	if failed != nil {
		failed.answer <- failed.failed
	}
}

// end answers everyone who waits: the launcher is gone, and with it every facet.
func (f *facets) end() {
	f.conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for id, r := range f.asked {
		delete(f.asked, id)
		if f.running[id] == nil {
			f.wg.Go(func() { f.release(r.p) })
		}
		r.answer <- errors.New("the launcher is gone")
	}
	for id, p := range f.running {
		delete(f.running, id)
		f.wg.Go(func() { f.finish(p, launcher.Event{Status: syscall.WaitStatus(syscall.SIGKILL)}, nil) })
	}
}
