package facet

import (
	"cmp"
	"slices"
	"strings"
)

// hider takes a facet's secrets out of what it prints and says of itself: logs and reasons of crashes are read by more people than may
// know a secret, and a program that dies prints what it had at hand. Only what stands there as it is can be found: one that the facet
// has encoded, cut or put together anew passes.
type hider struct{ of *strings.Replacer }

const (
	leastSecret = 4    // bytes; a shorter one would be found everywhere
	mostParts   = 4096 // of all secrets together
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
	return &hider{strings.NewReplacer(pairs...)}
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
