package registry

import (
	"context"
	"errors"
	"fmt"
)

// maxGroup is how many changes share a commit at most.
const maxGroup = 128

// op is one change that waits for its commit.
type op struct {
	apply func(*change) error
	done  chan error
}

// change is what an op works with while it is applied. It runs on the writer
// goroutine, inside a transaction that it shares with others of its group.
type change struct {
	*connection
	after []func() // run once the group is committed
	undo  []func() // run, last first, if it is not
}

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
	o := &op{apply: apply, done: make(chan error, 1)}
	select {
	case r.ops <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.stopping.Done():
		return ErrClosed
	}
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
	all := &change{connection: r.write}
	applied := group[:0:0]
	for _, o := range group {
		one := &change{connection: r.write}
		if err := applyOne(one, o.apply, len(group) > 1); err != nil {
			o.done <- err
			continue
		}
		all.after = append(all.after, one.after...)
		all.undo = append(all.undo, one.undo...)
		applied = append(applied, o)
	}
	end := `COMMIT`
	if len(applied) == 0 {
		end = `ROLLBACK`
	}
	if err := r.write.exec(end); err != nil {
		// What cannot be committed (a full disk) is rolled back, so that the next group finds no open transaction.
		r.write.exec(`ROLLBACK`)
		all.undoAll()
		answer(applied, fmt.Errorf("registry: %w", err))
		return
	}
	var err error
	if len(applied) > 0 {
		if err = r.write.sync(); err != nil {
			// The kernel may have dropped what it could not write: a later sync that succeeds says nothing about it.
			r.broken = fmt.Errorf("registry: sync: %w", err)
			err = r.broken
		}
	}
	for _, f := range all.after {
		f()
	}
	answer(applied, err)
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
