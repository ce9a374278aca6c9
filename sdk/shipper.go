package sdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// maxWaiting is how many bytes of log records may wait to be sent.
const maxWaiting = 1 << 20

// shipper sends log records to the gateway, on a stream that it opens with the first. Whoever
// logs never waits for it: records that find no room are counted, and the count is sent once there is.
type shipper struct {
	open func() (net.Conn, error)

	mu      sync.Mutex
	waiting []byte        // frames
	dropped int           // records
	running chan struct{} // closed when the sender ends; nil before it began
	closing bool
	more    sync.Cond // waiting, closing or stream changed
	stream  net.Conn
}

func newShipper(open func() (net.Conn, error)) *shipper {
	s := &shipper{open: open}
	s.more.L = &s.mu
	return s
}

// put takes one record as JSON.
func (s *shipper) put(record []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(record) > wire.MaxFrameBytes || len(s.waiting)+len(record) > maxWaiting {
		s.dropped++
	} else {
		s.waiting = appendFrame(s.waiting, record)
	}
	if s.running == nil && !s.closing {
		s.running = make(chan struct{})
		go s.send()
	}
	s.more.Signal()
}

func appendFrame(b, record []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(record))), record...)
}

// send writes what waits until close, or until the wire ends.
func (s *shipper) send() {
	defer close(s.running)
	stream, err := s.open()
	if err != nil {
		return // the wire has ended, and with it everything
	}
	defer stream.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = stream
	var out []byte
	for {
		for len(s.waiting) == 0 && s.dropped == 0 {
			if s.closing {
				return
			}
			s.more.Wait()
		}
		out, s.waiting = s.waiting, out[:0]
		dropped := s.dropped
		s.dropped = 0
		s.mu.Unlock()
		if dropped > 0 {
			out = appendFrame(out, droppedRecord(dropped))
		}
		_, err := stream.Write(out)
		s.mu.Lock()
		if err != nil {
			s.closing = true
			return
		}
	}
}

func droppedRecord(n int) []byte {
	var b bytes.Buffer
	h := jsonHandler(&b)
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log records dropped: they came faster than the gateway takes them, or were over 64 KiB", 0)
	r.AddAttrs(slog.Int("dropped", n))
	h.Handle(context.Background(), r)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// close sends what still waits, for at most the time given, and takes no more.
func (s *shipper) close(atMost time.Duration) {
	s.mu.Lock()
	s.closing = true
	running, stream := s.running, s.stream
	s.more.Signal()
	s.mu.Unlock()
	if running == nil {
		return
	}
	if stream != nil {
		stream.SetWriteDeadline(time.Now().Add(atMost))
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-running:
	case <-timer.C:
	}
}

func (s *shipper) handler() slog.Handler {
	h := &shipHandler{s: s, room: new(room)}
	h.json = jsonHandler(&h.room.b)
	return h
}

// shipHandler turns records into the wire's JSON (wire's SPEC §7): time, level, message,
// attrs, request_id.
type shipHandler struct {
	s    *shipper
	room *room
	json slog.Handler // writes into room
}

// room is where one record at a time is encoded.
type room struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// jsonHandler writes one object a record, in which the record's attributes are a group of their own.
func jsonHandler(b *bytes.Buffer) slog.Handler {
	return slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.MessageKey {
			a.Key = "message"
		}
		return a
	}}).WithGroup("attrs")
}

func (h *shipHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelDebug }

func (h *shipHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &shipHandler{h.s, h.room, h.json.WithAttrs(attrs)}
}

func (h *shipHandler) WithGroup(name string) slog.Handler {
	return &shipHandler{h.s, h.room, h.json.WithGroup(name)}
}

func (h *shipHandler) Handle(ctx context.Context, r slog.Record) error {
	h.room.mu.Lock()
	defer h.room.mu.Unlock()
	b := &h.room.b
	b.Reset()
	if err := h.json.Handle(ctx, r); err != nil {
		return err
	}
	if id := requestID(ctx); id != "" {
		b.Truncate(b.Len() - len("}\n"))
		quoted, _ := json.Marshal(id) // a string always has a JSON form
		b.WriteString(`,"request_id":`)
		b.Write(quoted)
		b.WriteString("}\n")
	}
	h.s.put(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	if b.Cap() > wire.MaxFrameBytes {
		*b = bytes.Buffer{}
	}
	return nil
}
