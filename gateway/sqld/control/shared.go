package control

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxSlots is how many databases of one worker can be attached at once.
const MaxSlots = 16384

// Running is a statement that runs: the gateway sees one that stays past its
// budget, by its own clock, and replaces the worker.
type Running struct {
	Seq     atomic.Uint64 // 0 = none; never the same again
	Budget  atomic.Int64  // nanoseconds from when Seq was stored
	Channel atomic.Uint64
}

// MaxRunning is how many statements of one database run at once.
const MaxRunning = 2

// Slot is the shared memory of one database that is attached. The facet can't
// see it. All but Durable are the worker's to write.
type Slot struct {
	Committed atomic.Uint64 // commits so far, counted before any is acknowledged
	Durable   atomic.Uint64 // the gateway's: commits known to be on disk

	RowsRead, RowsWritten, Statements, Errors atomic.Int64
	ResultBytes                               atomic.Int64 // of the rows that were sent
	CPU                                       atomic.Int64 // nanoseconds
	Storage                                   atomic.Int64 // bytes of database and log
	Unsynced                                  atomic.Int64 // bytes of log since Durable, about
	Transactions                              atomic.Int64 // sessions with one open
	Alarm                                     atomic.Int64 // as committed: unix milliseconds, -1 none, 0 not looked at yet
	Running                                   [MaxRunning]Running
	_                                         [32 - 12 - 3*MaxRunning]uint64
}

const slotSize = int(unsafe.Sizeof(Slot{}))

// Shared is the memory that the gateway shares with one worker.
type Shared struct{ b []byte }

// CreateShared makes the memory, as a descriptor to hand to a worker too.
func CreateShared() (*os.File, *Shared, error) {
	fd, err := unix.MemfdCreate("fgw-sqld", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("create shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "shared")
	if err := unix.Ftruncate(fd, int64(MaxSlots*slotSize)); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("size shared memory: %w", err)
	}
	// Nobody may shrink it under the other's mapping.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("seal shared memory: %w", err)
	}
	s, err := MapShared(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, s, nil
}

// MapShared maps the memory; f may be closed afterwards.
func MapShared(f *os.File) (*Shared, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, MaxSlots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return &Shared{b}, nil
}

// Slot is slot i, or nil where there is none.
func (s *Shared) Slot(i int) *Slot {
	if i < 0 || i >= MaxSlots {
		return nil
	}
	return (*Slot)(unsafe.Pointer(&s.b[i*slotSize]))
}

// Close unmaps the memory; no slot may be used afterwards.
func (s *Shared) Close() error { return unix.Munmap(s.b) }

// Clear makes a slot ready for another database.
func (s *Slot) Clear() {
	for _, w := range []*atomic.Int64{&s.RowsRead, &s.RowsWritten, &s.Statements, &s.Errors, &s.ResultBytes, &s.CPU, &s.Storage, &s.Unsynced} {
		w.Store(0)
	}
	s.Committed.Store(0)
	s.Durable.Store(0)
	s.Stopped()
}

// Stopped clears what a worker that has ended left running.
func (s *Slot) Stopped() {
	s.Transactions.Store(0)
	s.Alarm.Store(0)
	for i := range s.Running {
		s.Running[i].Seq.Store(0)
	}
}
