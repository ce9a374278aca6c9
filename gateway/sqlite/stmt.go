package sqlite

import (
	"runtime"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Stmt is a prepared statement of a connection.
type Stmt struct {
	c        *Conn
	p        uintptr
	ReadOnly bool // makes no direct change to the database
	Params   int  // the number of its last parameter
	names    []string
}

// Prepare compiles the first statement of sql, which must not hold a NUL. It
// returns nil where there is none (white space, a comment), and the length of
// the text that it took. A statement that will be kept should be persistent.
func (c *Conn) Prepare(sql []byte, persistent bool) (s *Stmt, used int, err error) {
	if c.textCap < len(sql)+1 {
		if c.text != 0 {
			libc.Xfree(c.tls, c.text)
		}
		c.textCap = max(len(sql)+1, 1024)
		if c.text = libc.Xmalloc(c.tls, libc.Tsize_t(c.textCap)); c.text == 0 {
			c.textCap = 0
			return nil, 0, &Error{Code: NoMem, Offset: -1, Message: "out of memory"}
		}
	}
	text := c.text
	copy(bytesAt(text, len(sql)), sql)
	*(*byte)(ptr(text + uintptr(len(sql)))) = 0
	out := c.tls.Alloc(16)
	defer c.tls.Free(16)
	*(*[2]uintptr)(ptr(out)) = [2]uintptr{}
	var flags uint32
	if persistent {
		flags = lib.SQLITE_PREPARE_PERSISTENT
	}
	rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, text, int32(len(sql)+1), flags, out, out+8)
	p, tail := *(*uintptr)(ptr(out)), *(*uintptr)(ptr(out + 8))
	if c.textCap > 64<<10 { // one long text must not stay
		defer func() { libc.Xfree(c.tls, text); c.text, c.textCap = 0, 0 }()
	}
	if rc != lib.SQLITE_OK {
		return nil, 0, c.fail(rc)
	}
	used = len(sql)
	if tail != 0 {
		used = min(int(tail-text), len(sql))
	}
	if p == 0 {
		return nil, used, nil
	}
	s = &Stmt{c: c, p: p, ReadOnly: lib.Xsqlite3_stmt_readonly(c.tls, p) != 0, Params: int(lib.Xsqlite3_bind_parameter_count(c.tls, p))}
	for i := 1; i <= s.Params; i++ {
		if name := lib.Xsqlite3_bind_parameter_name(c.tls, p, int32(i)); name != 0 {
			if s.names == nil {
				s.names = make([]string, s.Params)
			}
			s.names[i-1] = libc.GoString(name)
		}
	}
	return s, used, nil
}

// Close frees the statement.
func (s *Stmt) Close() {
	if s.p != 0 {
		lib.Xsqlite3_finalize(s.c.tls, s.p)
		s.p = 0
	}
}

// Reset ends the current execution and forgets the arguments.
func (s *Stmt) Reset() {
	lib.Xsqlite3_reset(s.c.tls, s.p)
	if s.Params > 0 {
		lib.Xsqlite3_clear_bindings(s.c.tls, s.p)
	}
}

// Step runs to the next row (true) or to the end (false).
func (s *Stmt) Step() (row bool, err error) {
	switch rc := lib.Xsqlite3_step(s.c.tls, s.p); rc {
	case lib.SQLITE_ROW:
		return true, nil
	case lib.SQLITE_DONE:
		return false, nil
	default:
		return false, s.c.fail(rc)
	}
}

// ParamName is the name of parameter i (from 1) with its prefix (":a", "?7"), or "".
func (s *Stmt) ParamName(i int) string {
	if s.names == nil {
		return ""
	}
	return s.names[i-1]
}

func (s *Stmt) bound(rc int32) error {
	if rc != lib.SQLITE_OK {
		return s.c.fail(rc)
	}
	return nil
}

// BindNull, BindInt64, BindFloat64, BindText and BindBlob set parameter i (from 1).
func (s *Stmt) BindNull(i int) error {
	return s.bound(lib.Xsqlite3_bind_null(s.c.tls, s.p, int32(i)))
}

// BindInt64 sets parameter i.
func (s *Stmt) BindInt64(i int, v int64) error {
	return s.bound(lib.Xsqlite3_bind_int64(s.c.tls, s.p, int32(i), v))
}

