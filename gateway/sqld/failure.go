package sqld

import (
	"errors"
	"strings"

	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
	lib "modernc.org/sqlite/lib"
)

// failure makes an answer's error.
func failure(code, message string) *sqlchan.Failure {
	return &sqlchan.Failure{Code: code, Offset: -1, Message: message}
}

// tooMuch are parts of the messages by which SQLite tells that one of its limits was passed.
var tooMuch = []string{
	"too many", "too large", "too big", "too long", "too complex", "parser stack overflow", "tables in a join", "too deep", "Recursion limit",
	"variable number must be between",
}

// classify names an error of SQLite's. Its message is SQLite's own, except where
// that would say something else than what happened.
func (t *task) classify(err error) *sqlchan.Failure {
	var f *sqlchan.Failure
	if errors.As(err, &f) {
		return f
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return failure(sqlchan.CodeInternal, "the SQL worker failed")
	}
	f = &sqlchan.Failure{Code: sqlchan.CodeSQL, SQLite: e.Code, Offset: e.Offset, Message: e.Message}
	if t.conn != nil && t.conn.seen.denied != "" {
		f.Code, f.Message = sqlchan.CodeDenied, t.conn.seen.denied
		return f
	}
	if stop := t.stopped(); stop != nil && (e.Primary() == sqlite.Interrupt || e.Primary() == sqlite.Busy || e.Primary() == sqlite.NoMem) {
		stop.SQLite = e.Code
		return stop
	}
	switch e.Primary() {
	case sqlite.Auth:
		f.Code = sqlchan.CodeDenied
	case sqlite.Constraint:
		f.Code = sqlchan.CodeConstraint
	case sqlite.Busy, sqlite.Locked:
		f.Code = sqlchan.CodeBusy
	case sqlite.NoMem:
		f.Code, f.Message = sqlchan.CodeMemoryLimit, "the statement needs more memory than a facet's SQL may use ("+size(t.db.limits().Memory)+")"
	case sqlite.TooBig:
		f.Code = sqlchan.CodeSizeLimit
	case sqlite.Full:
		f.Code, f.Message = t.db.full()
	case sqlite.Corrupt, sqlite.NotADB:
		f.Code = sqlchan.CodeCorrupt
	case sqlite.Interrupt:
		f.Code = sqlchan.CodeCancelled
	case sqlite.IOErr:
		switch {
		case e.Code == lib.SQLITE_IOERR_NOMEM:
			f.Code, f.Message = sqlchan.CodeMemoryLimit, "the statement needs more memory than a facet's SQL may use ("+size(t.db.limits().Memory)+")"
		case diskFull():
			f.Code, f.Message = sqlchan.CodeDiskFull, "the disk is full"
		default:
			f.Code = sqlchan.CodeInternal
		}
	case sqlite.CantOpen:
		f.Code, f.Message = sqlchan.CodeInternal, "the database cannot be opened"
	case lib.SQLITE_ERROR:
		for _, part := range tooMuch {
			if strings.Contains(e.Message, part) {
				f.Code = sqlchan.CodeSizeLimit
				break
			}
		}
	}
	return f
}

// orderCode gives the code of what went wrong with an order of the gateway's, "" where there is none: that is the gateway's own failure.
func orderCode(err error) string {
	var e *sqlite.Error
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return sqlchan.CodeDiskFull
	case !errors.As(err, &e):
		return ""
	}
	switch e.Primary() {
	case sqlite.Full: // a copy has no quota of its own
		return sqlchan.CodeDiskFull
	case sqlite.IOErr:
		if diskFull() {
			return sqlchan.CodeDiskFull
		}
	case sqlite.Corrupt, sqlite.NotADB:
		return sqlchan.CodeCorrupt
	case sqlite.NoMem:
		return sqlchan.CodeMemoryLimit
	}
	return ""
}

// full tells whose limit was reached when SQLite says that the database is full.
func (db *database) full() (code, message string) {
	if diskFull() {
		return sqlchan.CodeDiskFull, "the disk is full"
	}
	if l := db.limits(); db.short.Load() {
		return sqlchan.CodeStorageQuota, "the databases of this object may take " + size(l.Object) + " together, its supervisor's storage, and one transaction half of what is left of it"
	}
	return sqlchan.CodeStorageQuota, "the database has reached its storage quota (" + size(db.limits().Storage) + ")"
}

// diskFull tells whether the file system has less room than a transaction may need.
func diskFull() bool {
	var s unix.Statfs_t
	return unix.Statfs(".", &s) == nil && int64(s.Bavail)*s.Bsize < 1<<20
}

// size prints bytes as people write them.
func size(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return itoa(n) + " " + units[i]
}
