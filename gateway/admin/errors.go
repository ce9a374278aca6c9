package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

var (
	// ErrNoGateway means that no gateway serves the data directory.
	ErrNoGateway = errors.New("no gateway is running there")
	// ErrNoAnswer means that one does, and hangs.
	ErrNoAnswer = errors.New("the gateway there does not answer")
	// ErrBrokeOff means that an invocation's answer ended before its head came.
	ErrBrokeOff = errors.New("the answer broke off before its head came")
)

// Codes of answers; those of the HTTP side have the same names.
const (
	codeInternal          = "internal"
	codeNamespaceNotFound = "namespace_not_found"
	codeAppNotFound       = "app_not_found"
	codeFacetNotFound     = "facet_not_found"
)

// Error is what the admin API answers where something went wrong. A Runtime
// returns one to choose the code itself.
type Error struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Is compares codes, so that errors.Is(err, &Error{Code: "app_not_found"}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf makes an Error.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint adds what can be done about it.
func (e *Error) WithHint(hint string) *Error {
	e.Hint = hint
	return e
}

// rules maps the sentinels of the packages below to answers; the first that matches counts.
var rules = []struct {
	err    error
	status int
	code   string
	hint   string
}{
	{registry.ErrObjectNotFound, http.StatusNotFound, "object_not_found", "`fgw objects ls NAMESPACE` lists what there is"},
	{registry.ErrNotFound, http.StatusNotFound, "not_found", ""},
	{registry.ErrExists, http.StatusConflict, "exists", ""},
	{registry.ErrNotEmpty, http.StatusConflict, "not_empty", "remove its objects first, or use --force"},
	{registry.ErrInUse, http.StatusConflict, "in_use", ""},
	{registry.ErrNewer, http.StatusConflict, "newer_version", "use the version of fgw that wrote the data directory, or a newer one"},
	{registry.ErrObjectLimit, http.StatusTooManyRequests, "object_limit", "raise it: fgw namespaces set NS max_objects=N"},
	{registry.ErrFacetLimit, http.StatusTooManyRequests, "facet_limit", ""},
	{address.ErrBadName, http.StatusBadRequest, "bad_name", ""},
	{registry.ErrBadValue, http.StatusBadRequest, "bad_value", ""},
	{bundle.ErrTooLarge, http.StatusRequestEntityTooLarge, "body_too_large", ""},
	{bundle.ErrDynamic, http.StatusUnprocessableEntity, "bad_bundle", "build it with CGO_ENABLED=0 go build"},
	{bundle.ErrNotExecutable, http.StatusUnprocessableEntity, "bad_bundle", "deploy a Go package's directory, or a static executable for this machine"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "facet_timeout", ""},
}

// sqlStatus gives the status for codes of the SQL channel; others are 422, the statement's own fault.
var sqlStatus = map[string]int{
	sqlchan.CodeDenied:           http.StatusForbidden,
	sqlchan.CodeStatementTimeout: http.StatusGatewayTimeout,
	sqlchan.CodeBusy:             http.StatusServiceUnavailable,
	sqlchan.CodeMemoryLimit:      http.StatusRequestEntityTooLarge,
	sqlchan.CodeResultLimit:      http.StatusRequestEntityTooLarge,
	sqlchan.CodeSizeLimit:        http.StatusRequestEntityTooLarge,
	sqlchan.CodeStorageQuota:     http.StatusInsufficientStorage,
	sqlchan.CodeDiskFull:         http.StatusInsufficientStorage,
	sqlchan.CodeTooManySessions:  http.StatusTooManyRequests,
	sqlchan.CodeTooManyRequests:  http.StatusTooManyRequests,
	sqlchan.CodeInternal:         http.StatusInternalServerError,
}

// asError gives the answer for an error.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var p *problem.Error
	if errors.As(err, &p) {
		return &Error{Status: p.Status(), Code: p.Code, Message: p.Message, Hint: p.Hint}
	}
	var f *sqlchan.Failure
	if errors.As(err, &f) {
		status, ok := sqlStatus[f.Code]
		if !ok {
			status = http.StatusUnprocessableEntity
		}
		return &Error{Status: status, Code: f.Code, Message: f.Message}
	}
	if p := problem.As(err); p.Code == problem.DiskFull {
		return &Error{Status: p.Status(), Code: p.Code, Message: p.Message, Hint: p.Hint}
	}
	for _, r := range rules {
		if errors.Is(err, r.err) {
			return &Error{Status: r.status, Code: r.code, Message: err.Error(), Hint: r.hint}
		}
	}
	return &Error{Status: http.StatusInternalServerError, Code: codeInternal, Message: err.Error()}
}

// hints say what to do where something was not found, by code.
var hints = map[string]string{
	codeNamespaceNotFound: "`fgw namespaces create NAMESPACE` makes one, `fgw namespaces ls` lists what there is",
	codeAppNotFound:       "`fgw apps ls` lists what there is",
	codeFacetNotFound:     "`fgw facets ls` lists what there is",
}

// notFound gives the code of what a lookup missed.
func notFound(err error, code string) error {
	if errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrObjectNotFound) {
		return &Error{Status: http.StatusNotFound, Code: code, Message: err.Error(), Hint: hints[code]}
	}
	return err
}

type errorBody struct {
	Error *Error `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	e := asError(err)
	if e.Status == 0 {
		e = &Error{Status: http.StatusInternalServerError, Code: e.Code, Message: e.Message, Hint: e.Hint}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(errorBody{e})
}
