package sqlchan

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

func sockets(t *testing.T) (a, b *Socket) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	open := func(fd int) *Socket {
		s, err := NewSocket(os.NewFile(uintptr(fd), "end"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	return open(fds[0]), open(fds[1])
}

// next waits for a packet.
func next(s *Socket, buf []byte) (n int, err error) {
	if werr := s.Wait(func(uintptr) bool {
		n, err = s.Read(buf)
		return err != syscall.EAGAIN
	}); werr != nil {
		return 0, werr
	}
	return n, err
}

// TestSocketEcho passes packets to and fro: none is lost, though each end waits anew before each, and reads past what it was woken for.
func TestSocketEcho(t *testing.T) {
	a, b := sockets(t)
	go func() {
		buf := make([]byte, 100)
		for {
			n, err := next(b, buf)
			if err != nil || n == 0 {
				return
			}
			for range 2 {
				if b.Write(buf[:n]) != nil {
					return
				}
			}
		}
	}()
	buf := make([]byte, 100)
	for i := range 5000 {
		p := bytes.Repeat([]byte{byte(i)}, i%100+1)
		if err := a.Write(p); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			n, err := next(a, buf)
			if err != nil || !bytes.Equal(buf[:n], p) {
				t.Fatalf("packet %d: % x, %v", i, buf[:n], err)
			}
		}
	}
}

// TestSocketIsNotPolledForRoom: waking the sender of each packet that its peer takes is what the socket is kept out of the runtime's poller for.
func TestSocketIsNotPolledForRoom(t *testing.T) {
	a, _ := sockets(t)
	if err := a.file.SetDeadline(time.Time{}); !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("the poller has the socket: %v", err)
	}
}

func TestSocketEnds(t *testing.T) {
	a, b := sockets(t)
	waits := func(s *Socket) <-chan error {
		done, waiting := make(chan error, 1), make(chan struct{}, 100)
		go func() {
			done <- s.Wait(func(uintptr) bool {
				_, err := s.Read(make([]byte, 1))
				waiting <- struct{}{}
				return err != syscall.EAGAIN
			})
		}()
		<-waiting
		return done
	}
	woken := waits(a)
	a.Wake()
	if err := <-woken; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("woken with %v", err)
	}
	closed := waits(b)
	b.Close()
	if err := <-closed; err == nil {
		t.Error("what waits is not told that the socket is closed")
	}
	if _, err := a.Read(make([]byte, 1)); err != nil { // 0 bytes: the end
		t.Errorf("the other end: %v", err)
	}
	if err := b.Control(func(uintptr) {}); err == nil {
		t.Error("a closed socket can be used")
	}
}

func TestSocketWaitsForRoom(t *testing.T) {
	a, b := sockets(t)
	p := make([]byte, 30_000)
	sent := 0
	for ; a.Write(p) == nil; sent++ {
	}
	room, err := a.Room()
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	raw, err := room.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- raw.Write(func(fd uintptr) bool { return WritePacket(fd, p) != syscall.EAGAIN })
	}()
	for range sent + 1 {
		if n, err := next(b, make([]byte, MaxPacket)); n != len(p) || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
