package sqlite

import (
	"bytes"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// pattern is what distinguishes LIKE from GLOB.
type pattern struct {
	all, one, set uint32 // the characters for any text, any character, a set of characters
	noCase        bool
}

var (
	likePattern = pattern{all: '%', one: '_', noCase: true}
	globPattern = pattern{all: '*', one: '?', set: '['}

	// The same as the planner reads it; they live as long as the process.
	likeInfo = [4]byte{'%', '_', 0, 1}
	globInfo = [4]byte{'*', '?', '[', 0}
)

// Messages that SQLite's own functions have.
const (
	msgPattern = "LIKE or GLOB pattern too complex"
	msgEscape  = "ESCAPE expression must be a single character"
)

func (f call) fail(message string) {
	p := append([]byte(message), 0)
	lib.Xsqlite3_result_error(f.tls, f.ctx, address(p), int32(len(message)))
}

// like compares a text (the second argument) with a pattern (the first).
func like(f call, p pattern) {
	if f.kind(0) == lib.SQLITE_BLOB || f.kind(1) == lib.SQLITE_BLOB {
		lib.Xsqlite3_result_int(f.tls, f.ctx, 0)
		return
	}
	db := (*lib.Tsqlite3)(ptr(lib.Xsqlite3_context_db_handle(f.tls, f.ctx)))
	if lib.Xsqlite3_value_bytes(f.tls, f.arg(0)) > db.FaLimit[lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH] {
		f.fail(msgPattern)
		return
	}
	escape := p.set
	if f.argc == 3 {
		text, ok := f.text(2)
		if !ok {
			return
		}
		text = cString(text)
		if len(text) == 0 || charLen(text) != len(text) {
			f.fail(msgEscape)
			return
		}
		escape, _ = readUTF8(text)
		if escape == p.all {
			p.all = 0
		}
		if escape == p.one {
			p.one = 0
		}
	}
	pat, ok := f.text(0)
	if !ok {
		return
	}
	s, ok := f.text(1)
	if !ok {
		return
	}
	m := matcher{p, escape, f.work, false}
	result := m.match(cString(pat), cString(s))
	if m.stop {
		f.interrupted()
		return
	}
	lib.Xsqlite3_result_int(f.tls, f.ctx, libc.BoolInt32(result == matched))
}

// cString is b up to its first NUL, where SQLite's pattern matching stops.
func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// What a comparison found: noWildcard says that no later start of the last
// wildcard's text can match either, which is what keeps many wildcards cheap.
const (
	matched = iota
	noMatch
	noWildcard
)

// matcher compares as SQLite's patternCompare does.
type matcher struct {
	pattern
	other uint32 // the escape character of LIKE, the [ of GLOB
	work  *work
	stop  bool
}

// read takes one character; 0 at the end.
func read(b *[]byte) uint32 {
	if len(*b) == 0 {
		return 0
	}
	if c := (*b)[0]; c < 0x80 {
		*b = (*b)[1:]
		return uint32(c)
	}
	c, n := readUTF8(*b)
	*b = (*b)[n:]
	return c
}

func lower(c uint32) uint32 {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func (m *matcher) match(pat, s []byte) int {
	escaped := -1 // the length of the pattern's rest right after an escaped character
	for {
		if m.work.done(1) {
			m.stop = true
			return noWildcard
		}
		c := read(&pat)
		if c == 0 {
			break
		}
		if c == m.all {
			return m.wildcard(pat, s)
		}
		if c == m.other {
			if m.set != 0 {
				in := m.inSet(&pat, &s)
				if m.stop {
					return noWildcard
				}
				if !in {
					return noMatch
				}
				continue
			}
			if c = read(&pat); c == 0 {
				return noMatch
			}
			escaped = len(pat)
		}
		before := len(s)
		c2 := read(&s)
		if n := before - len(s); n > 4 && m.work.done(n) { // a malformed character can be megabytes long
			m.stop = true
			return noWildcard
		}
		if c == c2 {
			continue
		}
		if m.noCase && c < 0x80 && c2 < 0x80 && lower(c) == lower(c2) {
			continue
		}
		if c == m.one && len(pat) != escaped && c2 != 0 {
			continue
		}
		return noMatch
	}
	if len(s) == 0 {
		return matched
	}
	return noMatch
}

// wildcard matches what stands in the pattern after a character for any text.
func (m *matcher) wildcard(pat, s []byte) int {
	c := read(&pat)
	for ; c == m.all && c != 0 || c == m.one && m.one != 0; c = read(&pat) {
		if c == m.one && read(&s) == 0 {
			return noWildcard
		}
	}
	if c == 0 {
		return matched
	}
	if c == m.other {
		if m.set != 0 {
			return m.wildcardSet(pat, s)
		}
		if c = read(&pat); c == 0 {
			return noWildcard
		}
	}
	for {
		if c < 0x80 {
			i := m.indexASCII(s, byte(c))
			if i < 0 || m.stop {
				return noWildcard
			}
			s = s[i+1:]
		} else {
			c2 := read(&s)
			if c2 == 0 {
				return noWildcard
			}
			if c2 != c {
				if m.work.done(1) {
					m.stop = true
					return noWildcard
				}
				continue
			}
		}
		if r := m.match(pat, s); r != noMatch {
			return r
		}
	}
}

// indexChunk is how much of a text is searched at once for the two cases of a letter: the one that
// is missing must not be looked for in all of a text each time that the other one is found.
const indexChunk = 1 << 10

func (m *matcher) indexASCII(s []byte, c byte) int {
	other := c
	if m.noCase {
		switch {
		case c >= 'a' && c <= 'z':
			other = c - 'a' + 'A'
		case c >= 'A' && c <= 'Z':
			other = c - 'A' + 'a'
		}
	}
	for at := 0; at < len(s); at += indexChunk {
		chunk := s[at:min(at+indexChunk, len(s))]
		i := bytes.IndexByte(chunk, c)
		if other != c {
			if i >= 0 {
				chunk = chunk[:i]
			}
			if j := bytes.IndexByte(chunk, other); j >= 0 {
				i = j
			}
		}
		if i >= 0 {
			return at + i
		}
		if m.work.done(indexChunk / 16) {
			m.stop = true
			return -1
		}
	}
	return -1
}

// wildcardSet handles a set that follows a wildcard at once; pat stands behind its [.
func (m *matcher) wildcardSet(pat, s []byte) int {
	whole := append([]byte{byte(m.set)}, pat...)
	for len(s) > 0 {
		if r := m.match(whole, s); r != noMatch {
			return r
		}
		s = s[charLen(s):]
	}
	return noWildcard
}

// inSet matches one character against a set of GLOB's, behind its [. It counts as work what it reads.
func (m *matcher) inSet(pat, s *[]byte) bool {
	before := len(*pat) + len(*s)
	defer func() {
		if m.work.done(before - len(*pat) - len(*s)) {
			m.stop = true
		}
	}()
	c := read(s)
	if c == 0 {
		return false
	}
	var prior uint32
	seen, invert := false, false
	c2 := read(pat)
	if c2 == '^' {
		invert = true
		c2 = read(pat)
	}
	if c2 == ']' {
		seen = c == ']'
		c2 = read(pat)
	}
	for c2 != 0 && c2 != ']' {
		if c2 == '-' && len(*pat) > 0 && (*pat)[0] != ']' && prior > 0 {
			c2 = read(pat)
			if c >= prior && c <= c2 {
				seen = true
			}
			prior = 0
		} else {
			if c == c2 {
				seen = true
			}
			prior = c2
		}
		c2 = read(pat)
	}
	return c2 != 0 && seen != invert
}
