package sandboxd

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// maxRequests is how many requests of the gateway's are worked on at once, fewer where descriptors are scarce.
const maxRequests = 256

// sendPatience is how long the gateway may leave an answer unread before it is taken for broken.
const sendPatience = 10 * time.Second

// desk answers the gateway. It takes every request as if the gateway had been taken over:
// sizes and descriptors are checked, limits clamped, and only the gateway's own
// processes can be named.
type desk struct {
	conn  *net.UnixConn
	log   *slog.Logger
	clamp func(protocol.Limits) protocol.Limits
	// what the desk can have done
	startFacet func(id uint64, l protocol.Limits, at place, f facetFiles) (*process, error)
	startSQLD  func(id uint64, index, control, shared int) (*process, error)
	startBuild func(id uint64, b protocol.Build, job, output int) (*process, error)
	setLimits  func(p *process, l protocol.Limits) error
	ready      func()
	landlock   bool
	null       int

	slots chan struct{} // one per request under way
	wg    sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	room      int        // descriptors that further facets may take
	last      uint64
	processes map[uint64]*process
	closed    bool
}

func newDesk(conn *os.File) (*desk, error) {
	c, err := net.FileConn(conn)
	conn.Close()
	if err != nil {
		return nil, fmt.Errorf("open the channel to the gateway: %w", err)
	}
	requests, room := shareFiles(fileLimit())
	return &desk{conn: c.(*net.UnixConn), slots: make(chan struct{}, requests), room: room, processes: map[uint64]*process{}}, nil
}

// serve answers until the gateway is gone or breaks the protocol.
func (d *desk) serve() {
	buf := make([]byte, protocol.HeadBytes+1)
	oob := make([]byte, unix.CmsgSpace(4*protocol.MaxDescriptors))
	for {
		n, oobn, flags, _, err := d.conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			break
		}
		files := received(oob[:oobn])
		m, err := protocol.Parse(buf[:n], false)
		if err != nil || flags&unix.MSG_TRUNC != 0 {
			closeFDs(files)
			d.log.Error("the gateway broke the protocol", "error", err)
			break
		}
		if m.Op == protocol.OpKill {
			// Done as soon as it is read, and not after those under way. While as many of them are as may be,
			// nothing is read: it waits for the first to end, and each ends soon.
			closeFDs(files)
			if p := d.process(m.Process); p != nil {
				p.kill()
			}
			continue
		}
		d.slots <- struct{}{}
		d.wg.Go(func() {
			defer func() { <-d.slots }()
			defer closeFDs(files)
			if flags&unix.MSG_CTRUNC != 0 {
				// The gateway's message was whole: the kernel had no room for its descriptors.
				d.send(protocol.Message{Op: protocol.OpReply, Flags: protocol.Refused, ID: m.ID, Process: m.Process, Text: noFiles().Error()})
				return
			}
			d.answer(m, files)
		})
	}
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.conn.Close()
	d.wg.Wait()
}

// answer carries out one request.
func (d *desk) answer(m protocol.Message, files []int) {
	r := protocol.Message{Op: protocol.OpReply, ID: m.ID, Process: m.Process}
	var err error
	switch m.Op {
	case protocol.OpSpawnFacet:
		err = d.spawnFacet(m, files, &r)
	case protocol.OpSpawnSQLD:
		err = d.spawnSQLD(m, files, &r)
	case protocol.OpSpawnBuild:
		err = d.spawnBuild(m, files, &r)
	case protocol.OpReady:
		d.ready()
	default:
		p := d.process(m.Process)
		if p == nil {
			r.Flags |= protocol.Gone
			break
		}
		err = d.about(p, m, &r)
	}
	if err != nil {
		r.Flags |= protocol.Refused
		r.Text = err.Error()
		switch {
		case errors.Is(err, errGone):
			r.Flags |= protocol.Gone
		case errors.Is(err, errProcesses):
			r.Flags |= protocol.Full
		}
	}
	d.send(r)
	if m.Spawns(r) {
		go d.follow(r.Process)
	}
}

