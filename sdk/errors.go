package sdk

import (
	"errors"
	"strings"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

var (
	// ErrNotFound means that there is nothing by that name or key.
	ErrNotFound = errors.New("not found")
	// ErrNoEgress means that this facet was granted no outgoing requests.
	ErrNoEgress = errors.New("this facet was granted no egress")
	// ErrLimit is matched (errors.Is) by every error that tells of a limit which was
	// reached: time, memory, size, storage. The error's text says which one.
	ErrLimit = errors.New("limit reached")
)

// FacetError is an error that the gateway reports, with a code that programs can rely on:
// facet_crashed, facet_aborted, facet_timeout, storage_quota, build_failed and the other codes of the HTTP side.
type FacetError struct {
	Code    string
	Message string
	Stack   string // of the panic behind it, where there is one

	// RetryAfter is when another try makes sense, for what passes by itself (facet_backoff, overloaded,
	// too_many_requests); 0 where nothing is known.
	RetryAfter time.Duration
}

func (e *FacetError) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Message
}

// Is reports ErrLimit for codes that tell of a limit, and ErrNotFound for those that say that there is no such facet, app, object or namespace.
func (e *FacetError) Is(target error) bool {
	return target == ErrLimit && isLimit(e.Code) || target == ErrNotFound && strings.HasSuffix(e.Code, "_not_found")
}

// SQLError is an error of the database. errors.As finds it in what database/sql returns; it is found
// as a *FacetError, too.
//
// Codes: sql_error, constraint, denied, statement_timeout, cancelled, busy, memory_limit, result_limit, size_limit,
// storage_quota, disk_full, too_many_sessions, too_many_requests, tx_idle, commit_unknown, corrupt, no_database,
// protocol, internal; there may be others.
type SQLError struct {
	Code    string
	Message string
	SQLite  int // SQLite's extended result code, such as 2067 for a UNIQUE constraint; 0 where SQLite had no part
	Offset  int // in bytes, of the error in the SQL text; -1 where it is not known
}

func (e *SQLError) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Message
}

// Is reports ErrLimit for codes that tell of a limit.
func (e *SQLError) Is(target error) bool { return target == ErrLimit && isLimit(e.Code) }

// As gives the error as a *FacetError.
func (e *SQLError) As(target any) bool {
	fe, ok := target.(**FacetError)
	if ok {
		*fe = &FacetError{Code: e.Code, Message: e.Message}
	}
	return ok
}

// isLimit tells which codes speak of a limit.
func isLimit(code string) bool {
	switch code {
	case sqlchan.CodeStatementTimeout, sqlchan.CodeMemoryLimit, sqlchan.CodeResultLimit, sqlchan.CodeSizeLimit, sqlchan.CodeStorageQuota,
		sqlchan.CodeTooManySessions, sqlchan.CodeTooManyRequests, sqlchan.CodeTxIdle, "facet_timeout", "body_too_large", "overloaded", "object_limit", "call_depth":
		return true
	}
	return false
}
