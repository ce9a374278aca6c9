// Package problem is what goes wrong, as the gateway tells it: a stable code, a
// sentence, and the HTTP status that belongs to the code. The HTTP front, the
// admin API and supervisors all tell the same problems in the same words.
package problem

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"syscall"
	"time"
)

// Error is a problem with its code. Code is stable; Message is for people.
type Error struct {
	Code       string
	Message    string
	Hint       string        // what to do about it, "" for nothing
	RetryAfter time.Duration // for those that pass by themselves
	Stack      string        // what the facet printed, as far as it did
}

func (e *Error) Error() string { return e.Message }

// New returns a problem.
func New(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Codes that the gateway tells.
const (
	BadName           = "bad_name"
	BadRequest        = "bad_request"
	NamespaceNotFound = "namespace_not_found"
	AppNotFound       = "app_not_found"
	ObjectNotFound    = "object_not_found"
	FacetNotFound     = "facet_not_found"
	AccessDenied      = "access_denied"
	CrossSite         = "cross_site"
	BodyTooLarge      = "body_too_large"
	BadHost           = "bad_host"
	TooManyRequests   = "too_many_requests"
	ObjectLimit       = "object_limit"
	Overloaded        = "overloaded"
	FacetBackoff      = "facet_backoff"
	FacetCrashed      = "facet_crashed"
	FacetAborted      = "facet_aborted"
	FacetProtocol     = "facet_protocol"
	FacetTimeout      = "facet_timeout"
	FacetStart        = "facet_start_failed"
	BuildFailed       = "build_failed"
	StorageQuota      = "storage_quota"
	DiskFull          = "disk_full"
	DepthLimit        = "depth_limit"
	CallDepth         = "call_depth"
	LimitAboveOwn     = "limit_above_own"
	EgressDenied      = "egress_denied"
	Conflict          = "conflict"
	Internal          = "internal"
)

var statuses = map[string]int{
	BadName: 400, BadRequest: 400, NamespaceNotFound: 404, AppNotFound: 404, ObjectNotFound: 404, FacetNotFound: 404,
	AccessDenied: 403, CrossSite: 403, BodyTooLarge: 413, BadHost: 421, TooManyRequests: 429, ObjectLimit: 429, Overloaded: 503, FacetBackoff: 503,
	FacetCrashed: 502, FacetAborted: 502, FacetProtocol: 502, FacetStart: 502, BuildFailed: 502, FacetTimeout: 504, StorageQuota: 507, DiskFull: 507,
	DepthLimit: 400, CallDepth: 508, LimitAboveOwn: 403, EgressDenied: 403, Conflict: 409, Internal: 500,
}

// Status returns the HTTP status of the problem's code, 500 for an unknown one.
func (e *Error) Status() int {
	if s := statuses[e.Code]; s != 0 {
		return s
	}
	return http.StatusInternalServerError
}

// RetrySeconds is what the header Retry-After says; 0 where there is none to be said.
func (e *Error) RetrySeconds() int {
	s := e.Status()
	if e.RetryAfter <= 0 && s != http.StatusTooManyRequests && s != http.StatusServiceUnavailable {
		return 0
	}
	return max(1, int(math.Ceil(e.RetryAfter.Seconds())))
}

// As returns err as a problem; one that is none becomes an internal error, whose text
// the caller logs but doesn't show, since it may name paths of this machine.
func As(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		// The error itself names a path of the gateway's.
		return &Error{Code: DiskFull, Message: "the disk of the gateway's data directory is full", Hint: "free some space there; nothing was stored"}
	}
	return &Error{Code: Internal, Message: "the gateway failed; its log says why"}
}
