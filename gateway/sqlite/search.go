package sqlite

import "bytes"

// shortNeedle is the length up to which bytes.Index is used: its cost is
// bounded by the product of text and needle, and it is vectorised. For longer
// ones it hashes, and texts that collide under its hash can be written on purpose.
const shortNeedle = 32

// index is the first position of needle in s, or -1, in time linear in both.
func index(s, needle []byte) int {
	return newSearcher(needle).next(s)
}

// searcher looks for one needle: the two-way algorithm of Crochemore and Perrin
// (linear time, constant memory) for long ones.
type searcher struct {
	needle   []byte
	split    int // where the needle's two factors meet
	period   int
	periodic bool // the left factor repeats at the period
}

func newSearcher(needle []byte) *searcher {
	s := &searcher{needle: needle}
	if len(needle) <= shortNeedle {
		return s
	}
	less, lessPeriod := maximalSuffix(needle, false)
	more, morePeriod := maximalSuffix(needle, true)
	s.split, s.period = less, lessPeriod
	if more > less {
		s.split, s.period = more, morePeriod
	}
	if s.period+s.split <= len(needle) && bytes.Equal(needle[:s.split], needle[s.period:s.period+s.split]) {
		s.periodic = true
	} else {
		s.period = max(s.split, len(needle)-s.split) + 1
	}
	return s
}

// maximalSuffix is the start of the needle's greatest suffix in byte order, or
// in its reverse, and the period of that suffix.
func maximalSuffix(n []byte, reverse bool) (start, period int) {
	i, j, k, p := -1, 0, 1, 1
	for j+k < len(n) {
		a, b := n[j+k], n[i+k]
		if reverse {
			a, b = b, a
		}
		switch {
		case a < b:
			j += k
			k = 1
			p = j - i
		case a == b:
			if k == p {
				j += p
				k = 1
			} else {
				k++
			}
		default:
			i = j
			j, k, p = i+1, 1, 1
		}
	}
	return i + 1, p
}

// next is the first position of the needle in s, or -1.
func (s *searcher) next(text []byte) int {
	n := s.needle
	if len(n) <= shortNeedle {
		return bytes.Index(text, n)
	}
	memory := 0 // how much of the needle's start is known to match
	for at := 0; at+len(n) <= len(text); {
		window := text[at : at+len(n)]
		i := max(s.split, memory)
		for i < len(n) && n[i] == window[i] {
			i++
		}
		if i < len(n) {
			at += i - s.split + 1
			memory = 0
			continue
		}
		i = s.split - 1
		for i >= memory && n[i] == window[i] {
			i--
		}
		if i < memory {
			return at
		}
		at += s.period
		memory = 0
		if s.periodic {
			memory = len(n) - s.period
		}
	}
	return -1
}
