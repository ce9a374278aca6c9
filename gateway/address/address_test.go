package address

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Address
	}{
		{"", Address{}},
		{"notes", Address{Namespace: "notes"}},
		{"notes/alice", Address{Namespace: "notes", Object: "alice"}},
		{"notes/alice/", Address{Namespace: "notes", Object: "alice", Root: true}},
		{"notes/alice/book", Address{Namespace: "notes", Object: "alice", Facets: []string{"book"}}},
		{"n/o/a/b/c", Address{Namespace: "n", Object: "o", Facets: []string{"a", "b", "c"}}},
		{"n/%2F%25", Address{Namespace: "n", Object: "/%"}},
		{"n/.", Address{Namespace: "n", Object: "."}},
		{"n/../..", Address{Namespace: "n", Object: "..", Facets: []string{".."}}},
		{"n/a b+c/ü", Address{Namespace: "n", Object: "a b+c", Facets: []string{"ü"}}},
		{"n/%ff%FE", Address{Namespace: "n", Object: "\xff\xfe"}},
	} {
		got, err := Parse(tc.in)
		if err != nil || !got.Equal(tc.want) {
			t.Errorf("Parse(%q) = %#v, %v; want %#v", tc.in, got, err, tc.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		"/", "/alice", "Notes", "no_tes", "-a", "a-", "a--b", strings.Repeat("a", 41), "_fgw/x",
		"n/", "n//", "n//f", "n/o//", "n/o/f/", "n/o/a/b/c/d", "n/%", "n/%2", "n/%zz", "n/o/%",
		"n/%00", "n/o/a%00b", "n/" + strings.Repeat("x", 257), "n/o/" + strings.Repeat("%41", 257),
	} {
		if got, err := Parse(in); !errors.Is(err, ErrBadName) {
			t.Errorf("Parse(%q) = %#v, %v; want ErrBadName", in, got, err)
		}
	}
}

func TestString(t *testing.T) {
	for _, tc := range []struct {
		a    Address
		want string
	}{
		{Address{}, ""},
		{Address{Namespace: "n", Object: "a/b", Facets: []string{"50%", "é"}}, "n/a%2Fb/50%25/%C3%A9"},
		{Address{Namespace: "n", Object: "o", Root: true}, "n/o/"},
		{Address{Namespace: "n", Object: "o", Facets: []string{"f"}, Root: true}, "n/o/f"},
	} {
		if got := tc.a.String(); got != tc.want {
			t.Errorf("%#v.String() = %q, want %q", tc.a, got, tc.want)
		}
	}
}

func TestContains(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"", "n/o/f", true}, {"n", "n/o/f", true}, {"n", "m/o", false}, {"n/o", "n/o/", true},
		{"n/o", "n/o/f/g", true}, {"n/o", "n/oo/f", false}, {"n/o/", "n/o/", true}, {"n/o/", "n/o/f", false},
		{"n/o/f", "n/o/f", true}, {"n/o/f", "n/o/f/g", true}, {"n/o/f/g", "n/o/f", false}, {"n/o/f", "n/o/ff", false},
	} {
		a, errA := Parse(tc.a)
		b, errB := Parse(tc.b)
		if errA != nil || errB != nil || a.Contains(b) != tc.want {
			t.Errorf("%q contains %q: %v, want %v (%v %v)", tc.a, tc.b, a.Contains(b), tc.want, errA, errB)
		}
	}
}

func TestChildDoesNotShareMemory(t *testing.T) {
	parent := Address{Namespace: "n", Object: "o", Facets: make([]string, 1, 4)}
	parent.Facets[0] = "p"
	a, b := parent.Child("a"), parent.Child("b")
	if a.String() != "n/o/p/a" || b.String() != "n/o/p/b" || a.Facet() != "a" {
		t.Errorf("children are %s and %s", a, b)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "n", "n/o", "n/o/", "n/o/f", "n/%2F/%25", "n/\xff/é/..", "n/o/a/b/c/d", "%", "a--b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrBadName) {
				t.Fatalf("Parse(%q): %v", s, err)
			}
			return
		}
		text := a.String()
		b, err := Parse(text)
		if err != nil || !a.Equal(b) || b.String() != text {
			t.Fatalf("%q -> %#v -> %q -> %#v, %v", s, a, text, b, err)
		}
		for _, c := range []byte(text) {
			if !plain(c) && c != '/' && c != '%' {
				t.Fatalf("%q is not encoded: %q", text, c)
			}
		}
	})
}
