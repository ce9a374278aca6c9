package sdk

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// codeDenied is the code of a call that the facet has no right to make.
const codeDenied = "access_denied"

// errAlone is what calls to the gateway fail with where there is none.
var errAlone = &FacetError{Code: codeDenied, Message: "there is no gateway here: children, services, workers and egress need one (fgw deploy)"}

// caller opens the facet's own streams to the gateway. Each call has one of its own. Calls beyond what the
// handshake allows wait their turn, with their contexts. A nil caller is that of an app on its own.
type caller struct {
	session *yamux.Session
	slots   chan struct{}
}

func newCaller(session *yamux.Session, maxStreams int) *caller {
	const log = 1 // stream
	return &caller{session, make(chan struct{}, max(1, maxStreams-log))}
}

// call is a stream that carries one call.
type call struct {
	*yamux.Stream
	ctx  context.Context
	undo func() bool
	end  func()
}

// open opens a stream and says what it is for.
func (c *caller) open(ctx context.Context, head *wire.Call) (*call, error) {
	if c == nil {
		return nil, errAlone
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	st, err := c.session.OpenStream()
	if err != nil {
		<-c.slots
		return nil, fmt.Errorf("call the gateway: %w", err)
	}
	k := &call{Stream: st, ctx: ctx, end: func() { <-c.slots }}
	// Closing does not end a read of yamux's, a deadline does.
	k.undo = context.AfterFunc(ctx, func() { st.SetDeadline(time.Unix(1, 0)) })
	if err := wire.WriteKind(st, wire.StreamOut); err == nil {
		err = wire.WriteMessage(st, head)
	}
	if err != nil {
		k.close()
		return nil, k.explain(err)
	}
	return k, nil
}

// close ends the call. It may be called once.
func (k *call) close() {
	k.undo()
	k.Stream.Close()
	k.end()
}

// explain says that the context ended, where that is why the stream failed.
func (k *call) explain(err error) error {
	if ctxErr := k.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the gateway broke the call off")
	}
	return fmt.Errorf("call the gateway: %w", err)
}

// maxAnswer bounds an answer of the gateway's: a long list of children, or of diagnostics.
const maxAnswer = 16 << 20

// ask asks the gateway a question; what belongs to the head is written behind it.
func (c *caller) ask(ctx context.Context, head *wire.Call, behind []byte) (*wire.Answer, error) {
	k, err := c.open(ctx, head)
	if err != nil {
		return nil, err
	}
	defer k.close()
	if _, err := k.Write(behind); err != nil {
		return nil, k.explain(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(k, size[:]); err != nil {
		return nil, k.explain(err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes: %w", n, wire.ErrTooLarge)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(k, body); err != nil {
		return nil, k.explain(err)
	}
	var a wire.Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("decode the gateway's answer: %w", err)
	}
	if a.Error != nil {
		return nil, facetError(a.Error)
	}
	return &a, nil
}

func facetError(p *wire.Problem) error {
	return &FacetError{Code: p.Code, Message: p.Message, Stack: p.Stack}
}

var _ net.Conn = (*call)(nil)
