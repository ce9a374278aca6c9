package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/yamux"
)

// fakeConn gives bytes to read and keeps the writes.
type fakeConn struct {
	net.Conn
	io.Reader
	writes [][]byte
	err    error
}

func (c *fakeConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }
func (c *fakeConn) Write(p []byte) (int, error) {
	c.writes = append(c.writes, bytes.Clone(p))
	return len(p), c.err
}

// frame makes a yamux header, followed by body.
func frame(kind byte, flags uint16, id, length uint32, body string) []byte {
	return append([]byte{0, kind, byte(flags >> 8), byte(flags), byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id),
		byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}, body...)
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// readers cut what they read into pieces of different sizes.
var readers = map[string]func(io.Reader) io.Reader{
	"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
}

func TestConnSeesWhatThePeerCloses(t *testing.T) {
	in := join(
		frame(typeWindow, flagSYN, 1, 0, ""), frame(typeData, 0, 1, 5, "\x00\x01\x00\x04x"), frame(typeWindow, flagFIN, 1, 0, ""),
		frame(typePing, flagSYN, 0, 7, ""), frame(typeData, flagFIN, 3, 3, "abc"), frame(typeWindow, flagRST, 5, 0, ""), frame(typeGoAway, 0, 0, flagFIN, ""))
	for name, cut := range readers {
		var closed []uint32
		c := NewConn(&fakeConn{Reader: cut(bytes.NewReader(in))}, nil, func(id uint32) { closed = append(closed, id) })
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, in) {
			t.Errorf("%s: %q %v", name, got, err)
		}
		if fmt.Sprint(closed) != "[1 3 5]" {
			t.Errorf("%s: closed %v", name, closed)
		}
		c = NewConn(&fakeConn{Reader: cut(bytes.NewReader(in))}, nil, nil)
		if got, err := io.ReadAll(iotest.OneByteReader(c)); err != nil || !bytes.Equal(got, in) {
			t.Errorf("%s, byte by byte: %q %v", name, got, err)
		}
	}
}

func TestConnPolicesThePeer(t *testing.T) {
	open := func(n int) (all []byte) {
		for i := range n {
			all = append(all, frame(typeWindow, flagSYN, uint32(2*i+2), 0, "")...)
		}
		return all
	}
	for name, c := range map[string]struct {
		in []byte
		ok bool
	}{
		"as many streams as it may":      {open(4), true},
		"one more":                       {open(5), false},
		"one more after one was closed":  {join(open(4), frame(typeWindow, flagFIN, 2, 0, ""), frame(typeWindow, flagSYN, 100, 0, "")), true},
		"one more after one was reset":   {join(open(4), frame(typeWindow, flagRST, 8, 0, ""), frame(typeWindow, flagSYN, 100, 0, "")), true},
		"a stream of ours":               {frame(typeWindow, flagSYN, 3, 0, ""), false},
		"stream 0":                       {frame(typeWindow, flagSYN, 0, 0, ""), false},
		"another version":                {append([]byte{1}, frame(typeData, 0, 2, 0, "")[1:]...), false},
		"an unknown type":                {frame(4, 0, 2, 0, ""), false},
		"a full window":                  {frame(typeData, 0, 1, Window, ""), true},
		"more than the window":           {frame(typeData, 0, 1, Window+1, ""), false},
		"as many pings as it may":        {bytes.Repeat(frame(typePing, flagSYN, 0, 1, ""), maxPings), true},
		"too many pings":                 {bytes.Repeat(frame(typePing, flagSYN, 0, 1, ""), maxPings+1), false},
		"data that looks like a header":  {frame(typeData, 0, 1, 12, string(frame(9, 0xff, 2, 3, ""))), true},
		"opened and closed in one frame": {bytes.Repeat(frame(typeWindow, flagSYN|flagFIN, 2, 0, ""), 50), true},
	} {
		for how, cut := range readers {
			conn := NewConn(&fakeConn{Reader: cut(bytes.NewReader(c.in))}, &Bounds{MaxOpen: 4}, nil)
			_, err := io.ReadAll(conn)
			if ok := err == nil; ok != c.ok || !ok && !errors.Is(err, ErrBreach) || !errors.Is(err, conn.Breach()) {
				t.Errorf("%s, %s: %v, breach %v", name, how, err, conn.Breach())
			}
		}
	}
}

