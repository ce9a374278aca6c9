package facet

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// hider takes a facet's secrets out of what it prints and says of itself: logs and reasons of crashes are read by more people than may
// know a secret, and a program that dies prints what it had at hand. Only what stands there as it is can be found: one that the facet
// has encoded, cut or put together anew passes.
type hider struct {
	of      *strings.Replacer
	longest int // of what is looked for, at most maxHeld
}

const (
	leastSecret = 4    // bytes; a shorter one would be found everywhere
	mostParts   = 4096 // of all secrets together
	maxHeld     = 8 << 10
)

// newHider hides secrets, by name; a value of several lines also line by line, as it is printed. nil hides nothing.
func newHider(secrets map[string]string) *hider {
	type part struct{ text, name string }
	var parts []part
	for name, value := range secrets {
		for _, text := range append([]string{value}, strings.Split(value, "\n")...) {
			if text = strings.TrimSpace(text); len(text) >= leastSecret {
				parts = append(parts, part{text, name})
			}
		}
	}
	// The longer first: where one begins like another it is the one that is meant.
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(len(b.text), len(a.text)), cmp.Compare(a.text, b.text), cmp.Compare(a.name, b.name))
	})
	parts = slices.CompactFunc(parts, func(a, b part) bool { return a.text == b.text })
	if len(parts) == 0 {
		return nil
	}
	var pairs []string
	for _, p := range parts[:min(len(parts), mostParts)] {
		pairs = append(pairs, p.text, "[secret "+p.name+"]")
	}
	return &hider{strings.NewReplacer(pairs...), min(len(parts[0].text), maxHeld)}
}

// cost is what was spent on hiding as the time for which the facet may not go on: text that looks like many of its secrets, of which
// it can have 1 MiB, takes long, up to 85 ms for 16 KiB, and one facet must not have a core of the gateway's for that.
func cost(since time.Time) time.Duration {
	if spent := time.Since(since); spent > time.Millisecond {
		return 9 * spent
	}
	return 0
}

// piece hides secrets in a text that comes in pieces, begun by what was held back of the one before. Unless it is the last, what may
// begin a secret that the next one ends is held back.
func (h *hider) piece(held, text []byte, last bool) (out, hold []byte) {
	if h == nil {
		return text, nil
	}
	text = h.hideBytes(append(held, text...))
	at := len(text)
	if !last {
		at = max(0, at-(h.longest-1))
	}
	return text[:at], slices.Clone(text[at:])
}

func (h *hider) hide(s string) string {
	if h == nil {
		return s
	}
	return h.of.Replace(s)
}

func (h *hider) hideBytes(b []byte) []byte {
	if h == nil {
		return b
	}
	return []byte(h.of.Replace(string(b)))
}