// about answers a request about one process.
func (d *desk) about(p *process, m protocol.Message, r *protocol.Message) error {
	switch m.Op {
	case protocol.OpLimits:
		return d.setLimits(p, d.clamp(limitsOf(m)))
	case protocol.OpStats:
		s, err := p.stats()
		r.Args = [6]int64{0, int64(s.CPU), s.MemoryBytes, s.MemoryPeak, s.Processes}
		return err
	case protocol.OpConfinement:
		c, err := p.confinement(d.landlock)
		if err != nil {
			return err
		}
		text, err := json.Marshal(c)
		r.Text = string(text)
		return err
	}
	return fmt.Errorf("no request %d", m.Op)
}

func limitsOf(m protocol.Message) protocol.Limits {
	return protocol.Limits{MemoryBytes: m.Args[0], Processes: m.Args[1], CPUMilli: m.Args[2]}
}

var errDescriptors = errors.New("wrong number of descriptors")

func (d *desk) spawnFacet(m protocol.Message, files []int, r *protocol.Message) error {
	f := facetFiles{sql: d.null}
	want := 3
	if m.Flags&protocol.HasSQL != 0 {
		want = 4
	}
	if len(files) != want {
		return errDescriptors
	}
	f.exe, f.wire, f.output = files[0], files[1], files[2]
	if want == 4 {
		f.sql = files[3]
	}
	at := place{supervisor: m.Flags&protocol.Supervisor != 0}
	if !d.takeFiles(filesOf(at.supervisor)) {
		return noFiles()
	}
	p, err := d.spawnAt(m, at, f)
	if err != nil {
		d.giveFiles(filesOf(at.supervisor))
	}
	return d.started(p, err, r)
}

func (d *desk) spawnAt(m protocol.Message, at place, f facetFiles) (*process, error) {
	if m.Process != 0 {
		if at.under = d.process(m.Process); at.under == nil {
			return nil, errGone
		}
	}
	p, err := d.startFacet(d.number(), d.clamp(limitsOf(m)), at, f)
	if err == nil {
		p.files = filesOf(at.supervisor)
	}
	return p, err
}

// takeFiles sets n descriptors aside for a facet that is to start.
func (d *desk) takeFiles(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room < n {
		return false
	}
	d.room -= n
	return true
}

func (d *desk) giveFiles(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room += n
}

func (d *desk) spawnSQLD(m protocol.Message, files []int, r *protocol.Message) error {
	if len(files) != 2 {
		return errDescriptors
	}
	p, err := d.startSQLD(d.number(), int(m.Args[0]), files[0], files[1])
	return d.started(p, err, r)
}

// started enters a new process into the gateway's list.
func (d *desk) started(p *process, err error, r *protocol.Message) error {
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		p.kill() // the gateway has gone meanwhile
	}
	d.processes[p.id] = p
	r.Process, r.Args[0], r.Args[1] = p.id, int64(p.pid), int64(p.uid)
	return nil
}

func (d *desk) number() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	return d.last
}

func (d *desk) process(id uint64) *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.processes[id]
}

// follow tells the gateway of a process's end.
func (d *desk) follow(id uint64) {
	p := d.process(id)
	<-p.done
	d.mu.Lock()
	delete(d.processes, id)
	d.room += p.files
	d.mu.Unlock()
	d.send(protocol.ExitMessage(id, p.exit))
}

// drain asks the gateway to finish and exit.
func (d *desk) drain() { d.send(protocol.Message{Op: protocol.OpDrain}) }

func (d *desk) send(m protocol.Message) {
	d.conn.SetWriteDeadline(time.Now().Add(sendPatience))
	if _, err := d.conn.Write(m.Append(nil)); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		d.log.Error("the gateway does not read", "error", err)
		d.conn.Close() // serve ends, and with it the gateway
	}
}

// received takes the descriptors that came with a message.
func received(oob []byte) (files []int) {
	messages, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			files = append(files, fds...)
		}
	}
	return files
}

func closeFDs(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}
