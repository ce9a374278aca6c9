package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// errOutside is what calls fail with that only a gateway can serve.
var errOutside = &FacetError{Code: "not_available", Message: "this needs a gateway: deploy the app with fgw deploy"}

// outside opens the streams on which a facet calls out. There are only so many at a time:
// further calls wait here, with their contexts.
type outside struct {
	open  func() (net.Conn, error)
	slots chan struct{}
}

// reservedStreams of those that a facet may open are not for calls: the log's, and one to spare, since a
// stream counts until both ends have closed it.
const reservedStreams = 2

func newOutside(open func() (net.Conn, error), most int) *outside {
	return &outside{open, make(chan struct{}, max(1, most-reservedStreams))}
}

// call opens a stream and says what it is for.
func (o *outside) call(ctx context.Context, c *wire.Call) (net.Conn, error) {
	if o == nil {
		return nil, errOutside
	}
	select {
	case o.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := o.open()
	if err == nil {
		err = wire.WriteKind(conn, wire.StreamOut)
	}
	if err == nil {
		err = wire.WriteMessage(conn, c)
	}
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		<-o.slots
		return nil, fmt.Errorf("call the gateway: %w", err)
	}
	return &outConn{Conn: conn, release: func() { <-o.slots }}, nil
}

// outConn is a stream of a call; closing it makes room for another.
type outConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *outConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

// maxAnswer bounds the gateway's answer to a question: the longest listing.
const maxAnswer = 16 << 20

// ask puts a question and returns its answer. code, unless nil, follows the head.
func (o *outside) ask(ctx context.Context, c *wire.Call, code io.Reader) (*wire.Answer, error) {
	conn, err := o.call(ctx, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// Closing a stream of yamux's does not end a read of it; a deadline that has passed does.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	sent := send(conn, code)
	body, err := wire.ReadAnswerMessage(conn, maxAnswer)
	if failed := sent(); failed != nil && err != nil {
		err = failed
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("read the gateway's answer: %w", err)
	}
	var a wire.Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("decode the gateway's answer: %w", err)
	}
	if a.Error != nil {
		return nil, &FacetError{Code: a.Error.Code, Message: a.Error.Message, Stack: a.Error.Stack}
	}
	return &a, nil
}

// send writes the code while the answer is awaited, which may come before all of it was taken. The function that it gives ends
// that, and says what went wrong with it.
func send(conn net.Conn, code io.Reader) (end func() error) {
	if code == nil {
		return func() error { return nil }
	}
	failed := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, code)
		if err != nil {
			err = fmt.Errorf("send the code: %w", err)
			conn.SetReadDeadline(time.Unix(1, 0)) // no answer will come to half of it
		}
		failed <- err
	}()
	return func() error {
		conn.SetWriteDeadline(time.Unix(1, 0))
		return <-failed
	}
}

// transport makes an HTTP transport whose connections are calls of one kind.
func (o *outside) transport(keep bool, call func(ctx context.Context) (*wire.Call, error)) *http.Transport {
	return &http.Transport{
		DisableKeepAlives:   !keep,
		DisableCompression:  true, // the answer is passed on as it is
		MaxIdleConnsPerHost: 4,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := call(ctx)
			if err != nil {
				return nil, err
			}
			return o.call(ctx, c)
		},
	}
}

// maxProblem bounds the body of an error answer.
const maxProblem = 1 << 20

// problem turns an error answer of the gateway's into an error; nil where it is none.
func problem(resp *http.Response) error {
	code := resp.Header.Get(wire.HeaderError)
	if code == "" {
		return nil
	}
	defer resp.Body.Close()
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	f := &FacetError{Code: code, Message: resp.Status, RetryAfter: time.Duration(seconds) * time.Second}
	var b struct {
		Error wire.Problem `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&b); err == nil {
		f.Message, f.Stack = b.Error.Message, b.Error.Stack
	}
	return f
}

// asFacetError finds the *FacetError in what a transport returns.
func asFacetError(err error) error {
	var f *FacetError
	if errors.As(err, &f) {
		return f
	}
	return err
}
