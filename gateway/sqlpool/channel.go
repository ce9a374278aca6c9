package sqlpool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
)

// Usage is what the statements of a database did since its first channel was attached.
type Usage struct {
	RowsRead, RowsWritten, Statements, Errors int64
	ResultBytes                               int64 // of the rows that were sent
	CPU                                       time.Duration
	StorageBytes                              int64 // of the file and its log, as of its last use
}

// Channel is one channel to a database.
type Channel struct {
	w       *worker
	id      uint64
	options AttachOptions
	place   *place
	slot    *control.Slot
	done    chan struct{}

	closing   atomic.Bool
	mu        sync.Mutex // guards what follows
	facetEnd  *os.File
	workerEnd *os.File // a duplicate for the next worker
	epoch     uint32
	err       error
	ended     bool
	disposed  bool
	last      Usage // as of its end
	committed uint64
	alarm     int64
	replaced  bool // a worker died that served it
}

// newChannel takes the database's slot and the pair, which it makes unless there is one.
func newChannel(w *worker, o AttachOptions) (*Channel, error) {
	pl, err := w.takePlace(o.File)
	if err != nil {
		return nil, err
	}
	pair := o.Pair
	if pair == nil {
		if pair, err = NewPair(); err != nil {
			w.leavePlace(pl)
			return nil, err
		}
	}
	o.Pair = nil
	c := &Channel{
		w: w, id: w.nextChannel.Add(1), options: o, place: pl, slot: w.shared.Slot(pl.index), done: make(chan struct{}),
		facetEnd: pair.facetEnd, workerEnd: pair.workerEnd,
	}
	pair.facetEnd, pair.workerEnd = nil, nil
	return c, nil
}

// FacetEnd is the client's end, once: the caller passes it on and closes it. Nil after the first call.
func (c *Channel) FacetEnd() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.facetEnd
	c.facetEnd = nil
	return f
}

// Committed is how many commits the database has had since its first channel was
// attached, of all channels. A commit is counted before it is acknowledged, and
// before another session's answer can tell of it.
func (c *Channel) Committed() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disposed {
		return c.committed
	}
	return c.slot.Committed.Load()
}

// SetDurable tells the worker that the commits up to n are on disk.
func (c *Channel) SetDurable(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.disposed && n > c.slot.Durable.Load() {
		c.slot.Durable.Store(n)
	}
}

// UnsyncedBytes is about how much of the log is not known to be on disk.
func (c *Channel) UnsyncedBytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disposed {
		return 0
	}
	return c.slot.Unsynced.Load()
}

// Usage is what the database's statements did.
func (c *Channel) Usage() Usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disposed {
		return c.last
	}
	return usage(c.slot)
}

func usage(s *control.Slot) Usage {
	return Usage{
		RowsRead: s.RowsRead.Load(), RowsWritten: s.RowsWritten.Load(), Statements: s.Statements.Load(), Errors: s.Errors.Load(),
		ResultBytes: s.ResultBytes.Load(), CPU: time.Duration(s.CPU.Load()), StorageBytes: s.Storage.Load(),
	}
}

// Owner is what was attached with the channel.
func (c *Channel) Owner() any { return c.options.Owner }

// SetAudit says whether the statements of the channel are told to OnAudit. It holds
// for those that begin after it returned, and outlives the worker.
func (c *Channel) SetAudit(ctx context.Context, on bool) error {
	c.mu.Lock()
	c.options.Audit = on
	c.mu.Unlock()
	if err := c.w.call(ctx, &control.Message{Op: control.SetAudit, Channel: c.id, Audited: on}); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// InTransaction tells whether a session of the database, on any channel, has a transaction open.
func (c *Channel) InTransaction() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.disposed && c.slot.Transactions.Load() > 0
}

// Alarm is the alarm that the database's last commit left: unix milliseconds, -1 for
// none, 0 where the worker has not looked since the first channel was attached. After
// Close it is what the channel's own last commit left, or one after it.
func (c *Channel) Alarm() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disposed {
		return c.alarm
	}
	return c.slot.Alarm.Load()
}

// Replaced tells whether a worker died that served the channel: it may have left a commit whose alarm Alarm does not show.
func (c *Channel) Replaced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replaced
}

// Done is closed when the worker has ended the channel, or a statement of it
// hung its worker; Err tells why. It is not closed by Close or by the client's leaving.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Err is why the channel ended.
func (c *Channel) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close detaches the channel: what is open in it is rolled back. It returns when
// the worker has let go, or ctx has ended. Then a statement of it may still run:
// it is watched until the worker has let go or is gone.
func (c *Channel) Close(ctx context.Context) error {
	if c.closing.Swap(true) {
		return nil
	}
	var err error
	select {
	case err = <-c.leave():
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}

// leave has the worker let go of the channel. The place is given back only then: until that moment
// the worker may write to the slot, and the watchdog finds its statements by the place.
func (c *Channel) leave() <-chan error {
	left := make(chan error, 1)
	c.w.detach(c, func(err error) {
		if errors.Is(err, errReplaced) {
			c.mu.Lock()
			c.replaced = true
			c.mu.Unlock()
			err = nil
		}
		c.dispose()
		left <- err
	})
	return left
}

// end says why the channel is over; it is the worker's goroutine that calls it.
func (c *Channel) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.err = true, err
	if c.workerEnd != nil {
		c.workerEnd.Close() // with it the client sees the end
		c.workerEnd = nil
	}
	close(c.done)
}

// dispose gives back the slot and the descriptors.
func (c *Channel) dispose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disposed {
		return
	}
	c.disposed = true
	c.last, c.committed, c.alarm = usage(c.slot), c.slot.Committed.Load(), c.slot.Alarm.Load()
	for _, f := range []**os.File{&c.facetEnd, &c.workerEnd} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
	c.w.leavePlace(c.place)
}
