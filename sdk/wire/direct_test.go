package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ends gives a direct connection and its peer, of each kind that the gateway has.
func ends(t *testing.T, network string) (net.Conn, net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c = Direct(c)
	if _, ok := c.(*direct); !ok {
		t.Fatalf("a %s connection is a %T", network, c)
	}
	t.Cleanup(func() { c.Close(); peer.Close() })
	return c, peer
}

func TestDirect(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			c, peer := ends(t, network)
			big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than a socket holds, and than one call takes
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write(big)
				sent <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
			}()
			got, err := io.ReadAll(peer)
			if err := errors.Join(err, <-sent); err != nil || !bytes.Equal(got, big) {
				t.Errorf("%d bytes of %d came: %v", len(got), len(big), err)
			}
			go peer.Write([]byte("hello"))
			var b [16]byte
			if n, err := c.Read(b[:]); err != nil || string(b[:n]) != "hello" {
				t.Errorf("%q %v", b[:n], err)
			}
			if n, err := c.Read(nil); n != 0 || err != nil {
				t.Errorf("reading nothing: %d %v", n, err)
			}
			c.SetReadDeadline(time.Now())
			if _, err := c.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("past its deadline: %v", err)
			}
			c.SetReadDeadline(time.Time{})
			peer.Close()
			if n, err := c.Read(b[:]); n != 0 || err != io.EOF {
				t.Errorf("at the end: %d %v", n, err)
			}
			for err = nil; err == nil; _, err = c.Write(b[:]) {
			}
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("to a peer that is gone: %v", err)
			}
		})
	}
}

// Closing ends a read and a write that wait.
func TestDirectClose(t *testing.T) {
	c, _ := ends(t, "unix")
	errs := make(chan error, 2)
	go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := c.Write(make([]byte, 8<<20)); errs <- err }()
	c.SetDeadline(time.Now().Add(time.Millisecond))
	for range 2 {
		if err := <-errs; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
	c.SetDeadline(time.Time{})
	go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
	c.Close()
	if err := <-errs; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestDirectAllocates(t *testing.T) {
	c, peer := ends(t, "unix")
	p, q := []byte("x"), make([]byte, 8)
	if n := testing.AllocsPerRun(100, func() { peer.Write(p); c.Read(q); c.Write(p); peer.Read(q) }); n > 0 {
		t.Errorf("%v allocations a round trip", n)
	}
}

func TestDirectOfNoSocket(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	if Direct(a) != a {
		t.Error("a pipe of this process was wrapped")
	}
}
