package sqlite

import (
	"bytes"

	lib "modernc.org/sqlite/lib"
)

// trim removes characters of the second argument (a space without one) from the
// ends of the first.
func trim(f call, left, right bool) {
	if f.kind(0) == lib.SQLITE_NULL {
		return
	}
	s, ok := f.text(0)
	if !ok {
		return
	}
	set := []byte{' '}
	if f.argc == 2 {
		if set, ok = f.text(1); !ok {
			return
		}
	}
	if i := bytes.IndexByte(set, 0); i >= 0 { // the set is read as a C string
		set = set[:i]
	}
	chars, stop := newCharset(set, f)
	if stop {
		f.interrupted()
		return
	}
	if left {
		for len(s) > 0 {
			n, stop := chars.prefix(s, f)
			if stop {
				f.interrupted()
				return
			}
			if n == 0 {
				break
			}
			s = s[n:]
		}
	}
	if right {
		for len(s) > 0 {
			n, stop := chars.suffix(s, f)
			if stop {
				f.interrupted()
				return
			}
			if n == 0 {
				break
			}
			s = s[:len(s)-n]
		}
	}
	f.resultText(s)
}

// shortSet is the length of a set, in bytes, up to which it is not worth a table for its long characters.
const shortSet = 64

// bits is a set of numbers. Tables of it are all that is made of a set of characters, so that
// one of megabytes takes no more memory of Go's, which no account is charged for, than a short one.
type bits []uint64

func (b bits) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }
func (b bits) add(i uint32)      { b[i/64] |= 1 << (i % 64) }

// payloadBits is how many bits a character carries whose first byte announces so many bytes.
var payloadBits = [5]int{2: 11, 3: 16, 4: 21}

// charset is a set of characters as SQLite splits a text into them: a byte
// under 0xc0, or one above with all continuation bytes that follow.
type charset struct {
	set []byte
	// Where no character is a prefix or suffix of another, one look tells. That is so where all are single
	// bytes, or all of the length that the first byte announces. Else the set is gone through in the order
	// given, and the first character that fits counts.
	regular bool
	long    bool // it has characters of several bytes
	single  [4]uint64
	multi   [5]bits // by length: the bits that the bytes carry, which tell one character from another of its length
}

func newCharset(set []byte, f call) (c *charset, stop bool) {
	c = &charset{set: set}
	odd := false // single bytes that announce another length
	for rest := set; len(rest) > 0; {
		n := charLen(rest)
		if f.done(n) {
			return nil, true
		}
		char := rest[:n]
		rest = rest[n:]
		switch {
		case n == 1:
			odd = odd || char[0] >= 0x80
			bits(c.single[:]).add(uint32(char[0]))
		case len(set) > shortSet && n == announced(char[0]):
			c.long = true
			if c.multi[n] == nil {
				c.multi[n] = make(bits, 1<<payloadBits[n]/64)
			}
			c.multi[n].add(payload(char))
		default:
			return c, false
		}
	}
	c.regular = !odd || !c.long
	return c, false
}

// payload is the bits that a character's bytes carry which is of the length that the first announces.
func payload(char []byte) uint32 {
	v := utf8First(char[0])
	for _, b := range char[1:] {
		v = v<<6 | uint32(b&0x3f)
	}
	return v
}

// charLen is the length of the first character as SQLite sees it.
func charLen(b []byte) int {
	n := 1
	if b[0] >= 0xc0 {
		for n < len(b) && continuation(b[n]) {
			n++
		}
	}
	return n
}

// announced is the length that a first byte stands for in UTF-8, 0 for none.
func announced(b byte) int {
	switch {
	case b < 0x80:
		return 1
	case b < 0xc0:
		return 0
	case b < 0xe0:
		return 2
	case b < 0xf0:
		return 3
	case b < 0xf8:
		return 4
	}
	return 0
}

func (c *charset) has(char []byte) bool {
	if len(char) == 1 {
		return bits(c.single[:]).has(uint32(char[0]))
	}
	return c.multi[len(char)].has(payload(char))
}

// prefix is the length of a character of the set that s begins with, 0 for none.
func (c *charset) prefix(s []byte, f call) (n int, stop bool) {
	if !c.regular {
		return c.first(f, func(char []byte) bool { return bytes.HasPrefix(s, char) })
	}
	if n = 1; c.long {
		n = announced(s[0])
	}
	if n == 0 || n > len(s) || n > 1 && charLen(s[:n]) != n || !c.has(s[:n]) {
		n = 0
	}
	return n, f.done(1)
}

