package facet

import (
	"strings"
	"testing"
)

func TestHide(t *testing.T) {
	h := newHider(map[string]string{"A": "hunter2", "B": "hunter2000", "SHORT": "abc", "EMPTY": "", "PEM": "-----BEGIN KEY-----\nMIIBVgIBADAN\r\n-----END KEY-----\n", "SAME": "hunter2"})
	for in, want := range map[string]string{
		"nothing":                        "nothing",
		"panic: hunter2":                 "panic: [secret A]",
		"hunter2000 and hunter2, abc":    "[secret B] and [secret A], abc",
		"MIIBVgIBADAN":                   "[secret PEM]",
		"key=-----BEGIN KEY-----\nother": "key=[secret PEM]\nother",
		"hunter":                         "hunter",
		"\xff hunter2 \xff":              "\xff [secret A] \xff",
	} {
		if got := h.hide(in); got != want {
			t.Errorf("%q: %q, wanted %q", in, got, want)
		}
		if got := string(h.hideBytes([]byte(in))); got != want {
			t.Errorf("bytes %q: %q, wanted %q", in, got, want)
		}
	}
	// In pieces, wherever the border lies.
	h = newHider(map[string]string{"A": "hunter2", "B": "open sesame"})
	const text, hidden = "a open sesame b hunter2 c", "a [secret B] b [secret A] c"
	for at := range len(text) {
		first, held := h.piece(nil, []byte(text[:at]), false)
		second, held := h.piece(held, []byte(text[at:]), true)
		if got := string(first) + string(second); got != hidden || len(held) > 0 {
			t.Errorf("with a border at %d: %q and %q are held", at, got, held)
		}
	}
	for _, none := range []map[string]string{nil, {}, {"A": "abc"}} {
		if h := newHider(none); h != nil || h.hide("abc") != "abc" || string(h.hideBytes([]byte("abc"))) != "abc" {
			t.Errorf("%v hides something", none)
		}
	}
	// As large as secrets may be, of lines that differ little.
	var large strings.Builder
	for large.Len() < maxGiven {
		large.WriteString(strings.Repeat("x", 60))
		large.WriteString(strings.Repeat("y", large.Len()%61))
		large.WriteByte('\n')
	}
	of := newHider(map[string]string{"L": large.String()})
	for _, line := range strings.Split(large.String(), "\n")[:50] {
		if got := of.hide("hello " + line + "."); got != "hello [secret L]." {
			t.Fatalf("a line of a large one: %s", got)
		}
	}
}
