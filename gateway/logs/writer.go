package logs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// What a writer remembers of the last lines, to tell how an instance ended.
const (
	lastLines = 32
	lastBytes = 8 << 10
)

// tellEvery keeps a facet at its rate from doubling its lines with reports.
const tellEvery = time.Second

// Pause is how long the output of a facet that floods its log is left unread each time: its pipe
// fills, and it waits.
const Pause = 10 * time.Millisecond

// Writer takes the output of one running facet. Its methods may be called at
// once from several goroutines.
type Writer struct {
	store   *Store
	addr    address.Address
	text    string
	version int
	file    fileID

	mu      sync.Mutex // guards what follows
	bucket  bucket
	waste   bucket // of lines that are dropped
	dropped int64
	toldAt  time.Time // when dropped lines were last told
	last    []string
	size    int // of last

	queued atomic.Int64 // bytes that wait to be written
	lost   atomic.Int64 // lines that could not be
}

// Writer gives a writer for one instance of a facet. Close tells what it dropped.
func (s *Store) Writer(a address.Address, version int) *Writer {
	return &Writer{store: s, addr: a, text: a.String(), version: version, file: idOf(a), bucket: bucket{rate: facetRate}, waste: bucket{rate: wasteRate}}
}

// Append adds a line, without its newline; requestID is empty where none is
// known, and of a longer one than any gateway gives, MaxRequestID bytes are kept. It does not wait: a facet that is over its rate, or a disk that does
// not keep up, costs lines, whose number is told in a line of their own. What it returns is how long
// the facet's output should be left unread, where so much was dropped that reading on costs others too much.
func (w *Writer) Append(stream, requestID, line string) time.Duration {
	return w.append(stream, requestID, line, len(line))
}

func (w *Writer) append(stream, requestID, line string, total int) time.Duration {
	text := clean(line, total)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remember(text)
	now := w.store.now()
	if !w.bucket.take(now, len(text)) {
		w.drop()
		if !w.waste.take(now, len(text)) {
			return Pause
		}
		return 0
	}
	if now.Sub(w.toldAt) >= tellEvery {
		w.tellDropped(now)
	}
	l := Line{Time: now, Address: w.text, Version: w.version, Stream: stream, Line: text}
	if requestID != "" {
		requestID = strings.ToValidUTF8(requestID[:min(len(requestID), MaxRequestID)], "\uFFFD")
		l.RequestID = &requestID
	}
	b := l.encode()
	w.bucket.owe(len(b) - len(text))
	if !w.enqueue(l, b) {
		w.drop()
	}
	return 0
}

// drop counts a line that is not kept. w.mu is held.
func (w *Writer) drop() {
	w.dropped++
	w.store.drops.Add(1)
}

// Close tells what was dropped since the last line that was kept.
func (w *Writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tellDropped(w.store.now())
}

// tellDropped reports dropped lines, if any, before the next one. w.mu is held.
func (w *Writer) tellDropped(now time.Time) {
	lost := w.lost.Swap(0)
	n := w.dropped + lost
	if n == 0 {
		return
	}
	text := fmt.Sprintf("%d lines were dropped: the facet logs more than %.0f lines or %.0f KiB a second", n, w.bucket.linesPerSecond, w.bucket.bytesPerSecond/1024)
	if lost > 0 {
		text = fmt.Sprintf("%d lines were dropped: the log could not be written", n)
	}
	l := Line{Time: now, Address: w.text, Version: w.version, Stream: StreamGateway, Line: text}
	if w.enqueue(l, l.encode()) {
		w.dropped, w.toldAt = 0, now
	} else {
		w.dropped = n
	}
}

// enqueue hands a line, and the bytes that stand for it, to the owner of the files unless too much waits already. w.mu is held.
func (w *Writer) enqueue(l Line, b []byte) bool {
	e := &entry{file: w.file, addr: w.addr, line: l, bytes: b, from: w}
	n := int64(len(b))
	if w.queued.Load()+n > maxQueuedFacet || w.store.queued.Load()+n > maxQueued || w.store.stopping.Err() != nil {
		return false
	}
	w.queued.Add(n)
	w.store.queued.Add(n)
	select {
	case w.store.queue <- e:
		return true
	default:
		w.queued.Add(-n)
		w.store.queued.Add(-n)
		return false
	}
}

// remember keeps the last lines. w.mu is held.
func (w *Writer) remember(line string) {
	if len(line) > lastBytes/4 {
		line = line[:lastBytes/4]
	}
	w.last = append(w.last, line)
	w.size += len(line)
	for len(w.last) > lastLines || w.size > lastBytes {
		w.size -= len(w.last[0])
		w.last[0] = ""
		w.last = w.last[1:]
	}
}

// Last gives the last lines, oldest first, those included that were dropped:
// what an instance printed before it ended.
func (w *Writer) Last() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.last...)
}

// Copy takes lines from a process's output until it ends. A last line without a
// newline counts too.
func (w *Writer) Copy(stream string, r io.Reader) error {
	br := bufio.NewReaderSize(r, MaxLine+2)
	for {
		line, err := br.ReadSlice('\n')
		text := string(bytes.TrimRight(line, "\r\n"))
		total, some := len(text), len(line) > 0
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = br.ReadSlice('\n')
			total += len(bytes.TrimRight(line, "\r\n"))
		}
		if some {
			w.append(stream, "", text, total)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read output: %w", err)
		}
	}
}
