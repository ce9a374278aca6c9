package build

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

func TestExcess(t *testing.T) {
	at := func(key, bundle string, bytes int64, used int) entry {
		return entry{key, result{Bundle: bundle, Bytes: bytes, used: time.Unix(int64(used), 0)}}
	}
	for _, test := range []struct {
		name   string
		kept   []entry
		budget int64
		inUse  string
		want   []string
	}{
		{"fits", []entry{at("a", "A", 10, 1), at("b", "B", 10, 2)}, 20, "", nil},
		{"the oldest goes", []entry{at("b", "B", 10, 2), at("a", "A", 10, 1), at("c", "C", 10, 3)}, 20, "", []string{"a"}},
		{"as many as it takes", []entry{at("a", "A", 10, 1), at("b", "B", 10, 2), at("c", "C", 10, 3)}, 10, "", []string{"a", "b"}},
		{"what is used stays", []entry{at("a", "A", 10, 1), at("b", "B", 10, 2), at("c", "C", 10, 3)}, 20, "A", []string{"b"}},
		{"one bundle counts once", []entry{at("a", "A", 10, 1), at("b", "A", 10, 2), at("c", "C", 10, 3)}, 20, "", nil},
		{"and goes with its last result", []entry{at("a", "A", 10, 1), at("b", "A", 10, 3), at("c", "C", 10, 2)}, 10, "", []string{"a", "c"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := excess(test.kept, test.budget, func(hash string) bool { return hash == test.inUse })
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// storeOf is a store of bundles with one in it.
func storeOf(t *testing.T, text string) (*bundle.Store, string) {
	t.Helper()
	store, err := bundle.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	hash, _, err := store.Put(t.Context(), strings.NewReader(text), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return store, hash
}

// TestKept reads back what was kept, and gets over what a crash or a hand left in the directory.
func TestKept(t *testing.T) {
	store, hash := storeOf(t, "executable")
	dir := t.TempDir()
	r, err := openResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Repeat("a", 64)
	if o := r.find(key, store); o != nil {
		t.Errorf("found %+v", o)
	}
	if err := r.keep(key, hash, store); err != nil {
		t.Fatal(err)
	}
	lost := strings.Repeat("b", 64)
	for name, text := range map[string]string{
		".new-" + key: "{", strings.Repeat("c", 64): "no JSON", strings.Repeat("d", 64): `{"bundle":"../../x"}`, "README": "",
		lost: fmt.Sprintf(`{"bundle":"%s","bytes":1}`, strings.Repeat("0", 64)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, err = openResults(dir); err != nil {
		t.Fatal(err)
	}
	if o := r.find(key, store); o == nil || o.bundle != hash || !r.keeps(hash) {
		t.Errorf("found %+v", o)
	}
	if o := r.find(lost, store); o != nil {
		t.Errorf("found %+v, whose bundle is gone", o)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if !r.trim(0, func(string) bool { return false }) || r.keeps(hash) || r.find(key, store) != nil {
		t.Error("a budget of 0 keeps it")
	}
}

// TestFailures remembers a failure for its time and not longer.
func TestFailures(t *testing.T) {
	store, _ := storeOf(t, "x")
	r, err := openResults(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	r.now = func() time.Time { return now }
	r.remember("k", outcome{found: []wire.Diagnostic{{Message: "bad"}}})
	r.remember("l", outcome{err: problem.New(problem.BuildFailed, "memory")})
	if o := r.find("k", store); o == nil || len(o.found) != 1 {
		t.Errorf("found %+v", o)
	}
	if o := r.find("l", store); o == nil || o.err == nil {
		t.Errorf("found %+v", o)
	}
	now = now.Add(failureTime)
	if o := r.find("k", store); o != nil {
		t.Errorf("still found %+v", o)
	}
	for i := range 2 * maxFailures {
		r.remember(fmt.Sprint(i), outcome{})
	}
	if len(r.failures) != maxFailures {
		t.Errorf("%d failures are remembered", len(r.failures))
	}
}

// TestExact takes an answer that ends early for an error, and never more than was announced.
func TestExact(t *testing.T) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(&exact{r: strings.NewReader("12345678"), left: 4}); err != nil || b.String() != "1234" {
		t.Errorf("%q, %v", b.String(), err)
	}
	if _, err := b.ReadFrom(&exact{r: strings.NewReader("12"), left: 4}); err == nil {
		t.Error("a short one is no error")
	}
}
