package sqlite

import (
	"bytes"
	"sort"

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
	chars := newCharset(set)
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

// charset is a set of characters as SQLite splits a text into them: a byte
// under 0xc0, or one above with all continuation bytes that follow.
type charset struct {
	// Where every character is of the length that its first byte announces, none
	// is a prefix or suffix of another, and one look tells.
	regular bool
	ascii   [4]uint64
	multi   []uint32 // sorted: the bytes of a longer character, the first one highest

	chars [][]byte // otherwise: in the order given, the first that fits counts
}

func newCharset(set []byte) *charset {
	c := &charset{regular: true}
	for rest := set; len(rest) > 0; {
		n := charLen(rest)
		char := rest[:n]
		rest = rest[n:]
		switch {
		case n == 1 && char[0] < 0x80:
			c.ascii[char[0]/64] |= 1 << (char[0] % 64)
		case n >= 2 && n == announced(char[0]):
			c.multi = append(c.multi, pack(char))
		default:
			c.regular = false
		}
	}
	if c.regular {
		sort.Slice(c.multi, func(i, j int) bool { return c.multi[i] < c.multi[j] })
		return c
	}
	c.multi = nil
	for rest := set; len(rest) > 0; {
		n := charLen(rest)
		c.chars = append(c.chars, rest[:n:n])
		rest = rest[n:]
	}
	return c
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

func pack(b []byte) (v uint32) {
	for _, x := range b {
		v = v<<8 | uint32(x)
	}
	return v
}

func (c *charset) has(char []byte) bool {
	if len(char) == 1 {
		return char[0] < 0x80 && c.ascii[char[0]/64]&(1<<(char[0]%64)) != 0
	}
	v := pack(char)
	i := sort.Search(len(c.multi), func(i int) bool { return c.multi[i] >= v })
	return i < len(c.multi) && c.multi[i] == v
}

// prefix is the length of a character of the set that s begins with, 0 for none.
func (c *charset) prefix(s []byte, f call) (n int, stop bool) {
	if c.regular {
		n = announced(s[0])
		if n == 0 || n > len(s) || !c.has(s[:n]) {
			n = 0
		}
		return n, f.done(1)
	}
	for i, char := range c.chars {
		if bytes.HasPrefix(s, char) {
			return len(char), f.done(i + 1)
		}
		if i%1024 == 1023 && f.done(1024) {
			return 0, true
		}
	}
	return 0, f.done(len(c.chars) % 1024)
}

// suffix is the length of a character of the set that s ends with, 0 for none.
func (c *charset) suffix(s []byte, f call) (n int, stop bool) {
	if c.regular {
		for n = 1; n < 4 && n < len(s) && continuation(s[len(s)-n]); n++ {
		}
		char := s[len(s)-n:]
		if announced(char[0]) != n || !c.has(char) {
			n = 0
		}
		return n, f.done(1)
	}
	for i, char := range c.chars {
		if bytes.HasSuffix(s, char) {
			return len(char), f.done(i + 1)
		}
		if i%1024 == 1023 && f.done(1024) {
			return 0, true
		}
	}
	return 0, f.done(len(c.chars) % 1024)
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
	ignored := newRuneSet(pass)
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
			if !ignored.has(char) {
				drop()
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
type runeSet []uint32

func newRuneSet(set []byte) runeSet {
	var r runeSet
	for len(set) > 0 {
		char, n := readUTF8(set)
		r = append(r, char)
		set = set[n:]
	}
	sort.Slice(r, func(i, j int) bool { return r[i] < r[j] })
	return r
}

func (r runeSet) has(char uint32) bool {
	i := sort.Search(len(r), func(i int) bool { return r[i] >= char })
	return i < len(r) && r[i] == char
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
