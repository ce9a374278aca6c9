package sandboxd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what sandboxd's children print: a child that was taken over may print without end, and a terminal may be
// stopped by ^S.
const (
	outputChunk = 64 << 10              // is read, and goes on, at once
	outputBurst = 1 << 20               // a Go program's last words are the stacks of all its goroutines
	outputRate  = 256 << 10             // bytes a second beyond: more than anybody reads
	outputTail  = 4 << 10               // what was dropped is told by its last bytes
	outputRest  = 10 * time.Millisecond // after something was dropped: to read it away is work, too
	outputStuck = time.Second           // unwritten for so long, what comes is dropped and not waited for
	outputAfter = time.Second           // how long after a child's end its pipe is read: another may hold it open
)

// printer writes to sandboxd's error output what its children print. They get a pipe each and not that output itself: it
// may be the terminal from which sandboxd was started, open for reading, where they could read what is typed. What comes
// is copied, not understood.
type printer struct {
	to      io.Writer
	queue   chan []byte
	stuck   atomic.Bool    // the last chunk could not be handed over in time
	wg      sync.WaitGroup // one per pipe
	written chan struct{}  // closed when the last chunk is written
}

func newPrinter(to io.Writer) *printer {
	p := &printer{to: to, queue: make(chan []byte), written: make(chan struct{})}
	go func() {
		defer close(p.written)
		for b := range p.queue {
			p.to.Write(b) // where it can't be told, nothing is
		}
	}()
	return p
}

// errorOutput is this process's, as a file of its own: a write to descriptor 2 itself ends a Go program
// where nobody reads any more.
func errorOutput() (*os.File, error) {
	fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate the error output: %w", err)
	}
	return os.NewFile(uintptr(fd), "stderr"), nil
}

// pipe makes one for a child. The caller closes w once the child has it, and calls ended when the child is reaped.
func (p *printer) pipe(name string) (w *os.File, ended func(), err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	unix.SetNonblock(fds[0], true) // our end alone: the runtime's poller reads it; the child's end waits
	r := os.NewFile(uintptr(fds[0]), "output")
	p.wg.Go(func() {
		defer r.Close()
		p.copy(r, name)
	})
	return os.NewFile(uintptr(fds[1]), "output"), func() { r.SetReadDeadline(time.Now().Add(outputAfter)) }, nil
}

// copy writes what comes out of a pipe until nobody can write into it any more.
func (p *printer) copy(r io.Reader, name string) {
	v := &voice{p: p, name: name, left: outputBurst, at: time.Now()}
	buf := make([]byte, outputChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 && !v.say(buf[:n], time.Now()) {
			time.Sleep(outputRest)
		}
		if err != nil {
			v.tell()
			return
		}
	}
}

// put hands a chunk to be written, and reports whether it could.
func (p *printer) put(b []byte) bool {
	if p.stuck.Load() {
		select {
		case p.queue <- b:
			p.stuck.Store(false)
			return true
		default:
			return false
		}
	}
	select {
	case p.queue <- b:
		return true
	case <-time.After(outputStuck):
		p.stuck.Store(true)
		return false
	}
}

// close waits until everything is written, but not for a reader that does not read. Every child has ended.
func (p *printer) close() {
	p.wg.Wait()
	close(p.queue)
	select {
	case <-p.written:
	case <-time.After(outputStuck):
	}
}

// voice is one child's output on its way.
type voice struct {
	p       *printer
	name    string
	left    int       // what may be written now
	at      time.Time // when left was reckoned
	before  byte      // the last byte that came
	dropped int
	tail    []byte // the last of what was dropped
}

// say passes b on, or drops it.
func (v *voice) say(b []byte, now time.Time) bool {
	v.plain(b)
	v.left = min(outputBurst, v.left+int(min(now.Sub(v.at), time.Minute)*outputRate/time.Second))
	v.at = now
	if v.left >= len(b) && v.tell() && v.p.put(bytes.Clone(b)) {
		v.left -= len(b)
		return true
	}
	v.dropped += len(b)
	v.tail = append(v.tail, b...)
	v.tail = append(v.tail[:0], v.tail[max(0, len(v.tail)-outputTail):]...)
	return false
}

// tell says what was dropped, if anything was.
func (v *voice) tell() bool {
	if v.dropped == 0 {
		return true
	}
	note := fmt.Appendf(nil, "\nfgw: of what %s printed %d bytes were dropped; they end with:\n", v.name, v.dropped)
	if !v.p.put(append(note, v.tail...)) {
		return false
	}
	v.left -= len(v.tail)
	v.dropped, v.tail = 0, nil
	return true
}

// plain replaces control characters, by which a terminal is told to do things; in UTF-8 some of them have two bytes.
func (v *voice) plain(b []byte) {
	for i, c := range b {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f || v.before == 0xc2 && c >= 0x80 && c < 0xa0 {
			b[i] = '?'
		}
		v.before = c
	}
}
