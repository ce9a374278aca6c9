package sqlite

import (
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Error is a failure that SQLite reported.
type Error struct {
	Code    int // extended result code
	Offset  int // of the error in the SQL text, -1 where there is none
	Message string
}

func (e *Error) Error() string { return e.Message }

// Primary is the result code without its extension.
func (e *Error) Primary() int { return e.Code & 0xff }

// Result codes that callers decide by.
const (
	Busy       = lib.SQLITE_BUSY
	NoMem      = lib.SQLITE_NOMEM
	ReadOnly   = lib.SQLITE_READONLY
	Interrupt  = lib.SQLITE_INTERRUPT
	IOErr      = lib.SQLITE_IOERR
	Corrupt    = lib.SQLITE_CORRUPT
	Full       = lib.SQLITE_FULL
	CantOpen   = lib.SQLITE_CANTOPEN
	TooBig     = lib.SQLITE_TOOBIG
	Constraint = lib.SQLITE_CONSTRAINT
	Auth       = lib.SQLITE_AUTH
	NotADB     = lib.SQLITE_NOTADB
	Locked     = lib.SQLITE_LOCKED
)

// fail makes the error of result code rc, with what the connection knows about it.
func (c *Conn) fail(rc int32) *Error {
	e := &Error{Code: int(rc), Offset: -1}
	if c.db != 0 {
		if x := lib.Xsqlite3_extended_errcode(c.tls, c.db); x&0xff == rc&0xff {
			e.Code = int(x)
		}
		e.Message = libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db))
		e.Offset = int(lib.Xsqlite3_error_offset(c.tls, c.db))
	}
	if e.Message == "" || e.Message == "not an error" {
		e.Message = libc.GoString(lib.Xsqlite3_errstr(c.tls, rc))
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("SQLite error %d", rc)
	}
	return e
}
