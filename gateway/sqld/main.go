// Package sqld is the worker process that executes the SQL of facets, and nothing
// else. DESIGN.md beside it says why it is built so.
package sqld

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// Descriptors of the worker process.
const (
	controlFD = 3
	sharedFD  = 4
	lockFD    = 5 // of the data directory: kept open, so that a next gateway waits for this process
)

// goMemory is what Go's own heap may grow to before it is collected hard;
// SQLite's memory lies outside of it.
const goMemory = 320 << 20

// errDetached ends a channel that the gateway takes back.
var errDetached = errors.New("detached")

// Main is the worker process: it serves what the gateway sends on the control
// socket until that closes, and never returns.
func Main() {
	// Before it holds anything of a facet's: no process of the same user may trace or dump it.
	if err := protocol.Hide(); err != nil {
		fmt.Fprintf(os.Stderr, "fgw-sqld: %v\n", err)
		os.Exit(1)
	}
	if err := serve(os.NewFile(controlFD, "control"), os.NewFile(sharedFD, "shared")); err != nil {
		fmt.Fprintf(os.Stderr, "fgw-sqld: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(controlFile, sharedFile *os.File) error {
	debug.SetMemoryLimit(goMemory)
	conn, err := control.NewConn(controlFile)
	if err != nil {
		return err
	}
	shared, err := control.MapShared(sharedFile)
	if err != nil {
		return err
	}
	sharedFile.Close()
	m, _, err := conn.Receive()
	if err != nil {
		return err
	}
	if m.Op != control.Configure {
		return fmt.Errorf("the first control message is %q", m.Op)
	}
	if err := sqlite.Init(m.Memory); err != nil {
		return err
	}
	w := newWorker(m.Idle, func(m *control.Message, wait bool) bool {
		if wait {
			return conn.Send(m, nil) == nil // the gateway's death ends this process anyway
		}
		return conn.TrySend(m)
	})
	for {
		m, f, err := conn.Receive()
		if errors.Is(err, io.EOF) {
			w.stop()
			return nil
		}
		if err != nil {
			return err
		}
		w.order(conn, shared, m, f)
	}
}

// order carries out one message of the gateway's. What may take time does so beside the others.
func (w *worker) order(conn *control.Conn, shared *control.Shared, m *control.Message, f *os.File) {
	reply := func(err error) {
		r := &control.Message{Op: control.Reply, ID: m.ID}
		if err != nil {
			r.Error, r.Code = err.Error(), orderCode(err)
		}
		conn.Send(r, nil)
	}
	switch m.Op {
	case control.Attach:
		slot := shared.Slot(m.Slot)
		if f == nil || slot == nil || m.Limits == nil {
			reply(errors.New("attach without a channel, a slot or limits"))
			return
		}
		_, err := w.attach(f, m.Channel, m.File, slot, m)
		if err != nil {
			f.Close()
		}
		reply(err)
	case control.Detach:
		go func() { w.detach(m.Channel); reply(nil) }()
	case control.SetAudit:
		w.setAudit(m.Channel, m.Audited)
		reply(nil)
	case control.Remove:
		go func() { reply(w.remove(m.Files)) }()
	case control.Clone:
		go func() { reply(w.clone(m.Files, m.Copies, m.Limits)) }()
	default:
		reply(fmt.Errorf("unknown order %q", m.Op))
	}
}

// sendReset tells the client that a new worker serves its channel.
func (ch *channel) sendReset(reason string) error {
	p := sqlchan.Header{Type: sqlchan.Reset, Epoch: ch.epoch}.Append(nil)
	p = appendUvarint(p, uint64(ch.epoch))
	p = sqlchan.AppendText(p, reason)
	return ch.send(p, nil)
}

// Defaults of a worker that serves one channel alone.
const (
	aloneMemory  = 256 << 20
	aloneStorage = 1 << 30
)

// DefaultLimits are what a database gets where nobody says otherwise.
func DefaultLimits() control.Limits {
	return control.Limits{
		Storage: aloneStorage, Memory: 64 << 20, Result: 256 << 20, StatementTimeout: 5 * time.Second, TxIdle: 30 * time.Second,
	}
}

// ServeOne serves one channel, by the same rules as the gateway's workers do,
// until its other end closes or ctx ends. An empty file means a database that
// is forgotten afterwards. The channel is closed when it returns. It can be
// called once in a process at a time.
func ServeOne(ctx context.Context, channel *os.File, file string) error {
	defer channel.Close()
	if err := sqlite.Init(aloneMemory); err != nil {
		return err
	}
	if file == "" {
		dir, err := os.MkdirTemp(memoryDir(), "fgw-sqld-")
		if err != nil {
			return fmt.Errorf("make room for a database: %w", err)
		}
		defer os.RemoveAll(dir)
		file = filepath.Join(dir, "memory.db")
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("find the database: %w", err)
	}
	own, err := ownCopy(channel)
	if err != nil {
		return err
	}
	limits := DefaultLimits()
	var ended error
	w := newWorker(aloneMemory/2, func(m *control.Message, _ bool) bool {
		if m.Op == control.Ended || m.Op == control.Broken {
			ended = errors.New(strings.TrimSpace(m.Error))
		}
		return true
	})
	defer w.stop()
	ch, err := w.attach(own, 1, file, nil, &control.Message{Limits: &limits})
	if err != nil {
		own.Close()
		return err
	}
	select {
	case <-ctx.Done():
		w.detach(1)
		return nil
	case <-ch.closed:
		return ended
	}
}

// memoryDir is where a file costs no disk, or "" for the usual place.
func memoryDir() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return ""
}

// ownCopy duplicates the channel's descriptor, in the mode that waiting for it needs.
func ownCopy(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate the SQL channel: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("SQL channel: %w", err)
	}
	return os.NewFile(uintptr(fd), "channel"), nil
}
