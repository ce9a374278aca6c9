package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// SocketName is the admin socket's name in the data directory.
const SocketName = "admin.sock"

// maxSocketPath is what a unix socket's address holds besides its final NUL.
const maxSocketPath = 107

// dialTimeout is how long a gateway may take to accept; it does so at once unless it hangs.
const dialTimeout = 5 * time.Second

// answerTimeout is how long it may take to say that it is there: some ms, more on a machine that is very busy.
const answerTimeout = 10 * time.Second

// Client talks to a running gateway. Errors that the gateway tells are *Error;
// ErrNoGateway means that nobody answered.
type Client struct {
	dir  *os.File // keeps the way to a socket whose path is too long for an address
	path string
	http *http.Client
}

// Dial connects to the gateway of a data directory. Close the client after use.
func Dial(dataDir string) (*Client, error) { return dialWithin(dataDir, answerTimeout) }

func dialWithin(dataDir string, patience time.Duration) (*Client, error) {
	c := &Client{path: filepath.Join(dataDir, SocketName)}
	if len(c.path) > maxSocketPath {
		fd, err := unix.Open(dataDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dataDir, ErrNoGateway)
		}
		c.dir = os.NewFile(uintptr(fd), dataDir)
		c.path = fmt.Sprintf("/proc/self/fd/%d/%s", fd, SocketName)
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
		DisableCompression: true, // it is the same machine
		// A deploy waits so long for the gateway to ask for its body.
		ExpectContinueTimeout: 5 * time.Second,
	}}
	// Asked now, so that a command fails before it has read or built anything, and does not wait for ever for a gateway that hangs.
	switch err := c.ping(patience); {
	case err == nil:
		return c, nil
	case errors.Is(err, os.ErrPermission):
		c.Close()
		return nil, &Error{Status: http.StatusForbidden, Code: "access_denied",
			Message: "the admin socket of " + dataDir + " may not be opened by this user", Hint: "run it as root or as the user who started the gateway"}
	case errors.Is(err, context.DeadlineExceeded):
		c.Close()
		return nil, fmt.Errorf("%s: %w", dataDir, ErrNoAnswer)
	}
	c.Close()
	return nil, fmt.Errorf("%s: %w", dataDir, ErrNoGateway)
}

// ping waits for an answer, whatever it says. Its connection is the next call's.
func (c *Client) ping(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := newRequest(ctx, http.MethodGet, pathStatus, nil, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, "unix", c.path)
}

// Close ends idle connections.
func (c *Client) Close() error {
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	if c.dir != nil {
		return c.dir.Close()
	}
	return nil
}

// newRequest makes a request whose parameters are in the query, where no proxy
// or mux tidies them: names may be "..", or hold slashes.
func newRequest(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "admin", Path: path, RawQuery: query.Encode()}
	return http.NewRequestWithContext(ctx, method, u.String(), body)
}

// send sends a request and gives an answer of success, whose body the caller closes.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(req.Context(), err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// unreachable tells a gateway that went away from a call that was given up.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return ErrNoGateway
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("admin: %w", err)
}

func readError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var body errorBody
	if json.Unmarshal(b, &body) != nil || body.Error == nil {
		return &Error{Status: resp.StatusCode, Code: codeInternal, Message: fmt.Sprintf("the gateway answered %s: %.200s", resp.Status, b)}
	}
	body.Error.Status = resp.StatusCode
	return body.Error
}

// call sends in as JSON unless it is nil, and reads the answer into out unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := newRequest(ctx, method, path, query, body)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("admin: answer of %s: %w", path, err)
	}
	return nil
}
