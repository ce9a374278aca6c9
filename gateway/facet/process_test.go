package facet

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire"
)

// A start message that is larger than the socket comes whole, before what follows it.
func TestStartMessageLargerThanTheSocket(t *testing.T) {
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer theirs.Close()
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
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer theirs.Close()
	s := &socket{Conn: wire.Direct(conn), hello: []byte("hello")}
	if n, err := s.TryWrite([]byte("first")); n != 5 || err != nil || s.hello != nil {
		t.Fatal(n, err, s.hello)
	}
	b := make([]byte, 64)
	if n, err := theirs.Read(b); err != nil || string(b[:n]) != "hellofirst" {
		t.Errorf("%q %v", b[:n], err)
	}
}
