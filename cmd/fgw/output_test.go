package main

import (
	"strings"
	"testing"
)

func TestByteCount(t *testing.T) {
	for n, want := range map[byteCount]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 64 << 20: "64 MiB", 1<<30 - 1: "1 GiB", 5 << 40: "5 TiB"} {
		if got := n.String(); got != want {
			t.Errorf("%d is %q, wanted %q", int64(n), got, want)
		}
	}
}

// What an app names or prints must not command the reader's terminal.
func TestTablesHoldNoControlCharacters(t *testing.T) {
	var b strings.Builder
	table(&b, "A | B", func(row func(...any)) { row("x\x1b[2Jy\tz\n", "ü\u009b1m") })
	if got, want := b.String(), "A                   B\nx\\x1b[2Jy\\x09z\\x0a  ü\\x9b1m\n"; got != want {
		t.Errorf("got %q, wanted %q", got, want)
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "a b": "'a b'", "it's": `'it'\''s'`, "": "''"} {
		if got := shellWord(word); got != want {
			t.Errorf("%q became %s, wanted %s", word, got, want)
		}
	}
}

func TestModulePath(t *testing.T) {
	for name, want := range map[string]string{"guestbook": "app/guestbook", "My App": "app/my-app", "..": "app/app", "ü": "app/app", "fmt": "app/fmt"} {
		if got := modulePath(name); got != want {
			t.Errorf("%q became %s, wanted %s", name, got, want)
		}
	}
}

func TestDefaultDataDir(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for _, test := range []struct {
		uid    int
		getenv func(string) string
		want   string
	}{
		{0, env("HOME", "/root"), "/var/lib/fgw"},
		{1, env("HOME", "/home/a", "XDG_STATE_HOME", "/s"), "/s/fgw"},
		{1, env("HOME", "/home/a", "XDG_STATE_HOME", "relative"), "/home/a/.local/state/fgw"},
		{1, env("HOME", "/home/a"), "/home/a/.local/state/fgw"},
		{1, env(), ""},
	} {
		got, err := defaultDataDir(test.uid, test.getenv)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("uid %d: %q (%v), wanted %q", test.uid, got, err, test.want)
		}
	}
}
