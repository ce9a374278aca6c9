package bundle

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// gifts is an account with a clock, whose bundles are named by a letter and take as many MiB as their text is long.
type gifts struct {
	*Given
	t     *testing.T
	store *Store
	now   time.Time
	names map[string]string // by hash
}

func newGifts(t *testing.T, each, all int64, kept string) *gifts {
	g := &gifts{t: t, store: newStore(t, t.TempDir()), now: time.Now(), names: map[string]string{}}
	g.store.now = func() time.Time { return g.now }
	g.Given = NewGiven(g.store, each<<20, all<<20, func(hash string) bool { return g.names[hash] == kept })
	return g
}

// give hands over a bundle of some MiB.
func (g *gifts) give(owner, name string, size int) (release func(), err error) {
	g.t.Helper()
	g.now = g.now.Add(time.Second)
	hash, bytes, err := g.store.PutPinned(g.t.Context(), strings.NewReader(name+strings.Repeat("x", size<<20-len(name))), 0, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.names[hash] = name
	return g.Take(owner, hash, bytes)
}

func (g *gifts) mustGive(owner, name string, size int) (release func()) {
	g.t.Helper()
	release, err := g.give(owner, name, size)
	if err != nil {
		g.t.Fatalf("%s gives %s: %v", owner, name, err)
	}
	return release
}

func (g *gifts) refused(owner, name string, size int, says string) {
	g.t.Helper()
	if _, err := g.give(owner, name, size); !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), says) {
		g.t.Errorf("%s gives %s: %v", owner, name, err)
	}
}

// has compares what the store holds.
func (g *gifts) has(want string) {
	g.t.Helper()
	var all string
	entries, err := os.ReadDir(g.store.dir)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, name := range strings.Split("abcdefgh", "") {
		for _, e := range entries {
			if g.names[e.Name()] == name {
				all += name
			}
		}
	}
	if all != want || len(all) != len(entries) {
		g.t.Errorf("the store holds %q of %d files, want %q", all, len(entries), want)
	}
}

func TestGivenOfOneObject(t *testing.T) {
	g := newGifts(t, 4, 100, "")
	a, b := g.mustGive("o", "a", 2), g.mustGive("o", "b", 1)
	g.refused("o", "c", 2, "an object")
	g.has("ab") // what was refused is not left
	g.mustGive("p", "c", 2)()
	g.mustGive("o", "a", 2)() // again: no more than once
	b()
	g.mustGive("o", "d", 2)() // b goes, which nobody uses
	g.has("acd")
	g.mustGive("o", "e", 1)() // and d, though a was there first
	g.has("ace")
	a()
	a() // only once
	g.mustGive("o", "b", 1)()
	g.mustGive("o", "f", 1)()
	g.mustGive("o", "e", 1)()
	g.mustGive("o", "h", 3)() // the longest unused go: a, b, then f
	g.has("ceh")
	g.refused("o", "g", 5, "an object") // though nothing is in use
	if len(g.owners["o"]) != 0 && g.bytes > 6<<20 {
		t.Errorf("%d bytes are counted", g.bytes)
	}
}

func TestGivenOfAll(t *testing.T) {
	g := newGifts(t, 4, 6, "h")
	h := g.mustGive("o", "h", 1)
	h()
	a, b := g.mustGive("o", "a", 3), g.mustGive("p", "b", 3) // h is forgotten, and somebody else keeps it
	g.has("abh")
	g.mustGive("q", "a", 3)() // shared: no further room
	g.refused("q", "c", 1, "all objects")
	if !strings.Contains(g.names[firstPinned(g)], "a") || g.bytes != 6<<20 {
		t.Errorf("%d bytes are counted", g.bytes)
	}
	a()
	g.mustGive("q", "a", 3)()
	g.mustGive("q", "c", 1)()
	g.has("bch")
	b()
}

// firstPinned is the pinned bundle with the least name.
func firstPinned(g *gifts) (first string) {
	for hash := range g.store.pins {
		if first == "" || g.names[hash] < g.names[first] {
			first = hash
		}
	}
	return first
}

// TestGivenInUse: what is in use already is kept whatever it takes, and never removed.
func TestGivenInUse(t *testing.T) {
	g := newGifts(t, 2, 2, "")
	g.mustGive("o", "a", 2)()
	var hash string
	for h := range g.names {
		hash = h
	}
	release, err := g.Keep("p", hash)
	if err != nil {
		t.Fatal(err)
	}
	again, err := g.Keep("o", hash)
	if err != nil {
		t.Fatal(err)
	}
	release()
	g.now = g.now.Add(2 * grace)
	if n, _, err := g.store.Collect(func(string) bool { return false }); n != 0 || err != nil {
		t.Errorf("Collect took %d: %v", n, err)
	}
	g.refused("o", "b", 1, "an object")
	again()
	if n, _, err := g.store.Collect(func(string) bool { return false }); n != 1 || err != nil {
		t.Errorf("Collect took %d: %v", n, err)
	}
	if _, err := g.Keep("o", hash); !errors.Is(err, ErrNotFound) {
		t.Errorf("a bundle that is gone: %v", err)
	}
	g.mustGive("o", "b", 1)()
	g.has("b")
}

// TestGivenByMany: tiny ones count, too.
func TestGivenByMany(t *testing.T) {
	g := newGifts(t, 8, 100, "")
	for i := range 8 {
		hash, bytes, err := g.store.PutPinned(t.Context(), strings.NewReader(strings.Repeat("x", i)), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Take("o", hash, bytes); err != nil {
			t.Fatal(err)
		}
	}
	g.refused("o", "a", 1, "an object")
}
