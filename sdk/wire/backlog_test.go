package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A peer that reads nothing is given up; nobody waits for that but who looks.
func TestPeerThatReadsNothing(t *testing.T) {
	for name, direct := range map[string]bool{"a socket": true, "a connection that can't say that it would wait": false} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			if direct {
				ours, theirs = ends(t, "unix")
			}
			defer theirs.Close()
			c := NewConn(ours, nil, nil)
			c.Stall = 20 * time.Millisecond
			for range 64 { // more than a socket holds
				if n, err := c.Write(make([]byte, 16<<10)); errors.Is(err, ErrBreach) {
					break // this test was held up for as long
				} else if n != 16<<10 || err != nil {
					t.Fatal(n, err)
				}
			}
			if behind := c.Behind(); behind != nil {
				<-behind
			}
			if b := c.Breach(); !errors.Is(b, ErrBreach) {
				t.Errorf("breach: %v", b)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, ErrBreach) {
				t.Errorf("written afterwards: %v", err)
			}
			if c.Behind() != nil {
				t.Error("it is waited for still")
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("the socket is open still")
			}
			c.Close()
		})
	}
}

// What waits comes in order, once the peer reads; and no more than so much waits.
func TestBacklog(t *testing.T) {
	ours, theirs := ends(t, "unix")
	c := NewConn(ours, nil, nil)
	c.Stall = 10 * time.Second
	want := make([]byte, 2*maxBehind)
	for i := range want {
		want[i] = byte(i / 1000)
	}
	sent := make(chan error, 1)
	go func() {
		for p := want; len(p) > 0; p = p[min(len(p), 10_000):] {
			if _, err := c.Write(p[:min(len(p), 10_000)]); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	most := 0
	deadline := time.Now().Add(10 * time.Second)
	for full := false; !full && time.Now().Before(deadline); {
		c.mu.Lock()
		most = len(c.behind)
		full = most+10_000 > maxBehind
		c.mu.Unlock()
	}
	if most > maxBehind || most < maxBehind-10_000 {
		t.Errorf("%d bytes wait, and %d may", most, maxBehind)
	}
	select {
	case err := <-sent:
		t.Fatalf("all was taken: %v", err)
	default:
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes came: %v", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if behind := c.Behind(); behind != nil {
		<-behind
	}
	// The deadline of a stall is none of those who write later.
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// Closing ends what waits.
func TestClosedBacklog(t *testing.T) {
	ours, _ := ends(t, "unix")
	c := NewConn(ours, nil, nil)
	c.Stall = time.Minute
	for range 64 {
		if _, err := c.Write(make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
	behind := c.Behind()
	if behind == nil {
		t.Fatal("nothing waits")
	}
	c.Close()
	select {
	case <-behind:
	default:
		t.Error("it is written still")
	}
}
