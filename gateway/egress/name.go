package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of names (RFC 1035 §2.3.4).
const (
	maxName  = 253
	maxLabel = 63
)

// parseHost brings a host into its canonical form: an address, or a name.
func parseHost(s string) (string, netip.Addr, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return "", netip.Addr{}, errors.New("an address with a zone names one of the gateway's own links")
		}
		addr = addr.Unmap()
		return addr.String(), addr, nil
	}
	name, err := canonicalName(s)
	return name, netip.Addr{}, err
}

// canonicalName returns a DNS name in lower case, in ASCII, without its final dot.
func canonicalName(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", errors.New("it is empty")
	}
	if len(s) > 4*maxName { // room for other scripts' bytes; the result is measured below
		return "", errors.New("a name of more than 253 bytes")
	}
	var labels []string
	for label := range strings.SplitSeq(s, ".") {
		l, err := canonicalLabel(label)
		if err != nil {
			return "", err
		}
		labels = append(labels, l)
	}
	// Some resolvers and system calls read 2130706433, 0x7f.1 or 127.1 as an address. No
	// top-level domain is a number, so one means an address in a form that netip does not know.
	if last := labels[len(labels)-1]; numeric(last) {
		return "", errors.New("a number, and not an IPv4 address of four decimal parts")
	}
	name := strings.Join(labels, ".")
	if len(name) > maxName {
		return "", errors.New("a name of more than 253 bytes")
	}
	return name, nil
}

func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// canonicalLabel maps one label as IDNA does for names in everyday use: letters to lower case, other
// scripts to Punycode. It does not compose characters (NFC): a label in decomposed form becomes
// another name than its author meant, which nobody has allowed.
func canonicalLabel(label string) (string, error) {
	if label == "" {
		return "", errors.New("an empty label (two dots, or a dot at its beginning)")
	}
	if !utf8.ValidString(label) {
		return "", errors.New("not UTF-8")
	}
	var runes []rune
	ascii := true
	for _, r := range label {
		r = unicode.ToLower(r)
		switch {
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
		case r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)):
			ascii = false
		default:
			return "", fmt.Errorf("%q does not belong in a name", r)
		}
		runes = append(runes, r)
	}
	if runes[0] == '-' || runes[len(runes)-1] == '-' {
		return "", errors.New("a label that begins or ends with a hyphen")
	}
	out := string(runes)
	if !ascii {
		if len(runes) > maxLabel {
			return "", errors.New("a label of more than 63 bytes")
		}
		out = "xn--" + punycode(runes)
	}
	if len(out) > maxLabel {
		return "", errors.New("a label of more than 63 bytes")
	}
	return out, nil
}
