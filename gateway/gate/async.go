package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxAsync is how many syncs the kernel may hold: parallel files, and of a new one its directories too. One more is made
// by the thread that asks. It counts against /proc/sys/fs/aio-max-nr, 65,536 on most machines.
const maxAsync = 256

// asyncDisk syncs files without a thread that waits for it (io_submit(2), IOCB_CMD_FDSYNC, Linux 4.18). Go code runs on as many
// threads at once as there are cores: one of two, held by a disk for some hundred microseconds until the runtime
// notices, is half of what the gateway has.
type asyncDisk struct {
	context uintptr
	event   *os.File // counts what the kernel has done
	fd      uint32   // event's
	ended   chan struct{}

	mu      sync.Mutex // guards what follows
	last    uint64     // number of the sync that was begun last
	waiting map[uint64]chan error
	closed  bool
}

// errNotAsync says that the caller has to sync by itself.
var errNotAsync = errors.New("the kernel does not take it")

// newAsyncDisk returns nil where the kernel can't do it.
func newAsyncDisk() *asyncDisk {
	d := &asyncDisk{waiting: map[uint64]chan error{}, ended: make(chan struct{})}
	if _, _, errno := syscall.Syscall(unix.SYS_IO_SETUP, maxAsync, uintptr(unsafe.Pointer(&d.context)), 0); errno != 0 {
		return nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		syscall.Syscall(unix.SYS_IO_DESTROY, d.context, 0, 0)
		return nil
	}
	d.fd, d.event = uint32(fd), os.NewFile(uintptr(fd), "eventfd")
	go d.run()
	return d
}

// close ends it; who still waits, and who comes later, syncs by himself.
func (d *asyncDisk) close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	first := !d.closed
	d.closed = true
	d.mu.Unlock()
	if first {
		d.event.Close()
	}
	<-d.ended
}

// control is the kernel's struct iocb, but for what a sync has no use for.
type control struct {
	data     uint64 // told again with the event
	_        uint64
	opcode   uint16
	_        int16
	file     uint32
	_        [3]uint64
	_        uint64
	flags    uint32
	resultfd uint32
}

// completion is the kernel's struct io_event.
type completion struct {
	data   uint64
	_      uint64
	result int64
	_      int64
}

const (
	opDataSync    = 3 // IOCB_CMD_FDSYNC
	flagResultFD  = 1 // IOCB_FLAG_RESFD
	eventsAtOnce  = 32
	eventfdLength = 8
)

// dataSync is fdatasync(2) of fd. errNotAsync means that nothing was done.
func (d *asyncDisk) dataSync(fd int) error {
	if d == nil {
		return errNotAsync
	}
	done := make(chan error, 1)
	d.mu.Lock()
	if d.closed || len(d.waiting) == maxAsync {
		d.mu.Unlock()
		return errNotAsync
	}
	d.last++
	n := d.last
	d.waiting[n] = done
	d.mu.Unlock()
	c := &control{data: n, opcode: opDataSync, file: uint32(fd), flags: flagResultFD, resultfd: d.fd}
	// It does not wait: the kernel has a thread of its own sync the file.
	if _, _, errno := syscall.RawSyscall(unix.SYS_IO_SUBMIT, d.context, 1, uintptr(unsafe.Pointer(&c))); errno != 0 {
		d.mu.Lock()
		delete(d.waiting, n)
		d.mu.Unlock()
		return errNotAsync
	}
	return <-done
}

// run tells who waits for a sync what became of it.
func (d *asyncDisk) run() {
	defer close(d.ended)
	defer d.stop()
	var count [eventfdLength]byte
	for {
		if _, err := io.ReadFull(d.event, count[:]); err != nil {
			return
		}
		for n := binary.NativeEndian.Uint64(count[:]); n > 0; {
			var events [eventsAtOnce]completion
			var now unix.Timespec
			got, _, errno := syscall.RawSyscall6(unix.SYS_IO_GETEVENTS, d.context, 1, eventsAtOnce, uintptr(unsafe.Pointer(&events)), uintptr(unsafe.Pointer(&now)), 0)
			if errno == syscall.EINTR {
				continue
			}
			if errno != 0 || got == 0 {
				break
			}
			for _, e := range events[:got] {
				d.tell(e)
			}
			n -= min(n, uint64(got))
		}
	}
}

func (d *asyncDisk) tell(e completion) {
	var err error
	if e.result < 0 {
		err = fmt.Errorf("fdatasync: %w", syscall.Errno(-e.result))
	}
	d.mu.Lock()
	done := d.waiting[e.data]
	delete(d.waiting, e.data)
	d.mu.Unlock()
	if done != nil {
		done <- err
	}
}

// stop gives the kernel's part back. What it has begun it ends; whether that went well, nobody hears any more.
func (d *asyncDisk) stop() {
	d.mu.Lock()
	d.closed = true
	waiting := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	for _, done := range waiting {
		done <- errNotAsync
	}
	syscall.Syscall(unix.SYS_IO_DESTROY, d.context, 0, 0)
}
