package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// yamux's frames, as its specification has them: version, type, two bytes of flags,
// four of stream, four of length.
const (
	typeData   = 0
	typeWindow = 1
	typePing   = 2
	typeGoAway = 3

	flagSYN = 1
	flagACK = 2
	flagFIN = 4
	flagRST = 8
)

// peer is the facet's end of the wire, spoken by hand.
type peer struct {
	wire, sql *os.File
	writing   sync.Mutex
	streams   map[uint32]*stream // used by pump only
	leave     chan int           // to send more on logStream, as it is given
	stingy    bool               // never gives the gateway leave to send more
	hoards    bool               // never closes a stream of its own
}

// stream is one of the gateway's.
type stream struct {
	id   uint32
	got  []byte // since the last request
	kind byte   // 0: not read yet
	// ended says that its end was sent with an answer.
	ended bool
}

// greet answers the handshake as it should be.
func (p *peer) greet() { p.wire.WriteString("FGW\x02\x00\x01\x00\x00") }

// frame writes a header.
func (p *peer) frame(kind byte, flags uint16, id, length uint32) {
	p.write(header(kind, flags, id, length))
}

func header(kind byte, flags uint16, id, length uint32) []byte {
	b := []byte{0, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint32(b, length)
}

func (p *peer) write(b []byte) bool {
	p.writing.Lock()
	defer p.writing.Unlock()
	_, err := p.wire.Write(b)
	return err == nil
}

// send writes data on a stream.
func (p *peer) send(id uint32, flags uint16, data []byte) bool {
	return p.write(append(header(typeData, flags, id, uint32(len(data))), data...))
}

// control writes a frame on the control stream, which is the gateway's first.
func (p *peer) control(kind byte, body string) {
	p.send(1, 0, append([]byte{kind, 0, byte(len(body) >> 8), byte(len(body))}, body...))
}

// stream opens a stream of a kind.
func (p *peer) stream(id uint32, kind byte) { p.send(id, flagSYN, []byte{kind, 0, 0, 0}) }

// open opens many streams and says nothing on them.
func (p *peer) open(n int) {
	for i := range n {
		p.frame(typeWindow, flagSYN, uint32(2*i+2), 0)
	}
}

func (p *peer) pings(n int) {
	for i := range n {
		if !p.write(header(typePing, flagSYN, 0, uint32(i))) {
			return
		}
	}
}

// reply answers a request with a body.
func (p *peer) reply(s *stream, body string) {
	p.send(s.id, 0, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

// endless writes first and then more until the gateway has had enough.
func (p *peer) endless(s *stream, first, more string) {
	go func() {
		p.send(s.id, 0, []byte(first))
		block := []byte(strings.Repeat(more, 32))
		// Within the stream's window: past that it would be something else that is broken.
		for sent := 0; sent < 200<<10 && p.send(s.id, 0, block); sent += len(block) {
		}
	}()
}

// flood sends more on a stream than its window has room for.
func (p *peer) flood(s *stream) {
	for block := make([]byte, 64<<10); p.send(s.id, 0, block); {
	}
}

// logStream is the stream of the facet's own on which logs writes.
const logStream = 2

// logs sends records as fast as the gateway takes them, for ever.
func (p *peer) logs() {
	p.stream(logStream, 0x81)
	record := `{"time":"2026-01-02T03:04:05Z","level":"INFO","message":"` + strings.Repeat("more ", 40) + `"}`
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(record))), record...)
	block := bytes.Repeat(frame, 64)
	for left := 256<<10 - 4; ; left -= len(block) {
		for left < len(block) {
			left += <-p.leave
		}
		if !p.send(logStream, 0, block) {
			return
		}
	}
}

// hoard opens as many streams as it may, makes a call on each, sends as much as the window has room for, and closes none.
func (p *peer) hoard() {
	p.hoards = true
	head := `{"op":"egress"}`
	call := append([]byte{0x82, 0, 0, 0, 0, 0, 0, byte(len(head))}, head...)
	call = append(call, "POST http://h.test/ HTTP/1.1\r\nHost: h.test\r\nContent-Length: 1000000\r\n\r\n"...)
	for i := range uint32(32) {
		p.send(2*i+2, flagSYN, append(call, make([]byte, 250<<10)...))
	}
}

// deafAfterReady says READY once it has seen the control stream, and then reads no more.
func (p *peer) deafAfterReady() {
	io.ReadFull(p.wire, make([]byte, 12))
	p.frame(typeWindow, flagACK, 1, 0)
	p.control(1, "{}")
}

// pump reads frames: it gives leave to send on, calls begin once the control stream is there, and answer, unless
// nil, for each request.
func (p *peer) pump(answer func(*peer, *stream), begin func()) {
	var head [12]byte
	for {
		if _, err := io.ReadFull(p.wire, head[:]); err != nil {
			block()
		}
		kind, flags := head[1], binary.BigEndian.Uint16(head[2:])
		id, length := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
		var data []byte
		if kind == typeData {
			data = make([]byte, length)
			if _, err := io.ReadFull(p.wire, data); err != nil {
				block()
			}
		}
		if id == logStream && kind == typeWindow {
			p.leave <- int(length)
		}
		if id == 0 || id == logStream || kind > typeWindow || p.hoards && id%2 == 0 {
			continue
		}
		s := p.streams[id]
		if s == nil {
			s = &stream{id: id}
			p.streams[id] = s
		}
		if flags&flagSYN != 0 {
			p.frame(typeWindow, flagACK, id, 0)
		}
		if len(data) > 0 {
			if !p.stingy {
				p.frame(typeWindow, 0, id, uint32(len(data)))
			}
			p.take(s, data, answer, begin)
		}
		if flags&(flagFIN|flagRST) != 0 {
			delete(p.streams, id)
			if !s.ended {
				p.frame(typeWindow, flagFIN, id, 0)
			}
		}
	}
}

// take collects what came on a stream; without answer it drops the requests.
func (p *peer) take(s *stream, data []byte, answer func(*peer, *stream), begin func()) {
	s.got = append(s.got, data...)
	if s.kind == 0 {
		if len(s.got) < 4 {
			return
		}
		s.kind, s.got = s.got[0], s.got[4:]
		if s.kind == 1 {
			begin()
		}
	}
	if s.kind != 2 || answer == nil { // nothing of it will be used: a large body must not fill the peer's memory
		s.got = nil
		return
	}
	if i := bytes.Index(s.got, []byte("\r\n\r\n")); i >= 0 && len(s.got)-i-4 >= contentLength(s.got[:i]) {
		s.got = nil
		answer(p, s)
	}
}

func contentLength(head []byte) (n int) {
	for line := range bytes.Lines(head) {
		fmt.Sscanf(string(line), "Content-Length: %d", &n)
	}
	return n
}
