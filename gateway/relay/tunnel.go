package relay

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
)

// offered reports whether a protocol is one of those in an Upgrade header, which is a list (RFC 9110 §7.8).
func offered(list, protocol string) bool {
	for p := range strings.SplitSeq(list, ",") {
		if p = textproto.TrimString(p); p != "" && strings.EqualFold(p, protocol) {
			return true
		}
	}
	return false
}

// tunnel joins the client to the facet after a 101 answer, until either side ends.
func (x *exchange) tunnel(resp *http.Response) error {
	asked, got := upgradeType(x.r.Header), upgradeType(resp.Header)
	if !offered(asked, got) {
		return fmt.Errorf("%w: it switches to %q where the client asked for %q", ErrProtocol, got, asked)
	}
	if x.up != nil {
		// After Hijack nobody may read the request's body, and what follows it on the connection is the tunnel's.
		if !x.up.whole.Load() {
			return fmt.Errorf("%w: it switches protocols in the midst of its request's body", ErrClientGone)
		}
		<-x.up.done
	}
	h := x.w.Header()
	copyHeader(h, resp.Header)
	if x.o.Answer != nil {
		x.o.Answer(x.q.Prefix, h)
	}
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", got)
	head := []byte("HTTP/1.1 101 Switching Protocols\r\n")
	for name, values := range h {
		for _, v := range values {
			head = appendLine(head, name, v)
		}
	}
	conn, brw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return fmt.Errorf("%w: its connection can't be taken over: %w", ErrClientGone, err)
	}
	defer conn.Close()
	// After Hijack the request's context no longer ends with the client's
	// connection: from here on reading from it tells.
	if _, err := conn.Write(append(head, "\r\n"...)); err != nil {
		return fmt.Errorf("%w: %w: %w", ErrCut, ErrClientGone, err)
	}
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	var once sync.Once
	end := func() { once.Do(func() { cancel(); conn.Close(); x.st.close() }) }
	done := make(chan struct{})
	go func() { // client to facet
		defer close(done)
		defer end()
		copyBuffered(x.session.Writer(ctx, x.st.raw), brw.Reader)
	}()
	copyBuffered(conn, x.st.br) // facet to client, through its output gate
	end()
	<-done
	return nil
}

func copyBuffered(dst io.Writer, src io.Reader) {
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, (*bp)[:cap(*bp)])
}