func TestConnJoinsHeaderAndBody(t *testing.T) {
	f := &fakeConn{}
	c := NewConn(f, nil, nil)
	write := func(b []byte) {
		t.Helper()
		if n, err := c.Write(b); n != len(b) || err != nil {
			t.Fatalf("wrote %d of %d, %v", n, len(b), err)
		}
	}
	big := bytes.Repeat([]byte("x"), maxJoined+1)
	write(frame(typeData, 0, 1, 12, ""))
	write([]byte("twelve bytes"))
	write(frame(typeWindow, flagFIN, 1, 0, "")) // has no body
	write(frame(typeData, flagFIN, 1, 0, ""))   // nor has this
	write(frame(typeData, 0, 1, uint32(len(big)), ""))
	write(big)
	want := [][]byte{frame(typeData, 0, 1, 12, "twelve bytes"), frame(typeWindow, flagFIN, 1, 0, ""), frame(typeData, flagFIN, 1, 0, ""),
		frame(typeData, 0, 1, uint32(len(big)), ""), big}
	if len(f.writes) != len(want) {
		t.Fatalf("%d writes, wanted %d", len(f.writes), len(want))
	}
	for i := range want {
		if !bytes.Equal(f.writes[i], want[i]) {
			t.Errorf("write %d is %.60q, wanted %.60q", i, f.writes[i], want[i])
		}
	}
	f.err = io.ErrClosedPipe
	c.Write(frame(typeData, 0, 1, 3, ""))
	if _, err := c.Write([]byte("abc")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

// Whatever bytes come, the watcher passes on the same ones, or says what is wrong with them.
func FuzzConn(f *testing.F) {
	f.Add(join(frame(typeWindow, flagSYN, 2, 0, ""), frame(typeData, 0, 2, 3, "abc")))
	f.Fuzz(func(t *testing.T, in []byte) {
		var results []string
		for _, cut := range readers {
			closed := 0
			b := &Bounds{MaxOpen: 2}
			c := NewConn(&fakeConn{Reader: cut(bytes.NewReader(in))}, b, func(uint32) { closed++ })
			got, err := io.ReadAll(c)
			if err == nil && !bytes.Equal(got, in) {
				t.Fatal("bytes were changed")
			}
			if len(b.open) > b.MaxOpen+1 {
				t.Fatalf("%d streams are counted", len(b.open))
			}
			results = append(results, fmt.Sprint(err, closed))
		}
		for _, r := range results {
			if r != results[0] {
				t.Fatalf("it depends on how the bytes are cut: %v", results)
			}
		}
	})
}

// Two ends with the wrapper between them carry streams of any size.
func TestYamuxOverConn(t *testing.T) {
	a, b := net.Pipe()
	closed := make(chan uint32, 10)
	server, err := yamux.Server(NewConn(a, nil, func(id uint32) { closed <- id }), Config(8, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := yamux.Client(NewConn(b, &Bounds{MaxOpen: 1}, nil), Config(8, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		for {
			s, err := server.AcceptStream()
			if err != nil {
				return
			}
			go func() { io.Copy(s, s); s.Close() }()
		}
	}()
	for _, size := range []int{1, 4096, maxJoined, maxJoined + 1, 3 * Window} {
		s, err := client.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		body := bytes.Repeat([]byte{byte(size)}, size)
		go func() { s.Write(body); s.Close() }()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
		if id := <-closed; id != s.StreamID() {
			t.Errorf("closed %d, wanted %d", id, s.StreamID())
		}
	}
}
