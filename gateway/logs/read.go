package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// Limits of a reader.
const (
	// maxTail is how many bytes of lines that are kept already one reader gets.
	maxTail = 64 << 20
	// maxBehind is how many new lines wait for a follower.
	maxBehind = 4096
)

// Query says which lines Read gives.
type Query struct {
	Prefix address.Address // a facet, or an object, a namespace, or all
	Since  time.Time       // none before it, unless zero
	Lines  int             // at most so many of the newest, unless 0
	Follow bool            // and then those to come, until the context ends
	// Idle, unless nil, is called when all lines so far were given and Read is
	// about to wait for new ones.
	Idle func()
}

// Read gives lines in order of time to yield, until it returns an error.
func (s *Store) Read(ctx context.Context, q Query, yield func(Line) error) error {
	var sources []source
	var f *follower
	err := s.run(ctx, func() {
		sources = s.files.sources(q.Prefix)
		if q.Follow {
			f = &follower{prefix: q.Prefix, lines: make(chan Line, maxBehind)}
			s.followers[f] = true
		}
	})
	if f != nil {
		defer s.run(context.Background(), func() { s.unfollow(f) })
	}
	if err != nil {
		return err
	}
	for _, l := range tail(sources, q) {
		if err := yield(l); err != nil {
			return err
		}
	}
	if f == nil {
		return nil
	}
	return f.follow(ctx, q, yield)
}

// follower is a reader of lines to come.
type follower struct {
	prefix address.Address
	lines  chan Line
	missed atomic.Int64
}

// offer hands a line over, unless the reader is too far behind.
func (f *follower) offer(e *entry) {
	if !f.prefix.Contains(e.addr) {
		return
	}
	select {
	case f.lines <- e.line:
	default:
		f.missed.Add(1)
	}
}

func (s *Store) unfollow(f *follower) {
	if s.followers[f] {
		delete(s.followers, f)
		close(f.lines)
	}
}

func (f *follower) follow(ctx context.Context, q Query, yield func(Line) error) error {
	for {
		if len(f.lines) == 0 && q.Idle != nil {
			q.Idle()
		}
		select {
		case l, ok := <-f.lines:
			if !ok {
				return ErrClosed
			}
			if n := f.missed.Swap(0); n > 0 {
				missed := Line{Time: l.Time, Address: f.prefix.String(), Stream: StreamGateway, Line: fmt.Sprintf("%d lines are missing here: this reader is too slow", n)}
				if err := yield(missed); err != nil {
					return err
				}
			}
			if err := yield(l); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// source is a file as it was when a reader asked: it may be set aside, deleted
// or grow while it is read.
type source struct {
	paths []string // where it may be by now
	inode uint64
	size  int64
}

// sources gives the files of facets at or below an address, newest first.
func (fl *files) sources(prefix address.Address) []source {
	var all []source
	for _, f := range fl.matching(prefix) {
		current, older := fl.path(f.id, currentSuffix), fl.path(f.id, olderSuffix)
		all = appendSource(all, current, older)
		all = appendSource(all, older)
	}
	return all
}

func appendSource(all []source, paths ...string) []source {
	info, err := os.Stat(paths[0])
	if err != nil {
		return all
	}
	return append(all, source{paths, inode(info), info.Size()})
}

func inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// read gives what the file held, nothing if it is gone.
func (s source) read() []byte {
	for _, path := range s.paths {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || inode(info) != s.inode {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, s.size))
		if err != nil {
			return nil
		}
		return b
	}
	return nil
}

// tail gives the newest lines of some files, oldest first.
func tail(sources []source, q Query) []Line {
	var all []Line
	size := 0
	for _, s := range sources {
		from := len(all)
		for l, n := range backwards(s.read(), q) {
			all = append(all, l)
			size += n
		}
		slices.Reverse(all[from:])
		if q.Lines > 0 && len(all) > 4*q.Lines || size > 2*maxTail {
			all, size = newest(all, q.Lines)
		}
	}
	all, _ = newest(all, q.Lines)
	return all
}

// backwards gives the lines of a file from its end, with their sizes; it stops
// at the first that is too old, or when there are enough.
func backwards(b []byte, q Query) func(func(Line, int) bool) {
	return func(yield func(Line, int) bool) {
		for n := 0; len(b) > 0 && (q.Lines == 0 || n < q.Lines); {
			b = bytes.TrimSuffix(b, []byte("\n"))
			at := bytes.LastIndexByte(b, '\n') + 1
			text := b[at:]
			b = b[:at]
			var l Line
			if json.Unmarshal(text, &l) != nil {
				continue // cut off by a crash
			}
			if l.Time.Before(q.Since) {
				return
			}
			if !yield(l, len(text)) {
				return
			}
			n++
		}
	}
}

// newest sorts lines by time and keeps the last n (0: all) within maxTail.
func newest(all []Line, n int) ([]Line, int) {
	slices.SortStableFunc(all, func(a, b Line) int { return a.Time.Compare(b.Time) })
	if n > 0 && len(all) > n {
		all = all[len(all)-n:]
	}
	size, from := 0, len(all)
	for from > 0 {
		l := &all[from-1]
		if size += len(l.Line) + len(l.Address) + 96; size > maxTail {
			break
		}
		from--
	}
	return slices.Clone(all[from:]), size
}
