package wire

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
)

// counted is a budget of so many streams.
func counted(most int) (b *Bounds, taken *int) {
	taken = new(int)
	return &Bounds{MaxOpen: 100, Take: func() bool {
		if *taken == most {
			return false
		}
		*taken++
		return true
	}, Give: func() { *taken-- }}, taken
}

func TestStreamsTakeRoom(t *testing.T) {
	syn := func(id uint32) []byte { return frame(typeWindow, flagSYN, id, 0, "") }
	fin := func(id uint32) []byte { return frame(typeWindow, flagFIN, id, 0, "") }
	rst := func(id uint32) []byte { return frame(typeWindow, flagRST, id, 0, "") }
	data := func(id uint32, n int) []byte { return frame(typeData, 0, id, uint32(n), strings.Repeat("d", n)) }
	gone := func(n int) []byte { return frame(typeData, 0, 0, uint32(n), strings.Repeat("d", n)) }
	for _, test := range []struct {
		name     string
		in, sent [][]byte // from the peer, then by us, then from the peer
		then     [][]byte
		taken    int
		want     [][]byte // of what the peer sent, where it is changed
	}{
		{"open", [][]byte{syn(2), syn(4), syn(2)}, nil, nil, 2, nil},
		{"the gateway's own take none", [][]byte{data(1, 5), fin(1), data(3, 5)}, nil, nil, 0, nil},
		{"closed by the peer alone", [][]byte{syn(2), fin(2)}, nil, nil, 1, nil},
		{"closed by us alone", [][]byte{syn(2)}, [][]byte{fin(2)}, [][]byte{data(2, 5)}, 1, nil},
		{"ours", nil, [][]byte{syn(1), fin(1)}, [][]byte{data(1, 5)}, 0, nil}, // it may be read on
		{"ours, closed by both", nil, [][]byte{syn(1), fin(1)}, [][]byte{fin(1), data(1, 5)}, 0, nil},
		{"closed by both", [][]byte{syn(2), fin(2), syn(4)}, [][]byte{fin(2)}, nil, 1, nil},
		{"closed by both, us first", [][]byte{syn(2), syn(4)}, [][]byte{fin(2)}, [][]byte{fin(2)}, 1, nil},
		{"reset by the peer", [][]byte{syn(2), rst(2), rst(2)}, nil, nil, 0, nil},
		{"reset by us", [][]byte{syn(2)}, [][]byte{rst(2)}, [][]byte{fin(2), rst(2)}, 0, nil},
		{"a stream that never was", [][]byte{fin(8), rst(10)}, [][]byte{fin(6)}, nil, 0, nil},
		{"too many", [][]byte{syn(2), syn(4), syn(6), data(6, 100), data(4, refusedBytes+1), data(6, refusedBytes), data(2, 7), data(6, 1), fin(6)}, nil, nil, 2,
			[][]byte{syn(2), syn(4), syn(6), data(6, 100), data(4, refusedBytes+1), gone(refusedBytes), data(2, 7), gone(1), fin(6)}},
		{"too many, with data at once", [][]byte{syn(2), syn(4), frame(typeData, flagSYN, 6, 8<<10, strings.Repeat("d", 8<<10))}, nil, nil, 2,
			[][]byte{syn(2), syn(4), gone(8 << 10)}},
		{"a refused one gives nothing back", [][]byte{syn(2), syn(4), syn(6), fin(6)}, [][]byte{fin(6)}, [][]byte{syn(8)}, 2, nil},
		{"room again", [][]byte{syn(2), syn(4), fin(4)}, [][]byte{fin(4)}, [][]byte{syn(6), data(6, 8<<10)}, 2, nil},
	} {
		for how, cut := range readers {
			b, taken := counted(2)
			first, rest := bytes.NewReader(join(test.in...)), bytes.NewReader(join(test.then...))
			c := NewConn(&fakeConn{Reader: cut(first)}, b, nil)
			got, err := io.ReadAll(c)
			for _, f := range test.sent {
				c.Write(f)
			}
			c.Conn = &fakeConn{Reader: cut(rest)}
			more, err2 := io.ReadAll(c)
			want := join(test.want...)
			if test.want == nil {
				want = join(append(test.in, test.then...)...)
			}
			if got = append(got, more...); err != nil || err2 != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: passed on %.300q, want %.300q; %v, %v", test.name, how, got, want, err, err2)
			}
			if *taken != test.taken {
				t.Errorf("%s, %s: %d take room, want %d", test.name, how, *taken, test.taken)
			}
			b.End()
			if b.enter(100); *taken != 0 || b.quiet.Load() != 0 || len(b.rooms) > 0 {
				t.Errorf("%s, %s: %d take room in the end", test.name, how, *taken)
			}
		}
	}
}

