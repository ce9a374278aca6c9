package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/internal/boot"
	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// stall is how long a write to the gateway may wait. The gateway always reads, so
// it is reached only where the machine stands still.
const stall = 2 * time.Minute

// flushTime is how long the last log records may take on their way out.
const flushTime = 200 * time.Millisecond

// maxFailure bounds a failure's message and stack, so that they fit into one frame even where JSON escapes every byte.
const maxFailure = wire.MaxFrameBytes / 16

// serveInherited serves the gateway that started this process; it returns the exit code.
func serveInherited(start StartFunc) int {
	file := os.NewFile(wire.FDWire, "wire")
	conn, err := net.FileConn(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "open the wire:", err)
		return 1
	}
	file.Close()
	if said := awaited(conn); len(said) > 0 {
		conn = &resumed{wire.Direct(conn), said}
	} else {
		rehearse()
		conn = wire.Direct(conn)
	}
	if err := serveWire(conn, os.NewFile(wire.FDSQL, "sql"), start); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// instance is one life of a facet inside a gateway: handshake, start, requests until STOP or the wire's end.
type instance struct {
	facet   *Facet
	session *yamux.Session
	control net.Conn
	writing sync.Mutex // of control
	streams *streams
	log     *shipper
	stopped chan error // one value ends it
}

// serveWire lives an instance's life. It returns nil after an orderly stop.
func serveWire(conn net.Conn, channel *os.File, start StartFunc) error {
	in, said, err := shakeHands(conn)
	if err != nil {
		conn.Close()
		return err
	}
	defer in.close()
	config := boot.Config{Start: said, Log: in.log.handler(), Now: time.Now}
	if said.Database {
		if config.SQL, err = client.New(channel, said.MaxSessions); err != nil {
			return in.fail(&FacetError{Code: codeStart, Message: err.Error()})
		}
	} else {
		channel.Close()
	}
	register(config.SQL)
	in.facet = newFacet(config)
	in.facet.outside = newOutside(in.session.Open, said.MaxStreams)
	in.facet.egress = &egress{f: in.facet}
	http.DefaultClient.Transport = in.facet.egress // not DefaultTransport, which programs take to be an *http.Transport
	return in.run(start)
}

// shakeHands learns who this instance is and begins its wire.
func shakeHands(conn net.Conn) (*instance, *wire.Start, error) {
	said, version, err := wire.ReadStart(conn)
	if err != nil {
		if errors.Is(err, wire.ErrVersion) {
			wire.WriteAnswer(conn, 0, err.Error())
		}
		return nil, nil, err
	}
	if err := wire.WriteAnswer(conn, version, ""); err != nil {
		return nil, nil, fmt.Errorf("answer the gateway: %w", err)
	}
	in := &instance{streams: newStreams(), stopped: make(chan error, 4)}
	in.session, err = yamux.Server(wire.NewConn(conn, nil, in.streams.closed), wire.Config(wire.MaxStreams, stall))
	if err != nil {
		return nil, nil, fmt.Errorf("begin the wire: %w", err)
	}
	in.log = newShipper(in.openLog)
	if err := in.acceptControl(); err != nil {
		in.close()
		return nil, nil, err
	}
	return in, said, nil
}

// close ends the wire, after the last log records.
func (in *instance) close() {
	in.log.close(flushTime)
	in.session.Close() // and with it the connection
}

// acceptControl takes the control stream, which is the gateway's first.
func (in *instance) acceptControl() error {
	control, err := in.session.AcceptStream()
	if err != nil {
		return fmt.Errorf("wait for the control stream: %w", err)
	}
	in.streams.skip(control.StreamID())
	kind, err := wire.ReadKind(control)
	if err == nil && kind != wire.StreamControl {
		err = fmt.Errorf("the first stream is of kind %d", kind)
	}
	in.control = control
	return err
}

// run starts the app, serves, and waits for the end.
func (in *instance) run(start StartFunc) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go in.readControl(cancel)
	// Streams are served before start has returned: a supervisor may call its children there, and they
	// its services. Other requests come once it is READY.
	app := &front{facet: in.facet}
	go in.streams.accept(in.session, func(c net.Conn) { in.facet.event(ctx, c) })
	go newServer(app).Serve(in.streams)
	handler, failed := runStart(ctx, in.facet, start)
	if failed != nil {
		return in.fail(failed)
	}
	app.app.Store(&handler)
	if err := in.say(wire.FrameReady, struct{}{}); err != nil {
		return fmt.Errorf("tell the gateway that the app is ready: %w", err)
	}
	return <-in.stopped
}

// fail tells the gateway why there is no handler.
func (in *instance) fail(f *FacetError) error {
	said := wire.Failed{Message: cut(f.Message), Stack: cut(f.Stack), Panic: f.Stack != ""}
	if err := in.say(wire.FrameFailed, said); err != nil {
		return errors.Join(f, err)
	}
	if f.Stack != "" {
		return fmt.Errorf("start: %w\n\n%s", f, f.Stack)
	}
	return fmt.Errorf("start: %w", f)
}

func cut(s string) string {
	if len(s) > maxFailure {
		return s[:maxFailure] + " …"
	}
	return s
}

func (in *instance) say(t wire.FrameType, v any) error {
	in.writing.Lock()
	defer in.writing.Unlock()
	return wire.WriteControl(in.control, t, v)
}

// readControl reads what the gateway says until it says no more. An orderly stop calls cancel last.
func (in *instance) readControl(cancel context.CancelFunc) {
	for {
		t, body, err := wire.ReadControl(in.control)
		if err != nil {
			in.stopped <- fmt.Errorf("the gateway has gone: %w", err)
			return
		}
		if t != wire.FrameStop {
			continue
		}
		var stop wire.Stop
		if err := json.Unmarshal(body, &stop); err != nil {
			in.stopped <- fmt.Errorf("decode a stop frame: %w", err)
			return
		}
		in.stop(stop)
		cancel()
		return
	}
}

// stop runs the app's own functions and says when they are done.
func (in *instance) stop(s wire.Stop) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.GraceMS)*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.facet.stop(ctx)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	in.log.close(flushTime)
	in.stopped <- in.say(wire.FrameStopped, struct{}{})
}

// openLog opens the stream of log records.
func (in *instance) openLog() (net.Conn, error) {
	stream, err := in.session.OpenStream()
	if err != nil {
		return nil, err
	}
	if err := wire.WriteKind(stream, wire.StreamLog); err != nil {
		return nil, err
	}
	return stream, nil
}

// newServer serves HTTP on the gateway's streams. What limits requests need (heads,
// times, numbers) is the gateway's to keep: it is the only client.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ConnContext: streamContext}
}