// suffix is the length of a character of the set that s ends with, 0 for none.
func (c *charset) suffix(s []byte, f call) (n int, stop bool) {
	if !c.regular {
		return c.first(f, func(char []byte) bool { return bytes.HasSuffix(s, char) })
	}
	n = 1
	for c.long && n < 4 && n < len(s) && continuation(s[len(s)-n]) {
		n++
	}
	if char := s[len(s)-n:]; c.long && announced(char[0]) != n || !c.has(char) {
		n = 0
	}
	return n, f.done(1)
}

// first is the length of the set's first character that fits, 0 for none.
func (c *charset) first(f call, fits func(char []byte) bool) (n int, stop bool) {
	for rest := c.set; len(rest) > 0; rest = rest[n:] {
		n = charLen(rest)
		if f.done(n) {
			return 0, true
		}
		if fits(rest[:n]) {
			return n, false
		}
	}
	return 0, false
}

// unhex decodes hexadecimal digits; characters of the second argument may stand
// between the pairs. The result is NULL for anything else.
func unhex(f call) {
	s, ok := f.text(0)
	if !ok {
		return
	}
	var pass []byte
	if f.argc == 2 {
		if pass, ok = f.text(1); !ok {
			return
		}
	}
	ignored, stop := newRuneSet(pass, f)
	if stop {
		f.interrupted()
		return
	}
	out := f.output((len(s) + 1) / 2)
	if out == nil {
		return
	}
	drop := func() { lib.Xsqlite3_free(f.tls, address(out[:1])) }
	if i := bytes.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	for len(s) > 0 {
		if f.done(1) {
			drop()
			f.interrupted()
			return
		}
		high, isHex := hexDigit(s[0])
		if !isHex {
			char, n := readUTF8(s)
			has, stop := ignored.has(char, f)
			if !has {
				drop()
				if stop {
					f.interrupted()
				}
				return
			}
			s = s[n:]
			continue
		}
		if len(s) < 2 {
			drop()
			return
		}
		low, isHex := hexDigit(s[1])
		if !isHex {
			drop()
			return
		}
		out = append(out, high<<4|low)
		s = s[2:]
	}
	lib.Xsqlite3_result_blob(f.tls, f.ctx, address(out[:1]), int32(len(out)), free)
}

func hexDigit(b byte) (byte, bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return b | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// runeSet is a set of characters by number, as SQLite decodes them.
type runeSet struct {
	set   []byte
	first [4]uint64 // of the numbers up to 255
	table bits      // of those below maxRune, for a long set
	more  bool      // it has others, for which it is gone through
}

// maxRune is the end of the numbers that a table is made for: all that well-formed UTF-8 has.
const maxRune = 1 << 21

func newRuneSet(set []byte, f call) (r *runeSet, stop bool) {
	r = &runeSet{set: set}
	for len(set) > 0 {
		char, n := readUTF8(set)
		if f.done(n) {
			return nil, true
		}
		set = set[n:]
		switch {
		case char < 256:
			bits(r.first[:]).add(char)
		case len(r.set) > shortSet && char < maxRune:
			if r.table == nil {
				r.table = make(bits, maxRune/64)
			}
			r.table.add(char)
		default:
			r.more = true
		}
	}
	return r, false
}

func (r *runeSet) has(char uint32, f call) (has, stop bool) {
	if char < 256 {
		return bits(r.first[:]).has(char), false
	}
	if r.table.has(char) || !r.more {
		return r.table.has(char), false
	}
	for rest := r.set; len(rest) > 0; {
		c, n := readUTF8(rest)
		if f.done(n) {
			return false, true
		}
		if c == char {
			return true, false
		}
		rest = rest[n:]
	}
	return false, false
}

// utf8First is the part of a character that each first byte from 0xc0 on carries,
// as SQLite reads them, malformed ones too.
func utf8First(b byte) uint32 {
	switch {
	case b < 0xe0:
		return uint32(b & 0x1f)
	case b < 0xf0:
		return uint32(b & 0x0f)
	case b < 0xf8:
		return uint32(b & 0x07)
	case b < 0xfc:
		return uint32(b & 0x03)
	case b < 0xfe:
		return uint32(b & 0x01)
	}
	return 0
}

// readUTF8 reads one character as SQLite does, and its length.
func readUTF8(b []byte) (char uint32, n int) {
	char = uint32(b[0])
	if char < 0xc0 {
		return char, 1
	}
	char, n = utf8First(b[0]), 1
	for n < len(b) && continuation(b[n]) {
		char = char<<6 + uint32(b[n]&0x3f)
		n++
	}
	if char < 0x80 || char&0xFFFFF800 == 0xD800 {
		char = 0xFFFD
	}
	return char, n
}
