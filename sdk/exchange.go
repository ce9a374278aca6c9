package sdk

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/facetgateway/fgw/sdk/wire"
)

// placeholderHost stands where a request needs a host and has none.
const placeholderHost = "facet"

// codeNoEgress is the code of an outgoing request that was not granted.
const codeNoEgress = "egress_denied"

// exchange sends a request over a call's stream and reads the head of its answer. The stream ends with the answer's
// body, or with the request's context. release is called when it has ended.
func (c *caller) exchange(r *http.Request, head *wire.Call, absolute bool, release func()) (*http.Response, error) {
	ctx := r.Context()
	k, err := c.open(ctx, head)
	if err != nil {
		release()
		closeBody(r)
		return nil, err
	}
	x := &exchangeBody{call: k, r: bufio.NewReader(k), release: release}
	out := outgoing(r)
	sent := make(chan error, 1)
	send := func() {
		if absolute {
			sent <- out.WriteProxy(k)
		} else {
			sent <- out.Write(k)
		}
	}
	if out.Body == nil || out.Body == http.NoBody {
		send()
	} else {
		go send() // an answer may come while the body is on its way
	}
	resp, err := x.readHead(out)
	if err != nil {
		x.Close()
		select {
		case sendErr := <-sent:
			if sendErr != nil && ctx.Err() == nil { // the request's own fault, perhaps
				err = errors.Join(k.explain(err), sendErr)
			}
		default:
		}
		return nil, k.explain(err)
	}
	if code := resp.Header.Get(wire.HeaderError); code != "" {
		defer resp.Body.Close()
		return nil, readProblem(resp, code)
	}
	return resp, nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}

// outgoing returns the request as it is to be sent.
func outgoing(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.Body, out.Close = r.Body, false
	out.RequestURI = ""
	if out.URL.Host == "" {
		out.URL.Scheme, out.URL.Host = "http", placeholderHost
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // keeps net/http from adding its own
	}
	out.Header.Del("Expect")
	if id := requestID(r.Context()); id != "" && out.Header.Get(headerRequestID) == "" {
		out.Header.Set(headerRequestID, id)
	}
	return out
}

// readHead reads the answer's head, past informational ones.
func (x *exchangeBody) readHead(r *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(x.r, r)
		if err != nil {
			return nil, err
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			resp.Body = &tunnel{x}
			return resp, nil
		case resp.StatusCode >= 200:
			x.body = resp.Body
			resp.Body = x
			return resp, nil
		}
	}
}

// exchangeBody is an answer's body, with whose end the call ends.
type exchangeBody struct {
	call    *call
	r       *bufio.Reader
	body    io.ReadCloser
	release func()
	once    sync.Once
}

func (x *exchangeBody) Read(p []byte) (int, error) {
	n, err := x.body.Read(p)
	if err == io.EOF {
		x.Close()
	} else if err != nil {
		err = x.call.explain(err)
	}
	return n, err
}

// Close ends the call. Where the answer was not read to its end that cancels it.
func (x *exchangeBody) Close() error {
	x.once.Do(func() {
		x.call.close()
		x.release()
	})
	return nil
}

// tunnel is what an upgraded exchange has become: both directions of the stream.
type tunnel struct{ x *exchangeBody }

func (t *tunnel) Read(p []byte) (int, error)  { return t.x.r.Read(p) }
func (t *tunnel) Write(p []byte) (int, error) { return t.x.call.Write(p) }
func (t *tunnel) Close() error                { return t.x.Close() }

// maxProblem bounds an error's body.
const maxProblem = 1 << 20

// readProblem reads an error of the gateway's.
func readProblem(resp *http.Response, code string) error {
	var body struct{ Error wire.Problem }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&body); err != nil {
		return &FacetError{Code: code, Message: fmt.Sprintf("status %s", resp.Status)}
	}
	err := facetError(&body.Error)
	if code == codeNoEgress {
		return fmt.Errorf("%w: %w", ErrNoEgress, err)
	}
	return err
}

// egress sends requests to the outside.
type egress struct {
	calls   *caller
	granted bool
}

// RoundTrip sends a request to the outside, if that was granted.
func (e *egress) RoundTrip(r *http.Request) (*http.Response, error) {
	if !e.granted {
		closeBody(r)
		return nil, ErrNoEgress
	}
	return e.calls.exchange(r, &wire.Call{Op: wire.OpEgress}, true, func() {})
}

// CallerProps decodes into v, a pointer, the props that were fixed for the caller of a service (see Facet.Expose): those
// given with Service in Start.Services. Without props, v is left as it is.
func CallerProps(r *http.Request, v any) error {
	return decodeCallerProps(r.Header.Get(wire.HeaderCallerProps), v)
}
