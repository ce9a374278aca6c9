package sdk

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/internal/boot"
	"github.com/facetgateway/fgw/sdk/wire"
)

// A gateway may start a process before anyone needs it, and tell it later which facet it is. What a program does for
// the first time takes it several times as long as the second: its code is not in memory yet, nor its tables made. So a
// process that has to wait uses the time to live a whole life once, from the start message to STOP, with one request, against a
// gateway that it plays itself. The app has no part in it.

// rehearsalTime bounds a rehearsal, which takes some milliseconds.
const rehearsalTime = time.Second

// awaited reads what the gateway has said already, without waiting for it; nothing means that the process was started in advance.
func awaited(conn net.Conn) []byte {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	b := make([]byte, 512)
	n := 0
	raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), b)
		return true // in any case
	})
	return b[:max(0, n)]
}

// resumed is a connection of which something was read already.
type resumed struct {
	net.Conn
	read []byte
}

func (c *resumed) Read(p []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.read)
	c.read = c.read[n:]
	return n, nil
}

// rehearse lives a life in memory. Whatever goes wrong there, the real one will tell.
func rehearse() {
	gateway, ours := net.Pipe()
	defer gateway.Close()
	gateway.SetDeadline(time.Now().Add(rehearsalTime))
	go playGateway(gateway)
	in, said, err := shakeHands(ours)
	if err != nil {
		ours.Close()
		return
	}
	defer in.close()
	in.facet = newFacet(boot.Config{Start: said, Log: in.log.handler(), Now: time.Now})
	in.facet.outside = newOutside(in.session.Open, said.MaxStreams)
	in.run(func(ctx context.Context, f *Facet) (http.Handler, error) {
		f.DB().ExecContext(ctx, "") // which it has none of
		mux := http.NewServeMux()
		mux.HandleFunc("GET /{path}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.PathValue("path")) })
		return mux, nil
	})
}

// playGateway is the other side of a rehearsal.
func playGateway(conn net.Conn) {
	defer conn.Close()
	hello, err := wire.AppendStart(nil, &wire.Start{Namespace: "n", Object: "o", Name: "f", ID: "i", App: "f", Version: 1, MaxStreams: 1, MaxSessions: 1,
		Env: map[string]string{"k": "v"}, Secrets: map[string]string{"k": "v"}})
	if err != nil {
		return
	}
	if _, err := conn.Write(hello); err != nil {
		return
	}
	if _, err := wire.ReadAnswer(conn); err != nil {
		return
	}
	session, err := yamux.Client(wire.NewConn(conn, nil, nil), wire.Config(1, rehearsalTime))
	if err != nil {
		return
	}
	defer session.Close()
	open := func(kind wire.StreamKind) *yamux.Stream {
		s, err := session.OpenStream()
		if err == nil {
			err = wire.WriteKind(s, kind)
		}
		if err != nil {
			session.Close()
			return nil
		}
		return s
	}
	control, stream := open(wire.StreamControl), open(wire.StreamHTTP)
	if control == nil || stream == nil {
		return
	}
	if t, _, err := wire.ReadControl(control); err != nil || t != wire.FrameReady {
		return
	}
	io.WriteString(stream, "GET /hello HTTP/1.1\r\nHost: rehearsal\r\nUser-Agent: fgw\r\nX-Request-Id: 1\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(stream), nil); err == nil {
		io.Copy(io.Discard, resp.Body)
	}
	stream.Close()
	wire.WriteControl(control, wire.FrameStop, wire.Stop{Reason: "rehearsed", GraceMS: 100})
	wire.ReadControl(control)
}
