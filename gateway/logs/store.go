package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// Limits of the store.
const (
	// MaxFile is where a facet's file is set aside; one older one is kept.
	MaxFile = 1 << 20
	// DefaultBudget is what all files may take unless Config says otherwise.
	DefaultBudget = 256 << 20
	// maxQueued is how many bytes of lines wait to be written, of all facets
	// and of one: a disk that stalls costs lines, not memory.
	maxQueued      = 16 << 20
	maxQueuedFacet = 512 << 10
	maxBatch       = 512
)

// ErrClosed means that the store has been closed.
var ErrClosed = errors.New("the log store is closed")

// Config of a store.
type Config struct {
	Dir    string           // DATA/logs
	Budget int64            // bytes on disk; 0: DefaultBudget
	Now    func() time.Time // nil: time.Now
}

// Store is the logs of all facets. One goroutine owns the files and the
// followers, so a reader's place in the stream needs no lock: it is the moment
// at which that goroutine takes its request.
type Store struct {
	now    func() time.Time
	queue  chan any // entry, or func() to be run by the owner
	queued atomic.Int64
	onDisk atomic.Int64
	drops  atomic.Int64
	files  *files

	followers map[*follower]bool // the owner's

	stop     context.CancelFunc
	stopping context.Context
	done     sync.WaitGroup
}

// entry is one line on its way to the disk.
type entry struct {
	file  fileID
	addr  address.Address
	line  Line
	bytes []byte
	from  *Writer
}

// Open opens the logs of a data directory.
func Open(c Config) (*Store, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Budget <= 0 {
		c.Budget = DefaultBudget
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open logs: %w", err)
	}
	files, err := openFiles(filepath.Clean(c.Dir), c.Budget)
	if err != nil {
		return nil, fmt.Errorf("open logs: %w", err)
	}
	s := &Store{now: c.Now, queue: make(chan any, 4096), files: files, followers: make(map[*follower]bool)}
	s.onDisk.Store(files.total)
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.done.Go(s.own)
	return s, nil
}

// Close writes what waits and closes the files.
func (s *Store) Close() error {
	s.stop()
	s.done.Wait()
	return s.files.close()
}

// own is the goroutine that owns the files.
func (s *Store) own() {
	for {
		select {
		case x := <-s.queue:
			s.handle(x)
		case <-s.stopping.Done():
			for {
				select {
				case x := <-s.queue:
					s.handle(x)
				default:
					for f := range s.followers {
						s.unfollow(f)
					}
					return
				}
			}
		}
	}
}

// handle writes an entry together with those of the same facet that follow it
// in the queue, or runs a request.
func (s *Store) handle(x any) {
	batch := make([]*entry, 0, 16)
	for {
		if e, ok := x.(*entry); ok {
			if len(batch) > 0 && (batch[0].file != e.file || len(batch) >= maxBatch) {
				s.write(batch)
				batch = batch[:0]
			}
			batch = append(batch, e)
		} else {
			s.write(batch)
			batch = batch[:0]
			x.(func())()
		}
		select {
		case x = <-s.queue:
		default:
			s.write(batch)
			return
		}
	}
}

// write appends lines of one facet to its file and hands them to followers.
func (s *Store) write(batch []*entry) {
	if len(batch) == 0 {
		return
	}
	size := 0
	for _, e := range batch {
		size += len(e.bytes)
	}
	text := make([]byte, 0, size)
	for _, e := range batch {
		text = append(text, e.bytes...)
		e.from.queued.Add(-int64(len(e.bytes)))
	}
	s.queued.Add(-int64(size))
	err := s.files.append(batch[0].file, text)
	s.onDisk.Store(s.files.total)
	if err != nil {
		s.drops.Add(int64(len(batch)))
		for _, e := range batch {
			e.from.lost.Add(1) // told once writing works again
		}
		return
	}
	for f := range s.followers {
		for _, e := range batch {
			f.offer(e)
		}
	}
}

// run has the owner run f, after all that was queued before, and waits for it.
func (s *Store) run(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case s.queue <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopping.Done():
		return ErrClosed
	}
	select {
	case <-ran:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopping.Done():
		s.done.Wait() // the owner empties the queue before it goes
		select {
		case <-ran:
			return nil
		default:
			return ErrClosed
		}
	}
}

// Stats tells what the logs take on disk, and how many lines were not kept since Open.
func (s *Store) Stats() (bytes, dropped int64) { return s.onDisk.Load(), s.drops.Load() }

// Remove deletes the logs at or below an address, of an object that was removed.
func (s *Store) Remove(ctx context.Context, prefix address.Address) error {
	var err error
	if e := s.run(ctx, func() { err = s.files.remove(prefix) }); e != nil {
		return e
	}
	return err
}