// BindFloat64 sets parameter i.
func (s *Stmt) BindFloat64(i int, v float64) error {
	return s.bound(lib.Xsqlite3_bind_double(s.c.tls, s.p, int32(i), v))
}

// transient makes SQLite copy what it is given before the call returns.
const transient = ^uintptr(0)

// BindText sets parameter i; v is copied.
func (s *Stmt) BindText(i int, v []byte) error {
	rc := lib.Xsqlite3_bind_text64(s.c.tls, s.p, int32(i), address(v), uint64(len(v)), transient, lib.SQLITE_UTF8)
	runtime.KeepAlive(v)
	return s.bound(rc)
}

// BindBlob sets parameter i; v is copied.
func (s *Stmt) BindBlob(i int, v []byte) error {
	rc := lib.Xsqlite3_bind_blob64(s.c.tls, s.p, int32(i), address(v), uint64(len(v)), transient)
	runtime.KeepAlive(v)
	return s.bound(rc)
}

// Columns is the number of result columns, 0 for a statement that gives none.
func (s *Stmt) Columns() int { return int(lib.Xsqlite3_column_count(s.c.tls, s.p)) }

// ColumnName is the name of column i (from 0).
func (s *Stmt) ColumnName(i int) string {
	return libc.GoString(lib.Xsqlite3_column_name(s.c.tls, s.p, int32(i)))
}

// ColumnDeclType is the type that column i was declared with, "" for an expression.
func (s *Stmt) ColumnDeclType(i int) string {
	return libc.GoString(lib.Xsqlite3_column_decltype(s.c.tls, s.p, int32(i)))
}

// Kinds of values.
const (
	KindInteger = lib.SQLITE_INTEGER
	KindFloat   = lib.SQLITE_FLOAT
	KindText    = lib.SQLITE_TEXT
	KindBlob    = lib.SQLITE_BLOB
	KindNull    = lib.SQLITE_NULL
)

// ColumnKind is the kind of the current row's value.
func (s *Stmt) ColumnKind(i int) int {
	return int(lib.Xsqlite3_column_type(s.c.tls, s.p, int32(i)))
}

// ColumnInt64 is an INTEGER.
func (s *Stmt) ColumnInt64(i int) int64 { return lib.Xsqlite3_column_int64(s.c.tls, s.p, int32(i)) }

// ColumnFloat64 is a REAL.
func (s *Stmt) ColumnFloat64(i int) float64 {
	return lib.Xsqlite3_column_double(s.c.tls, s.p, int32(i))
}

// ColumnText is a TEXT's bytes in SQLite's memory, valid until the next call on the statement.
func (s *Stmt) ColumnText(i int) []byte {
	p := lib.Xsqlite3_column_text(s.c.tls, s.p, int32(i))
	return bytesAt(p, int(lib.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i))))
}

// ColumnBlob is a BLOB's bytes in SQLite's memory, valid until the next call on the statement.
func (s *Stmt) ColumnBlob(i int) []byte {
	p := lib.Xsqlite3_column_blob(s.c.tls, s.p, int32(i))
	return bytesAt(p, int(lib.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i))))
}

// ColumnBytes is the length of a TEXT or a BLOB.
func (s *Stmt) ColumnBytes(i int) int { return int(lib.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i))) }

// Scanned is how many rows the statement stepped over in full scans since the last call.
func (s *Stmt) Scanned() int64 {
	return int64(lib.Xsqlite3_stmt_status(s.c.tls, s.p, lib.SQLITE_STMTSTATUS_FULLSCAN_STEP, 1))
}

// Recompiled is how often SQLite compiled the statement anew because the schema had changed.
func (s *Stmt) Recompiled() int {
	return int(lib.Xsqlite3_stmt_status(s.c.tls, s.p, lib.SQLITE_STMTSTATUS_REPREPARE, 0))
}

// Exec runs one statement without arguments or result.
func (c *Conn) Exec(sql string) error {
	s, _, err := c.Prepare([]byte(sql), false)
	if err != nil || s == nil {
		return err
	}
	defer s.Close()
	for {
		if row, err := s.Step(); err != nil || !row {
			return err
		}
	}
}
