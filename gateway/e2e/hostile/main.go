// Command hostile is an app that breaks the rules of the wire, on purpose and by
// hand: it is built without the SDK. Which rule is said by the name of the object
// that it runs for.
package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"
)

// modes are the ways to misbehave, by object. Each runs with the handshake still to be answered.
var modes = map[string]func(*peer){
	"good": answering(nil, hello),

	// in the handshake
	"silent":      func(p *peer) { block() },
	"garbage":     func(p *peer) { p.wire.WriteString(strings.Repeat("GET / HTTP/1.1\r\n", 64)); block() },
	"half":        func(p *peer) { p.wire.WriteString("FGW"); p.wire.Close(); block() },
	"no-version":  func(p *peer) { p.wire.WriteString("FGW\x02\x00\x00\x00\x0bnot so fast"); block() },
	"version-9":   func(p *peer) { p.wire.WriteString("FGW\x02\x00\x09\x00\x00"); block() },
	"long-no":     func(p *peer) { p.wire.WriteString("FGW\x02\x00\x00\xff\xff" + strings.Repeat("n", 65535)); block() },
	"exit":        func(p *peer) { os.Exit(3) },
	"close":       func(p *peer) { p.wire.Close(); block() },
	"print-exit":  func(p *peer) { os.Stdout.WriteString("license expired\n"); os.Exit(1) },
	"exit-inside": func(p *peer) { p.greet(); os.Exit(4) },

	// on the multiplexed wire
	"garbage-mux": func(p *peer) { p.greet(); p.wire.WriteString(strings.Repeat("\xff", 4096)); block() },
	"odd-stream":  after(func(p *peer) { p.frame(typeWindow, flagSYN, 7, 0) }),
	"syn-flood":   after(func(p *peer) { p.open(1000) }),
	"ping-flood":  after(func(p *peer) { p.pings(10_000) }),
	"big-frame":   after(func(p *peer) { p.frame(typeData, 0, 1, 1<<24) }),
	"close-later": after(func(p *peer) { p.wire.Close() }),
	"go-away":     func(p *peer) { p.greet(); p.pump(hello, func() { p.frame(typeGoAway, 0, 0, 0); p.control(1, "{}") }) },

	// on the control stream
	"first-junk":    func(p *peer) { p.greet(); p.pump(nil, func() { p.control(77, "{}") }) },
	"control-junk":  after(func(p *peer) { p.control(77, "{}") }),
	"control-huge":  after(func(p *peer) { p.send(1, 0, []byte{1, 0xff, 0xff, 0xff}) }),
	"control-close": after(func(p *peer) { p.frame(typeWindow, flagFIN, 1, 0) }),
	"failed-lie":    func(p *peer) { p.greet(); p.pump(nil, func() { p.control(2, `{"message":`) }) },

	// on streams of its own
	"two-logs":  after(func(p *peer) { p.stream(2, 0x81); p.stream(4, 0x81) }),
	"call":      after(func(p *peer) { p.stream(2, 0x82) }),
	"bad-kind":  after(func(p *peer) { p.stream(2, 0x41) }),
	"log-junk":  after(func(p *peer) { p.stream(2, 0x81); p.send(2, 0, []byte("\x00\x00\x00\x04nope")) }),
	"log-huge":  after(func(p *peer) { p.stream(2, 0x81); p.send(2, 0, []byte("\xff\xff\xff\xff")) }),
	"hoard":     after(func(p *peer) { p.hoard() }),
	"log-flood": answering(func(p *peer) { go p.logs() }, hello),

	// in answers
	"endless-head": answering(nil, func(p *peer, s *stream) {
		p.endless(s, "HTTP/1.1 200 OK\r\n", "X-More: and more and more and more\r\n")
	}),
	"endless-line": answering(nil, func(p *peer, s *stream) { p.endless(s, "HTTP/1.1 200 O", "KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK") }),
	"informal":     answering(nil, func(p *peer, s *stream) { p.endless(s, "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") }),
	"no-http":      answering(nil, func(p *peer, s *stream) { p.send(s.id, 0, []byte("220 mail.example.org ESMTP\r\n\r\n")) }),
	"status-099":   answering(nil, func(p *peer, s *stream) { p.send(s.id, 0, []byte("HTTP/1.1 099 Low\r\n\r\n")) }),
	"wrong-switch": answering(nil, func(p *peer, s *stream) {
		p.send(s.id, 0, []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chess\r\n\r\n"))
	}),
	"split-answer": answering(nil, func(p *peer, s *stream) { p.send(s.id, 0, []byte(split)) }),
	"cut": answering(nil, func(p *peer, s *stream) {
		s.ended = true // to end it twice breaks the wire, which is not what this is about
		p.send(s.id, flagFIN, []byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"))
	}),
	"reset":         answering(nil, func(p *peer, s *stream) { p.frame(typeWindow, flagRST, s.id, 0) }),
	"unasked":       answering(nil, func(p *peer, s *stream) { hello(p, s); p.flood(s) }),
	"mute":          answering(nil, nil),
	"never-reads":   func(p *peer) { p.greet(); p.deafAfterReady() },
	"never-credits": answering(func(p *peer) { p.stingy = true }, hello),
	"exit-answering": answering(nil, func(p *peer, s *stream) {
		p.send(s.id, 0, []byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
		os.Exit(5)
	}),

	// on the SQL channel
	"sql-garbage": after(func(p *peer) { p.sql.WriteString("SELECT 1") }),
	"sql-long":    after(func(p *peer) { p.sql.Write(make([]byte, 65_537)) }),
	"sql-close":   after(func(p *peer) { p.sql.Close() }),
	"sql-flood":   answering(func(p *peer) { go p.sqlFlood() }, hello),

	// with the machine
	"forks":   answering(nil, use(forks)),
	"memory":  answering(nil, use(memory)),
	"threads": answering(nil, use(threads)),
	"stack":   answering(nil, use(func(*peer) string { return deep(0) })),
	"fault":   answering(nil, use(fault)),
	"spin":    answering(nil, func(p *peer, s *stream) { spin() }),
	"trip":    answering(nil, use(trip)),
	"print":   answering(nil, use(printOut)),
	"babble":  answering(func(*peer) { go babble() }, hello),
	"signal":  answering(nil, use(signalOthers)),
}

const split = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"

// edition is set by the linker: what this bundle does before it is told who it is.
var edition string

var early = map[string]func(){
	"early-exit": func() { os.Exit(4) },
	"early-spin": func() {
		for {
		}
	},
	"early-grow": func() {
		b := make([]byte, 64<<20)
		for i := range b {
			b[i] = 1
		}
		block()
	},
}

func main() {
	p := &peer{wire: os.NewFile(3, "wire"), sql: os.NewFile(4, "sql"), streams: map[uint32]*stream{}, leave: make(chan int, 64)}
	if edition == "early-print" {
		os.Stdout.WriteString("hello from nobody\n")
	}
	named := make(chan string)
	go func() { named <- p.object() }()
	var object string
	select {
	case object = <-named:
	case <-time.After(300 * time.Millisecond): // it is kept ready
		if do := early[edition]; do != nil {
			do()
		}
		object = <-named
	}
	object, _, _ = strings.Cut(object, ".") // what follows tells objects apart
	mode := modes[object]
	if mode == nil {
		os.Stdout.WriteString("no such mode\n")
		os.Exit(2)
	}
	mode(p)
	block()
}

// object reads the start message and gives the name of the object.
func (p *peer) object() string {
	var head [12]byte
	if _, err := io.ReadFull(p.wire, head[:]); err != nil {
		os.Exit(9)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[8:]))
	if _, err := io.ReadFull(p.wire, body); err != nil {
		os.Exit(9)
	}
	var start struct{ Object string }
	if json.Unmarshal(body, &start) != nil {
		os.Exit(9)
	}
	return start.Object
}

// after is a peer that says READY, answers requests, and, once the first one has been answered, does what.
func after(what func(*peer)) func(*peer) {
	done := false
	return answering(nil, func(p *peer, s *stream) {
		hello(p, s)
		if !done {
			done = true
			what(p)
		}
	})
}

// answering is a peer that says READY, does then, and answers each request with answer.
func answering(then func(*peer), answer func(*peer, *stream)) func(*peer) {
	return func(p *peer) {
		p.greet()
		p.pump(answer, func() {
			p.control(1, "{}")
			if then != nil {
				then(p)
			}
		})
	}
}

// use answers each request with what was made of the machine.
func use(do func(*peer) string) func(*peer, *stream) {
	return func(p *peer, s *stream) { p.reply(s, do(p)) }
}

// block waits for ever, where select would be told by the runtime that nobody is left.
func block() {
	for {
		time.Sleep(time.Hour)
	}
}

func hello(p *peer, s *stream) { p.reply(s, "hello") }
