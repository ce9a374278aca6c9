package sqlite

import (
	"bytes"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Some of SQLite's functions take time by the product of their arguments'
// lengths, inside one opcode that nothing interrupts: instr and replace of a
// megabyte, trim and unhex of 90 KB ran for seconds to minutes. They are
// replaced by functions of the same results, linear where the arguments are
// UTF-8 and interruptible always.

// workPerCheck is how many bytes or comparisons a replaced function does
// between two looks at whether it should stop: well under a millisecond.
const workPerCheck = 1 << 18

// work counts down to the next look at Hooks.Progress.
type work struct {
	c    *Conn
	left int
}

// done adds n units of work and tells whether to stop.
func (w *work) done(n int) bool {
	if w.left -= n; w.left > 0 {
		return false
	}
	w.left = workPerCheck
	return w.c.stopped()
}

// call is one call of a function by SQLite.
type call struct {
	tls  *libc.TLS
	ctx  uintptr
	argc int32
	argv uintptr
	*work
}

func (f call) arg(i int) uintptr { return *(*uintptr)(ptr(f.argv + uintptr(i)*8)) }
func (f call) kind(i int) int32  { return lib.Xsqlite3_value_type(f.tls, f.arg(i)) }

// text is argument i as text; ok is false for NULL, and where memory ran out.
func (f call) text(i int) (b []byte, ok bool) {
	p := lib.Xsqlite3_value_text(f.tls, f.arg(i))
	if p == 0 {
		return nil, false
	}
	return bytesAt(p, int(lib.Xsqlite3_value_bytes(f.tls, f.arg(i)))), true
}

func (f call) blob(i int) []byte {
	p := lib.Xsqlite3_value_blob(f.tls, f.arg(i))
	return bytesAt(p, int(lib.Xsqlite3_value_bytes(f.tls, f.arg(i))))
}

func (f call) resultText(b []byte) {
	lib.Xsqlite3_result_text(f.tls, f.ctx, address(b), int32(len(b)), transient)
}

// interrupted ends the statement as sqlite3_interrupt would.
func (f call) interrupted() { lib.Xsqlite3_result_error_code(f.tls, f.ctx, lib.SQLITE_INTERRUPT) }

// output is memory for a result of n bytes, charged to the connection's account; nil after an error was set.
func (f call) output(n int) []byte {
	db := (*lib.Tsqlite3)(ptr(lib.Xsqlite3_context_db_handle(f.tls, f.ctx)))
	if int64(n) > int64(db.FaLimit[lib.SQLITE_LIMIT_LENGTH]) {
		lib.Xsqlite3_result_error_toobig(f.tls, f.ctx)
		return nil
	}
	p := lib.Xsqlite3_malloc64(f.tls, uint64(n)+1)
	if p == 0 {
		lib.Xsqlite3_result_error_nomem(f.tls, f.ctx)
		return nil
	}
	return bytesAt(p, n+1)[:0]
}

// free is SQLite's destructor for what output gave.
var free = callback(lib.Xsqlite3_free)

// function wraps a Go implementation as SQLite calls it.
type function func(f call)

func invoke(tls *libc.TLS, ctx uintptr, argc int32, argv uintptr, fn function) {
	c := owners[tls.ID].Load()
	c.budget.c = c
	fn(call{tls, ctx, argc, argv, &c.budget})
}

func sqlInstr(tls *libc.TLS, ctx uintptr, n int32, v uintptr)   { invoke(tls, ctx, n, v, instr) }
func sqlReplace(tls *libc.TLS, ctx uintptr, n int32, v uintptr) { invoke(tls, ctx, n, v, replace) }
func sqlTrim(tls *libc.TLS, ctx uintptr, n int32, v uintptr) {
	invoke(tls, ctx, n, v, func(f call) { trim(f, true, true) })
}
func sqlLtrim(tls *libc.TLS, ctx uintptr, n int32, v uintptr) {
	invoke(tls, ctx, n, v, func(f call) { trim(f, true, false) })
}
func sqlRtrim(tls *libc.TLS, ctx uintptr, n int32, v uintptr) {
	invoke(tls, ctx, n, v, func(f call) { trim(f, false, true) })
}
func sqlUnhex(tls *libc.TLS, ctx uintptr, n int32, v uintptr) { invoke(tls, ctx, n, v, unhex) }
func sqlLike(tls *libc.TLS, ctx uintptr, n int32, v uintptr) {
	invoke(tls, ctx, n, v, func(f call) { like(f, likePattern) })
}
func sqlGlob(tls *libc.TLS, ctx uintptr, n int32, v uintptr) {
	invoke(tls, ctx, n, v, func(f call) { like(f, globPattern) })
}

// replacedFunctions are the functions that every connection gets.
var replacedFunctions = []struct {
	name string
	args []int32
	fn   uintptr
}{
	{"instr", []int32{2}, callback(sqlInstr)},
	{"replace", []int32{3}, callback(sqlReplace)},
	{"trim", []int32{1, 2}, callback(sqlTrim)},
	{"ltrim", []int32{1, 2}, callback(sqlLtrim)},
	{"rtrim", []int32{1, 2}, callback(sqlRtrim)},
	{"unhex", []int32{1, 2}, callback(sqlUnhex)},
	{"like", []int32{2, 3}, callback(sqlLike)},
	{"glob", []int32{2}, callback(sqlGlob)},
}

// functionNames are the same names as SQLite reads them; they live as long as the process.
var functionNames = func() [][]byte {
	names := make([][]byte, len(replacedFunctions))
	for i, f := range replacedFunctions {
		names[i] = append([]byte(f.name), 0)
	}
	return names
}()

func (c *Conn) replaceFunctions() error {
	const flags = lib.SQLITE_UTF8 | lib.SQLITE_DETERMINISTIC | lib.SQLITE_INNOCUOUS
	for i, f := range replacedFunctions {
		for _, n := range f.args {
			if rc := lib.Xsqlite3_create_function_v2(c.tls, c.db, address(functionNames[i]), n, flags, 0, f.fn, 0, 0, 0); rc != lib.SQLITE_OK {
				return c.fail(rc)
			}
		}
	}
	// The flags let the planner turn LIKE 'abc%' and GLOB 'abc*' into a range of
	// an index; it reads the wildcards from the function's user data.
	for _, l := range []struct {
		name  string
		args  int
		flags uint32
		info  *[4]byte
	}{
		{"like", 2, lib.SQLITE_FUNC_LIKE, &likeInfo},
		{"like", 3, lib.SQLITE_FUNC_LIKE, &likeInfo},
		{"glob", 2, lib.SQLITE_FUNC_LIKE | lib.SQLITE_FUNC_CASE, &globInfo},
	} {
		if def := c.functionDef(l.name, l.args); def != nil {
			def.FfuncFlags |= l.flags
			def.FpUserData = address(l.info[:])
		}
	}
	return nil
}

// instr is the position of the second argument in the first, in characters, or in bytes for blobs.
func instr(f call) {
	if f.kind(0) == lib.SQLITE_NULL || f.kind(1) == lib.SQLITE_NULL {
		return
	}
	var hay, needle []byte
	isText := f.kind(0) != lib.SQLITE_BLOB || f.kind(1) != lib.SQLITE_BLOB
	if !isText {
		hay, needle = f.blob(0), f.blob(1)
	} else {
		var ok1, ok2 bool
		if hay, ok1 = textCopy(f, 0); !ok1 {
			return
		}
		if needle, ok2 = textCopy(f, 1); !ok2 {
			return
		}
	}
	if f.done(len(hay) + len(needle)) {
		f.interrupted()
		return
	}
	pos := index(hay, needle)
	if isText && len(needle) > 0 && continuation(needle[0]) {
		// Characters begin with no continuation byte, but for the text's first byte.
		if !bytes.HasPrefix(hay, needle) {
			pos = -1
		}
	}
	switch {
	case pos < 0:
		lib.Xsqlite3_result_int(f.tls, f.ctx, 0)
	case isText:
		n := int64(1)
		for i := 1; i <= pos; i++ {
			if i < len(hay) && !continuation(hay[i]) || i >= len(hay) {
				n++
			}
		}
		lib.Xsqlite3_result_int64(f.tls, f.ctx, n)
	default:
		lib.Xsqlite3_result_int64(f.tls, f.ctx, int64(pos)+1)
	}
}

func continuation(b byte) bool { return b&0xc0 == 0x80 }

// textCopy is a text argument; a blob is read as text without turning the value
// itself into one, since other functions may have it too.
func textCopy(f call, i int) ([]byte, bool) {
	if f.kind(i) == lib.SQLITE_BLOB {
		return f.blob(i), true
	}
	return f.text(i)
}

// replace puts the third argument wherever the first holds the second, byte by byte.
func replace(f call) {
	s, ok := f.text(0)
	if !ok {
		return
	}
	pattern, ok := f.text(1)
	if !ok {
		return
	}
	if len(pattern) == 0 || pattern[0] == 0 {
		f.resultText(s)
		return
	}
	with, ok := f.text(2)
	if !ok {
		return
	}
	search := newSearcher(pattern)
	n, size := 0, len(s)
	for at := 0; ; n++ {
		i := search.next(s[at:])
		if i < 0 {
			break
		}
		at += i + len(pattern)
		if f.done(i + len(pattern)) {
			f.interrupted()
			return
		}
	}
	size += n * (len(with) - len(pattern))
	out := f.output(size)
	if out == nil {
		return
	}
	rest := s
	for range n {
		i := search.next(rest)
		out = append(append(out, rest[:i]...), with...)
		rest = rest[i+len(pattern):]
	}
	out = append(out, rest...)
	out = append(out, 0)
	lib.Xsqlite3_result_text(f.tls, f.ctx, address(out), int32(len(out)-1), free)
}
