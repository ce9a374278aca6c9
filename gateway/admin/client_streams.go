package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// addressHeader names the facet that an invocation is for; the URL holds the facet's own path.
const addressHeader = "Fgw-Address"

// InvokeRequest is a call to a facet, as HTTP would make it.
type InvokeRequest struct {
	Address string
	Method  string // GET unless set
	Path    string // with its query; "/" unless set
	Header  http.Header
	Body    io.Reader
}

// Invoke calls a facet. The answer may have any status: an error is returned
// only where the gateway could not be asked. Where the gateway and not the facet
// answered, the answer has the header wire.HeaderError. The caller closes the body.
func (c *Client) Invoke(ctx context.Context, in InvokeRequest) (*http.Response, error) {
	target, err := url.ParseRequestURI("/" + strings.TrimPrefix(in.Path, "/"))
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "bad_request", "the path %q can't be sent", in.Path)
	}
	// Opaque: the facet sees the path as it was given, "//" and "%2F" included.
	u := &url.URL{Scheme: "http", Host: "admin", Opaque: pathInvoke + target.EscapedPath(), RawQuery: target.RawQuery}
	method := in.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin/", in.Body)
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "bad_request", "the method %q can't be sent", method)
	}
	req.URL = u
	for k, v := range in.Header {
		req.Header[k] = v
	}
	if host := in.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	req.Header.Set(addressHeader, in.Address)
	hc := &http.Client{Transport: c.http.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := hc.Do(req)
	if err != nil {
		err = unreachable(ctx, err)
		if errors.Is(err, ErrNoGateway) && c.ping(answerTimeout) == nil { // it was the facet that ended the answer
			err = ErrBrokeOff
		}
		return nil, err
	}
	return resp, nil
}

// LogsOptions say which lines Logs gives.
type LogsOptions struct {
	Address string    // a facet, or a prefix: an object, a namespace, or "" for all
	Since   time.Time // none before it, unless zero
	Lines   int       // at most so many of the newest, unless 0
	Follow  bool      // and then those to come, until ctx ends
}

// Logs streams lines of facets' output, oldest first.
func (c *Client) Logs(ctx context.Context, o LogsOptions) iter.Seq2[LogLine, error] {
	q := query("address", o.Address, "lines", strconv.Itoa(o.Lines))
	if !o.Since.IsZero() {
		q.Set("since", o.Since.Format(time.RFC3339Nano))
	}
	if o.Follow {
		q.Set("follow", "true")
	}
	return func(yield func(LogLine, error) bool) {
		req, err := newRequest(ctx, http.MethodGet, pathLogs, q, nil)
		if err != nil {
			yield(LogLine{}, err)
			return
		}
		resp, err := c.send(req)
		if err != nil {
			yield(LogLine{}, err)
			return
		}
		defer resp.Body.Close()
		dec := json.NewDecoder(bufio.NewReaderSize(resp.Body, 64<<10))
		for {
			var line LogLine
			err := dec.Decode(&line)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(LogLine{}, unreachable(ctx, err))
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

func decode[T any](r io.Reader) (*T, error) {
	out := new(T)
	if err := json.NewDecoder(r).Decode(out); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return out, nil
}
