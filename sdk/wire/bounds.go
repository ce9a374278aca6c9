package wire

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Bounds limits a hostile peer.
type Bounds struct {
	MaxOpen int // streams that the peer may hold open itself

	// Take, unless nil, is asked for room for each stream that the peer opens: what it can make us hold is a window. Give is told
	// when both sides have closed one that had room, or when the wire is over. A stream for which there is no room is
	// Refused. Neither is called twice at a time.
	Take func() bool
	Give func()

	open map[uint32]struct{} // streams that the peer holds open; used by the reading goroutine only

	mu    sync.Mutex       // guards the fields below
	rooms map[uint32]*room // streams that one side at least has not closed
	over  bool
	quiet atomic.Int32 // how many of rooms are
}

// room is what is known of a stream.
type room struct {
	closed    byte // by whom
	refused   bool
	forgotten bool
	free      bool   // it takes no room: it is ours, or was admitted without
	bytes     uint32 // that came on a refused one
}

// quiet reports whether something that comes on the stream is thrown away.
func (r *room) quiet() bool { return r.refused || r.forgotten }

// one bit a side that has closed a stream
const (
	peerClosed = 1
	weClosed   = 2
)

// refusedBytes is what a refused stream may bring: enough to say what it is for, so that the refusal can be told.
const refusedBytes = 4 << 10

// received counts the streams that the peer opened (even ids: the facet is yamux's server).
// A stream counts until the peer closes it.
func (b *Bounds) received(id uint32, flags uint16) error {
	if flags&flagSYN != 0 {
		if id%2 == 1 || id == 0 {
			return fmt.Errorf("opened stream %d, which is not its to open", id)
		}
		if b.open == nil {
			b.open = map[uint32]struct{}{}
		}
		b.open[id] = struct{}{}
		if len(b.open) > b.MaxOpen {
			return fmt.Errorf("holds more than %d streams open", b.MaxOpen)
		}
		b.enter(id)
	}
	if flags&(flagFIN|flagRST) != 0 {
		delete(b.open, id)
		b.close(id, flags, peerClosed)
	}
	return nil
}

// sent is told of the frames that we send.
func (b *Bounds) sent(id uint32, flags uint16) {
	if flags&flagSYN != 0 {
		b.mu.Lock()
		b.add(id, &room{free: true})
		b.mu.Unlock()
	}
	if flags&(flagFIN|flagRST) != 0 {
		b.close(id, flags, weClosed)
	}
}

// enter asks for room.
func (b *Bounds) enter(id uint32) {
	if b.Take == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.rooms[id] != nil {
		return
	}
	b.add(id, &room{refused: !b.Take()})
}

// add enters a stream. b.mu is held.
func (b *Bounds) add(id uint32, r *room) {
	if b.rooms == nil {
		b.rooms = map[uint32]*room{}
	}
	b.rooms[id] = r
	if r.quiet() {
		b.quiet.Add(1)
	}
}

// close gives the room back of a stream that both sides have closed, or one has reset.
func (b *Bounds) close(id uint32, flags uint16, by byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rooms[id]
	if r == nil {
		return
	}
	r.closed |= by
	if flags&flagRST != 0 || r.closed == peerClosed|weClosed {
		b.leave(id, r)
	}
}

// leave forgets a stream. b.mu is held.
func (b *Bounds) leave(id uint32, r *room) {
	delete(b.rooms, id)
	if r.quiet() {
		b.quiet.Add(-1)
	}
	if !r.refused && !r.free {
		b.Give()
	}
}

// Refused reports whether there was no room for a stream.
func (b *Bounds) Refused(id uint32) bool {
	if b.quiet.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rooms[id] != nil && b.rooms[id].refused
}

// Admit lets a refused stream in all the same, unless something that came on it was thrown away.
func (b *Bounds) Admit(id uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rooms[id]
	if r == nil || !r.refused || r.bytes > refusedBytes {
		return false
	}
	r.refused, r.free = false, true
	if !r.quiet() {
		b.quiet.Add(-1)
	}
	return true
}

// forget is Conn.Forget.
func (b *Bounds) forget(id uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rooms[id]
	if r == nil || r.forgotten {
		return
	}
	if !r.quiet() {
		b.quiet.Add(1)
	}
	r.forgotten = true
}

// unwanted reports whether a data frame is to be thrown away.
func (b *Bounds) unwanted(id, length uint32) bool {
	if b.quiet.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rooms[id]
	if r == nil || !r.quiet() {
		return false
	}
	if r.forgotten {
		return true
	}
	r.bytes = min(r.bytes+length, refusedBytes+1)
	return r.bytes > refusedBytes
}

// End gives all room back: the wire is over.
func (b *Bounds) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	for id, r := range b.rooms {
		b.leave(id, r)
	}
}
