package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/yamux"
)

// send writes to the facet, on a stream of its. Behind a facet that does not take what was sent to it, it waits first, until ctx ends
// or the time given, if any, is over: the write itself could be ended by neither (wire.Conn.Behind).
func (s *Session) send(ctx context.Context, until time.Time, st *yamux.Stream, p []byte) (int, error) {
	if s.conn.Behind() != nil {
		if err := s.catchUp(ctx, until); err != nil {
			return 0, err
		}
	}
	return st.Write(p)
}

// catchUp waits until the facet has taken all that was sent to it.
func (s *Session) catchUp(ctx context.Context, until time.Time) error {
	var over <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		over = t.C
	}
	for {
		behind := s.conn.Behind()
		if behind == nil {
			return nil
		}
		select {
		case <-behind:
		case <-over:
			return yamux.ErrTimeout
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrClientGone, context.Cause(ctx))
		case <-s.mux.CloseChan():
			return yamux.ErrSessionShutdown
		}
	}
}

// Writer writes to the facet on a stream of its, as long as ctx lasts.
func (s *Session) Writer(ctx context.Context, st *yamux.Stream) *Writer { return &Writer{s, ctx, st} }

// Writer is an io.Writer: see Session.Writer.
type Writer struct {
	session *Session
	ctx     context.Context
	stream  *yamux.Stream
}

func (w *Writer) Write(p []byte) (int, error) {
	return w.session.send(w.ctx, time.Time{}, w.stream, p)
}
