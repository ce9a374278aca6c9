package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Errors that a caller can tell apart.
var (
	// ErrRefused is wrapped where sandboxd did not do what was asked; the text names the step.
	ErrRefused = errors.New("sandboxd refused")
	// ErrGone is wrapped where the process has ended.
	ErrGone = errors.New("process has ended")
	// ErrFull is wrapped where a supervisor's limit of processes leaves no room for another child.
	ErrFull = errors.New("no room under the supervisor's limit of processes")
	// ErrClosed is wrapped where sandboxd itself has gone.
	ErrClosed = errors.New("sandboxd is gone")
)

// FacetFiles are the descriptors of a new facet. SpawnFacet duplicates them into
// the facet; the caller keeps its own and closes them.
type FacetFiles struct {
	Exe    *os.File // a static executable, readable and executable to everyone
	Wire   *os.File // becomes descriptor 3
	SQL    *os.File // becomes descriptor 4; nil for code without a database
	Output *os.File // becomes descriptors 1 and 2
}

// Client is the gateway's end.
type Client struct {
	conn *net.UnixConn
	done chan struct{}

	mu        sync.Mutex // guards the fields below
	last      uint64
	calls     map[uint64]pending
	processes map[uint64]*Process
	drain     func()
	draining  bool
}

// NewClient takes over conn, the gateway's end of the socketpair.
func NewClient(conn *os.File) (*Client, error) {
	c, err := net.FileConn(conn)
	if err != nil {
		return nil, fmt.Errorf("open the channel to sandboxd: %w", err)
	}
	conn.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("open the channel to sandboxd: %T is not a unix socket", c)
	}
	cl := &Client{
		conn: u, done: make(chan struct{}),
		calls: map[uint64]pending{}, processes: map[uint64]*Process{},
	}
	go cl.read()
	return cl, nil
}

// Close lets go of sandboxd, which takes it for the gateway's end and kills
// whatever runs. For the last line of a graceful stop.
func (c *Client) Close() error { return c.conn.Close() }

// Done is closed when sandboxd has gone.
func (c *Client) Done() <-chan struct{} { return c.done }

// OnDrain sets what runs, once, when sandboxd asks the gateway to finish what is under way and exit.
func (c *Client) OnDrain(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain = f
	if c.draining && f != nil {
		go f()
	}
}

// Ready tells sandboxd that the gateway serves.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.call(ctx, Message{Op: OpReady})
	return err
}

// Place says where a facet stands among others. The zero value is one that stands alone.
type Place struct {
	// Under is its supervisor, whose limits bound the sum of all that is below it; nil for none.
	Under *Process
	// Supervisor lets the facet be that for others: its limits are for it and all below it together.
	Supervisor bool
}

// SpawnFacet starts a confined process. Concurrent calls are fine. It fails with ErrGone where
// the supervisor has ended, with ErrFull where its processes are used up.
func (c *Client) SpawnFacet(ctx context.Context, l Limits, at Place, f FacetFiles) (*Process, error) {
	m := Message{Op: OpSpawnFacet, Args: [6]int64{l.MemoryBytes, l.Processes, l.CPUMilli}}
	if at.Under != nil {
		m.Process = at.Under.id
	}
	if at.Supervisor {
		m.Flags |= Supervisor
	}
	files := []*os.File{f.Exe, f.Wire, f.Output}
	if f.SQL != nil {
		m.Flags |= HasSQL
		files = append(files, f.SQL)
	}
	return c.spawn(ctx, m, files...)
}

// SpawnSQLD starts SQL worker index: control becomes its descriptor 3, shared (a
// memfd) 4, and the data directory's lock 5. A predecessor with the same index
// must have ended, or been killed: the call waits until it is reaped.
func (c *Client) SpawnSQLD(ctx context.Context, index int, control, shared *os.File) (*Process, error) {
	return c.spawn(ctx, Message{Op: OpSpawnSQLD, Args: [6]int64{int64(index)}}, control, shared)
}

func (c *Client) spawn(ctx context.Context, m Message, files ...*os.File) (*Process, error) {
	r, err := c.call(ctx, m, files...)
	if err != nil {
		return nil, err
	}
	if r.process == nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, ErrMessage)
	}
	return r.process, nil
}

// pending is a request that waits for its answer.
type pending struct {
	spawns bool
	answer chan reply
}

// reply is an answer, with the process that it brings: the process may have ended, and be known
// no more, by the time that its caller looks.
type reply struct {
	Message
	process *Process
}

