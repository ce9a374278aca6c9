package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// maxGroup is how many changes share a commit at most.
const maxGroup = 128

// op is one change that waits for its commit.
type op struct {
	apply   func(*change) error
	decided chan struct{} // closed when it is committed, and can only be lost by the disk
	done    chan error    // told once, when it is durable or has failed
	change  *change       // as it was applied
}

func newOp(apply func(*change) error) *op {
	return &op{apply: apply, decided: make(chan struct{}), done: make(chan error, 1)}
}

// change is what an op works with while it is applied. It runs on the writer
// goroutine, inside a transaction that it shares with others of its group.
type change struct {
	*connection
	beside []func() error // run after the commit, while the disk works on it
	after  []func()       // run once the change is durable
	undo   []func()       // run, last first, if it is not committed
}

// besideSync has f run on the writer goroutine after the commit, while that is synced: what f does takes no
// time of its own then. It must be something that is done later where f fails or the process is killed before
// it; the caller of the change is told of its error.
func (c *change) besideSync(f func() error) { c.beside = append(c.beside, f) }

// onCommit has f run on the writer goroutine once the change is durable.
func (c *change) onCommit(f func()) { c.after = append(c.after, f) }

// onUndo has f run if the change does not come to be.
func (c *change) onUndo(f func()) { c.undo = append(c.undo, f) }

func (c *change) undoAll() {
	for i := len(c.undo) - 1; i >= 0; i-- {
		c.undo[i]()
	}
	c.undo = nil
}

// do hands apply to the writer and waits until it is durable. If ctx ends first
// the change may still come to be.
func (r *Registry) do(ctx context.Context, apply func(*change) error) error {
	o, err := r.hand(ctx, apply)
	if err != nil {
		return err
	}
	return r.wait(ctx, o)
}

// hand hands apply to the writer.
func (r *Registry) hand(ctx context.Context, apply func(*change) error) (*op, error) {
	o := newOp(apply)
	select {
	case r.ops <- o:
		return o, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.stopping.Done():
		return nil, ErrClosed
	}
}

// wait waits until a change is durable.
func (r *Registry) wait(ctx context.Context, o *op) error {
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.writerGone:
		// It may have answered just before it went.
		select {
		case err := <-o.done:
			return err
		default:
			return ErrClosed
		}
	}
}

// writer applies changes until the registry closes.
func (r *Registry) writer() {
	defer close(r.writerGone)
	group := make([]*op, 0, maxGroup)
	for {
		select {
		case o := <-r.ops:
			group = append(group[:0], o)
		case <-r.stopping.Done():
			return
		}
	gather:
		for len(group) < maxGroup {
			select {
			case o := <-r.ops:
				group = append(group, o)
			default:
				break gather
			}
		}
		r.commit(group)
	}
}

// commit applies a group in one transaction, each change in a savepoint so that
// one that is refused does not take the others with it.
func (r *Registry) commit(group []*op) {
	if r.broken != nil {
		answer(group, r.broken)
		return
	}
	if err := r.write.exec(`BEGIN IMMEDIATE`); err != nil {
		answer(group, fmt.Errorf("registry: %w", err))
		return
	}
	applied := group[:0:0]
	for _, o := range group {
		o.change = &change{connection: r.write}
		if err := applyOne(o.change, o.apply, len(group) > 1); err != nil {
			o.done <- err
			continue
		}
		applied = append(applied, o)
	}
	if len(applied) == 0 {
		r.write.exec(`ROLLBACK`)
		return
	}
	if err := r.write.exec(`COMMIT`); err != nil {
		// What cannot be committed (a full disk) is rolled back, so that the next group finds no open transaction.
		r.write.exec(`ROLLBACK`)
		for _, o := range slices.Backward(applied) {
			o.change.undoAll()
		}
		answer(applied, fmt.Errorf("registry: %w", err))
		return
	}
	for _, o := range applied {
		close(o.decided)
	}
	r.finish(applied)
}

// finish makes committed changes durable and answers them.
func (r *Registry) finish(applied []*op) {
	synced := make(chan error, 1)
	go func() { synced <- r.write.sync() }()
	errs := make([]error, len(applied))
	for i, o := range applied {
		for _, f := range o.change.beside {
			errs[i] = errors.Join(errs[i], f())
		}
	}
	if err := <-synced; err != nil {
		// The kernel may have dropped what it could not write: a later sync that succeeds says nothing about it.
		r.broken = fmt.Errorf("registry: sync: %w", err)
	}
	for i, o := range applied {
		if errs[i] == nil {
			for _, f := range o.change.after {
				f()
			}
		}
		o.done <- errors.Join(r.broken, errs[i])
	}
}

// applyOne applies one change, and takes back what it did if it fails. One that
// has the transaction for itself needs no savepoint.
func applyOne(c *change, apply func(*change) error, shared bool) error {
	if !shared {
		err := apply(c)
		if err != nil {
			c.undoAll()
		}
		return err
	}
	if err := c.exec(`SAVEPOINT one`); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	err := apply(c)
	if err != nil {
		c.undoAll()
		err = errors.Join(err, c.exec(`ROLLBACK TO one`))
	}
	return errors.Join(err, c.exec(`RELEASE one`))
}

func answer(ops []*op, err error) {
	for _, o := range ops {
		o.done <- err
	}
}
