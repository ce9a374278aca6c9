package egress

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Codes of the answers that are the gateway's own.
const (
	CodeDenied  = "egress_denied"  // 403: the policy or the address rules
	CodeFailed  = "egress_failed"  // 502: DNS, connection, TLS, HTTP
	CodeTimeout = "egress_timeout" // 504
)

var statuses = map[string]int{
	CodeDenied: http.StatusForbidden, CodeFailed: http.StatusBadGateway, CodeTimeout: http.StatusGatewayTimeout,
	problem.BadRequest: http.StatusBadRequest,
}

// failure is why a request was not performed. message is for the facet's author; err, which may
// name addresses of the gateway's network, is for the administrator's log.
type failure struct {
	code, message string
	err           error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.err }

func denied(format string, args ...any) *failure {
	return &failure{code: CodeDenied, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *failure {
	return &failure{code: problem.BadRequest, message: fmt.Sprintf(format, args...)}
}

func failed(err error, format string, args ...any) *failure {
	return &failure{code: CodeFailed, message: fmt.Sprintf(format, args...), err: err}
}

func timedOut(err error, format string, args ...any) *failure {
	return &failure{code: CodeTimeout, message: fmt.Sprintf(format, args...), err: err}
}

var (
	errConnectTimeout = errors.New("no connection within the time for it")
	errStalled        = errors.New("no byte passed within the time for it")
)

// explain says what went wrong on the way to t. It takes from err only what can't name an
// address: neither the gateway's nor its name server's.
func (e *Egress) explain(ctx context.Context, t target, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if errors.Is(context.Cause(ctx), errStalled) {
		return timedOut(err, "%s: no byte of a body passed for %s", t, e.cfg.StallTimeout)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return failed(err, "%s: no such host", t)
		case dns.IsTimeout:
			return timedOut(err, "%s: the name was not resolved within %s", t, e.cfg.ConnectTimeout)
		}
		return failed(err, "%s: the name could not be resolved", t)
	}
	if errors.Is(err, errConnectTimeout) {
		return timedOut(err, "%s: no connection within %s", t, e.cfg.ConnectTimeout)
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && !errno.Timeout() {
		return failed(err, "%s: %s", t, errno)
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		if _, ok := errors.AsType[*net.OpError](err); ok {
			return timedOut(err, "%s: the connection timed out", t)
		}
		return timedOut(err, "%s: %s", t, n)
	}
	if verify, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failed(err, "%s: %s", t, verify)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return failed(err, "%s: the server does not speak TLS on this port", t)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return failed(err, "%s: the server closed the connection without an answer", t)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return failed(err, "%s: %s", t, op.Err)
	}
	return failed(err, "%s: %s", t, err)
}

// refuse answers with what the gateway itself has to say.
func (e *Egress) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = failed(err, "the request could not be sent")
	}
	e.cfg.Log.DebugContext(r.Context(), "egress refused or failed", "code", f.code, "method", r.Method, "host", r.URL.Host, "reason", f.message, "error", f.err)
	body, err := json.Marshal(map[string]any{"error": wire.Problem{Code: f.code, Message: f.message}})
	if err != nil { // two strings: can't be
		body = nil
	}
	h := w.Header()
	h.Set(wire.HeaderError, f.code)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(statuses[f.code])
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}