func TestForgotten(t *testing.T) {
	b, taken := counted(1)
	c := NewConn(&fakeConn{Reader: bytes.NewReader(frame(typeWindow, flagSYN, 2, 0, ""))}, b, nil)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	c.Write(frame(typeWindow, flagSYN, 1, 0, ""))
	c.Write(frame(typeWindow, flagSYN, 3, 0, ""))
	for _, id := range []uint32{1, 1, 2, 5} { // the last never was
		c.Forget(id)
	}
	in := func(id uint32) []byte { return frame(typeData, 0, id, 5, "12345") }
	c.Conn = &fakeConn{Reader: bytes.NewReader(join(in(1), in(2), in(3), in(5)))}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, join(in(0), in(0), in(3), in(5))) {
		t.Errorf("passed on %q, %v", got, err)
	}
	c.Write(frame(typeWindow, flagFIN, 1, 0, ""))
	c.Conn = &fakeConn{Reader: bytes.NewReader(join(frame(typeWindow, flagFIN, 1, 0, ""), frame(typeWindow, flagRST, 2, 0, ""), in(3)))}
	if _, err := io.ReadAll(c); err != nil || b.quiet.Load() != 0 || len(b.rooms) != 1 || *taken != 0 {
		t.Errorf("%d quiet streams of %d, %d take room; %v", b.quiet.Load(), len(b.rooms), *taken, err)
	}
}

func TestAdmitted(t *testing.T) {
	b, taken := counted(0)
	c := NewConn(&fakeConn{Reader: bytes.NewReader(join(frame(typeWindow, flagSYN, 2, 0, ""), frame(typeWindow, flagSYN, 4, 0, ""),
		frame(typeData, 0, 2, 3, "abc"), frame(typeData, 0, 4, refusedBytes+1, strings.Repeat("x", refusedBytes+1))))}, b, nil)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	if !b.Admit(2) || b.Admit(2) || b.Refused(2) || b.Admit(4) || b.Admit(6) {
		t.Error("the wrong one is admitted")
	}
	in := join(frame(typeData, 0, 2, refusedBytes+1, strings.Repeat("x", refusedBytes+1)), frame(typeWindow, flagRST, 2, 0, ""))
	c.Conn = &fakeConn{Reader: bytes.NewReader(in)}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, in) {
		t.Errorf("passed on %.60q, %v", got, err)
	}
	if b.End(); *taken != 0 || b.quiet.Load() != 0 {
		t.Errorf("%d take room", *taken)
	}
}

// TestRefusedStream: yamux at both ends. What comes on a stream without room is thrown away but for its beginning, and its
// neighbours miss nothing.
func TestRefusedStream(t *testing.T) {
	a, b := net.Pipe()
	bounds, taken := counted(1)
	ours, err := yamux.Client(NewConn(a, bounds, nil), Config(8, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := yamux.Server(NewConn(b, nil, nil), Config(8, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	open := func() (far, near *yamux.Stream) {
		t.Helper()
		far, err := theirs.OpenStream()
		if err == nil {
			near, err = ours.AcceptStream()
		}
		if err != nil {
			t.Fatal(err)
		}
		return far, near
	}
	far, near := open()
	farRefused, nearRefused := open()
	if bounds.Refused(near.StreamID()) || !bounds.Refused(nearRefused.StreamID()) {
		t.Fatal("the wrong one is refused")
	}
	whole := strings.Repeat("whole", 40_000)
	go func() {
		fmt.Fprint(farRefused, "beginning")
		farRefused.Write(make([]byte, 200<<10))
		fmt.Fprint(far, whole)
		far.Close()
		farRefused.Close()
	}()
	if got, err := io.ReadAll(near); string(got) != whole || err != nil {
		t.Errorf("the stream with room got %d bytes, %v", len(got), err)
	}
	if got, err := io.ReadAll(nearRefused); string(got) != "beginning" || err != nil {
		t.Errorf("the one without got %d bytes, %v", len(got), err)
	}
	fmt.Fprint(nearRefused, "no room")
	nearRefused.Close()
	near.Close()
	if got, err := io.ReadAll(farRefused); string(got) != "no room" || err != nil {
		t.Errorf("the refusal: %q, %v", got, err)
	}
	for len(ours.CloseChan()) == 0 && ours.NumStreams() > 0 { // until both are closed on both sides
		time.Sleep(time.Millisecond)
	}
	bounds.mu.Lock()
	defer bounds.mu.Unlock()
	if *taken != 0 || len(bounds.rooms) > 0 {
		t.Errorf("%d take room", *taken)
	}
}