// call sends a request and waits for its answer. When ctx ends first, a process
// that the answer brings is killed.
func (c *Client) call(ctx context.Context, m Message, files ...*os.File) (reply, error) {
	answer := make(chan reply, 1)
	c.mu.Lock()
	c.last++
	m.ID = c.last
	c.calls[m.ID] = pending{m.Op.spawns(), answer}
	c.mu.Unlock()
	if err := c.send(m, files); err != nil {
		c.mu.Lock()
		delete(c.calls, m.ID)
		c.mu.Unlock()
		return reply{}, fmt.Errorf("ask sandboxd: %w", err)
	}
	select {
	case r := <-answer:
		switch {
		case r.Flags&Gone != 0:
			return r, ErrGone
		case r.Flags&Full != 0:
			return r, fmt.Errorf("%w: %s", ErrFull, r.Text)
		case r.Flags&Refused != 0:
			return r, fmt.Errorf("%w: %s", ErrRefused, r.Text)
		}
		return r, nil
	case <-c.done:
		return reply{}, ErrClosed
	case <-ctx.Done():
		if m.Op.spawns() {
			go c.abandon(answer)
		}
		return reply{}, ctx.Err()
	}
}

// abandon kills the process that nobody waits for any longer.
func (c *Client) abandon(answer chan reply) {
	select {
	case r := <-answer:
		if r.Flags&(Refused|Gone) == 0 {
			c.send(Message{Op: OpKill, Process: r.Process}, nil)
		}
	case <-c.done:
	}
}

// send writes one request with its descriptors.
func (c *Client) send(m Message, files []*os.File) error {
	return withFDs(files, nil, func(fds []int) error {
		var oob []byte
		if len(fds) > 0 {
			oob = syscall.UnixRights(fds...)
		}
		_, _, err := c.conn.WriteMsgUnix(m.Append(nil), oob, nil)
		return err
	})
}

// withFDs calls f with the descriptors of files, which can't be closed meanwhile.
// (*os.File).Fd would make each of them blocking for everyone who shares it.
func withFDs(files []*os.File, fds []int, f func([]int) error) error {
	if len(files) == 0 {
		return f(fds)
	}
	rc, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = rc.Control(func(fd uintptr) { inner = withFDs(files[1:], append(fds, int(fd)), f) })
	return errors.Join(err, inner)
}

func (c *Client) read() {
	defer c.end()
	buf := make([]byte, HeadBytes+MaxText)
	for {
		n, _, _, _, err := c.conn.ReadMsgUnix(buf, nil)
		if err != nil || n == 0 {
			return
		}
		m, err := Parse(buf[:n], true)
		if err != nil {
			return
		}
		c.received(m)
	}
}

func (c *Client) received(m Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Op {
	case OpReply:
		call, ok := c.calls[m.ID]
		delete(c.calls, m.ID)
		if !ok {
			return
		}
		r := reply{Message: m}
		if call.spawns && m.Flags&(Refused|Gone) == 0 && m.Process != 0 && c.processes[m.Process] == nil && m.Args[0] > 0 {
			r.process = &Process{
				c: c, id: m.Process, pid: int(m.Args[0]), uid: int(m.Args[1]), done: make(chan struct{}),
			}
			c.processes[m.Process] = r.process
		}
		call.answer <- r
	case OpExit:
		if p := c.processes[m.Process]; p != nil {
			delete(c.processes, m.Process)
			p.exit = exitOf(m)
			close(p.done)
		}
	case OpDrain:
		if c.draining = true; c.drain != nil {
			go c.drain()
		}
	}
}

// end tells everyone who waits that sandboxd has gone. Processes count as killed:
// none outlives sandboxd.
func (c *Client) end() {
	c.conn.Close()
	close(c.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.processes {
		delete(c.processes, id)
		p.exit = Exit{Signal: int(syscall.SIGKILL)}
		close(p.done)
	}
}

// Process is one that sandboxd started at this gateway's request.
type Process struct {
	c        *Client
	id       uint64
	pid, uid int
	done     chan struct{}
	exit     Exit // written before done is closed
}

// PID is the process's number on the host.
func (p *Process) PID() int { return p.pid }

// UID is its user on the host.
func (p *Process) UID() int { return p.uid }

// Done is closed once the process and all it started have ended and are reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how it ended; valid after Done.
func (p *Process) Exit() Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return Exit{}
	}
}

// Kill asks for the process's death, now, and returns without waiting for it.
// Killing one that has ended is no error.
func (p *Process) Kill() error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.c.send(Message{Op: OpKill, Process: p.id}, nil); err != nil {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	return nil
}

// SetLimits changes the limits of a running facet.
func (p *Process) SetLimits(ctx context.Context, l Limits) error {
	_, err := p.c.call(ctx, Message{Op: OpLimits, Process: p.id, Args: [6]int64{l.MemoryBytes, l.Processes, l.CPUMilli}})
	return err
}

// Stats reads what the process has used.
func (p *Process) Stats(ctx context.Context) (Stats, error) {
	r, err := p.c.call(ctx, Message{Op: OpStats, Process: p.id})
	return Stats{CPU: time.Duration(r.Args[1]), MemoryBytes: r.Args[2], MemoryPeak: r.Args[3], Processes: r.Args[4]}, err
}

// Confinement reads back how the process is confined.
func (p *Process) Confinement(ctx context.Context) (Confinement, error) {
	var v Confinement
	r, err := p.c.call(ctx, Message{Op: OpConfinement, Process: p.id})
	if err == nil {
		err = json.Unmarshal([]byte(r.Text), &v)
	}
	return v, err
}
