package facet

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire"
)

// wirePair is a facet's wire: the gateway's end, and the facet's. Both are closed when the test ends.
func wirePair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, theirs
}

// A start message that is larger than the socket comes whole, before what follows it.
func TestStartMessageLargerThanTheSocket(t *testing.T) {
	conn, theirs := wirePair(t)
	hello := bytes.Repeat([]byte("hello"), 200_000)
	s := &socket{Conn: wire.Direct(conn), hello: hello}
	if n, err := s.TryWrite([]byte("first")); n != 0 || err != nil || len(s.hello) == 0 {
		t.Fatal(n, err, len(s.hello))
	}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(theirs)
		got <- b
	}()
	if n, err := s.Write([]byte("first")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := s.TryWrite([]byte("then")); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	conn.Close()
	if b := <-got; !bytes.Equal(b, append(hello, "firstthen"...)) {
		t.Errorf("%d bytes came, wanted %d", len(b), len(hello)+9)
	}
}

func TestStartMessageGoesWithTheFirstFrame(t *testing.T) {
	conn, theirs := wirePair(t)
	s := &socket{Conn: wire.Direct(conn), hello: []byte("hello")}
	if n, err := s.TryWrite([]byte("first")); n != 5 || err != nil || s.hello != nil {
		t.Fatal(n, err, s.hello)
	}
	b := make([]byte, 64)
	if n, err := theirs.Read(b); err != nil || string(b[:n]) != "hellofirst" {
		t.Errorf("%q %v", b[:n], err)
	}
}
