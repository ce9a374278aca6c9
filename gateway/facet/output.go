package facet

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/logs"
)

// tailBytes is how much of a facet's last output is kept to say why it ended: a
// goroutine's trace, not a book.
const tailBytes = 8 << 10

// output reads what a facet prints, line by line, into its log.
type output struct {
	log  *logs.Writer
	pipe *os.File
	hide *hider
	ends chan struct{} // closed when the process has ended: what is left is read at once
	done chan struct{}

	mu    sync.Mutex
	tail  []byte // guarded by mu
	cause string // the line with which a Go program began to die; guarded by mu
	since int    // bytes printed after it; guarded by mu
}

func (m *Manager) newOutput(in *instance, pipe *os.File) *output {
	o := &output{log: m.Logs.Writer(in.addr(), in.spec.Version), pipe: pipe, hide: in.hide, ends: make(chan struct{}), done: make(chan struct{})}
	go o.read(pipe)
	return o
}

func (o *output) read(r io.Reader) {
	defer close(o.done)
	br := bufio.NewReaderSize(r, 16<<10)
	var held []byte // what may be the beginning of a secret
	for {
		line, err := br.ReadSlice('\n')
		begin := time.Now()
		line, held = o.hide.piece(held, line, !errors.Is(err, bufio.ErrBufferFull))
		rest(cost(begin), o.ends)
		if len(line) > 0 {
			o.remember(line)
			// A line longer than the buffer arrives in pieces: each is a line of its own in the log.
			rest(o.log.Append(logs.StreamOutput, "", strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "\uFFFD")), o.ends)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// rest leaves a facet's output unread for a while, unless it ends.
func rest(d time.Duration, ends <-chan struct{}) {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ends:
		}
	}
}

func (o *output) remember(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since += len(line)
	// What it prints next may be the traces of thousands of goroutines. The line that begins a death
	// is kept until another does that is no part of the same.
	if isCause(string(line)) && (o.cause == "" || o.since > tailBytes) {
		o.cause, o.since = string(line), 0
	}
	if o.tail = append(o.tail, line...); len(o.tail) > 2*tailBytes {
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-tailBytes:]...)
	}
}

// end reads the rest of what a process that has ended printed, for at most
// outputTime, and returns the end of it.
func (o *output) end() string {
	close(o.ends)
	o.pipe.SetReadDeadline(time.Now().Add(outputTime))
	<-o.done
	o.pipe.Close()
	o.log.Close()
	return o.said()
}

// said is the end of what was printed, with the line before it that says why, if there is one.
func (o *output) said() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	tail := o.tail
	if len(tail) > tailBytes {
		tail = tail[len(tail)-tailBytes:]
	}
	if o.cause != "" && o.since > len(tail) {
		return o.cause + string(tail)
	}
	return string(tail)
}
