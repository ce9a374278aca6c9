package sandboxd

import (
	"net"
	"os"
	"testing"

	"github.com/facetgateway/fgw/sandboxd/launcher"
	"golang.org/x/sys/unix"
)

// TestLauncherGoneWhileAsked: the launcher goes while requests to it wait to be written. Whoever notices it first,
// the reader or a writer, what a facet held is given back once.
func TestLauncherGoneWhileAsked(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	n := int(null.Fd())
	for range 10 {
		ours, theirs, err := seqpacket()
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFacets(ours)
		if err != nil {
			t.Fatal(err)
		}
		f.uids = newUIDPool(1000)
		all := len(f.uids.free)
		fillUp(t, f.conn)
		const starts = 64 // some of them look at what became of their request after the reader has dealt with all
		failed := make(chan error, starts)
		for range starts {
			go func() {
				_, err := f.start(1, small, place{}, facetFiles{n, n, n, n})
				failed <- err
			}()
		}
		eventually(t, "every request is made", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.asked) == starts
		})
		theirs.Close()
		for range starts {
			if err := <-failed; err == nil {
				t.Fatal("a facet started without a launcher")
			}
		}
		f.wait()
		if left := len(f.uids.free); left != all {
			t.Fatalf("%d user ids are free, there are %d", left, all)
		}
	}
}

// fillUp leaves no room for a further request.
func fillUp(t *testing.T, c *net.UnixConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Write(func(fd uintptr) bool {
		for err == nil {
			err = unix.Sendmsg(int(fd), make([]byte, launcher.RequestBytes), nil, nil, unix.MSG_DONTWAIT)
		}
		return true
	})
	if err != unix.EAGAIN {
		t.Fatalf("fill the socket: %v", err)
	}
}
