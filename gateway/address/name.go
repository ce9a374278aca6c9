package address

import (
	"fmt"
	"strings"
)

const (
	// MaxName is what a label of a DNS name leaves for namespaces and apps
	// when an origin FACET--OBJECT--NAMESPACE has to fit into 63 bytes.
	MaxName = 40
	// MaxPart bounds the names of objects and facets.
	MaxPart = 256
)

// CheckName checks the name of a namespace or an app:
// [a-z0-9]([a-z0-9-]{0,38}[a-z0-9])? without "--".
func CheckName(s string) error {
	why := ""
	switch {
	case s == "":
		why = "it is empty"
	case len(s) > MaxName:
		why = fmt.Sprintf("it has %d bytes, at most %d are allowed", len(s), MaxName)
	case strings.Contains(s, "--"):
		why = `"--" is kept for origins`
	case s[0] == '-' || s[len(s)-1] == '-':
		why = "it must begin and end with a letter or digit"
	default:
		for i := range len(s) {
			if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				why = "only a-z, 0-9 and - are allowed"
			}
		}
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%w %q: %s", ErrBadName, clip(s), why)
}

// CheckPart checks the name of an object or a facet: 1 to 256 bytes, no NUL.
func CheckPart(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: the name of an object or a facet is empty", ErrBadName)
	case len(s) > MaxPart:
		return fmt.Errorf("%w %q: it has %d bytes, at most %d are allowed", ErrBadName, clip(s), len(s), MaxPart)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w %q: it holds a NUL", ErrBadName, clip(s))
	}
	return nil
}

// clip keeps a hostile name from filling an error message.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return s[:61] + "..."
}

const hexDigits = "0123456789ABCDEF"

// Encode percent-encodes every byte outside A-Za-z0-9._~-.
func Encode(s string) string {
	n := 0
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

// Decode undoes Encode, and leaves bytes that need not be encoded as they are.
func Decode(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%w %q: a percent sign must begin two hexadecimal digits", ErrBadName, clip(s))
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%w %q: a percent sign must begin two hexadecimal digits", ErrBadName, clip(s))
		}
		b = append(b, byte(hi<<4|lo))
		i += 2
	}
	return string(b), nil
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
