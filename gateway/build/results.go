package build

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
)

// failureTime is how long a failure is remembered: who asks in a loop with the same broken files costs one build in
// this time, and a cause outside of the files is not held against them for long.
const failureTime = time.Minute

// maxFailures bounds how many are remembered.
const maxFailures = 512

// touchAfter is how old the note of a result's last use may be: the order matters to the hour, and a hit should not
// write to the disk.
const touchAfter = time.Hour

// result is what was built of the files with one key.
type result struct {
	Bundle string `json:"bundle"`
	Bytes  int64  `json:"bytes"`
	used   time.Time
}

// results are the kept ones, a small file each, named by key; the file's time is that of its last use.
type results struct {
	dir string
	now func() time.Time

	mu       sync.Mutex // guards the fields below
	kept     map[string]*result
	bundles  map[string]int // how many results each bundle has
	failures map[string]failure
}

type failure struct {
	outcome
	until time.Time
}

var keyName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// openResults reads what earlier runs kept.
func openResults(dir string) (*results, error) {
	r := &results{dir: dir, now: time.Now, kept: map[string]*result{}, bundles: map[string]int{}, failures: map[string]failure{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var v result
		text, err := os.ReadFile(path)
		if err != nil || !keyName.MatchString(e.Name()) || json.Unmarshal(text, &v) != nil || !keyName.MatchString(v.Bundle) {
			os.Remove(path) // half-written by a crash; it is built again
			continue
		}
		if info, err := e.Info(); err == nil {
			v.used = info.ModTime()
		}
		r.kept[e.Name()] = &v
		r.bundles[v.Bundle]++
	}
	return r, nil
}

// find gives the outcome of an earlier build, nil where there is none.
func (r *results) find(key string, store *bundle.Store) *outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.kept[key]; v != nil {
		f, err := store.Open(v.Bundle)
		if err == nil {
			f.Close()
			if now := r.now(); now.Sub(v.used) > touchAfter {
				v.used = now
				os.Chtimes(filepath.Join(r.dir, key), now, now)
			}
			return &outcome{bundle: v.Bundle}
		}
		r.drop(key)
	}
	if f, ok := r.failures[key]; ok {
		if r.now().Before(f.until) {
			return &f.outcome
		}
		delete(r.failures, key)
	}
	return nil
}

// keep enters a result.
func (r *results) keep(key, hash string, store *bundle.Store) error {
	f, err := store.Open(hash)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	v := &result{Bundle: hash, Bytes: info.Size(), used: r.now()}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.kept[key]; old != nil {
		r.drop(key)
	}
	r.kept[key] = v
	r.bundles[hash]++
	// Not synced: a result that a power cut takes is built again.
	temp := filepath.Join(r.dir, ".new-"+key)
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return fmt.Errorf("keep a result: %w", err)
	}
	return os.Rename(temp, filepath.Join(r.dir, key))
}

// remember keeps a failure for a while.
func (r *results) remember(key string, o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if len(r.failures) >= maxFailures {
		for k, f := range r.failures {
			if !now.Before(f.until) {
				delete(r.failures, k)
			}
		}
	}
	if len(r.failures) < maxFailures {
		r.failures[key] = failure{o, now.Add(failureTime)}
	}
}

// keeps reports whether a bundle is a kept result.
func (r *results) keeps(hash string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bundles[hash] > 0
}

// drop forgets a result. r.mu is held.
func (r *results) drop(key string) {
	v := r.kept[key]
	delete(r.kept, key)
	if r.bundles[v.Bundle]--; r.bundles[v.Bundle] == 0 {
		delete(r.bundles, v.Bundle)
	}
	os.Remove(filepath.Join(r.dir, key))
}

// trim forgets the results that were used longest ago until the rest fits into the budget, and reports whether it
// forgot any. Those whose bundle someone else needs are passed over: forgetting them would free nothing.
func (r *results) trim(budget int64, inUse func(hash string) bool) bool {
	r.mu.Lock()
	kept := make([]entry, 0, len(r.kept))
	for key, v := range r.kept {
		kept = append(kept, entry{key, *v})
	}
	r.mu.Unlock()
	doomed := excess(kept, budget, inUse) // asks others, who may ask whether we keep something: without our lock
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range doomed {
		if r.kept[key] != nil {
			r.drop(key)
		}
	}
	return len(doomed) > 0
}

// entry is a result with its key.
type entry struct {
	key string
	result
}

// excess decides which results to forget.
func excess(kept []entry, budget int64, inUse func(hash string) bool) (doomed []string) {
	var total int64
	references := map[string]int{}
	for _, e := range kept {
		if references[e.Bundle]++; references[e.Bundle] == 1 {
			total += e.Bytes
		}
	}
	slices.SortFunc(kept, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range kept {
		if total <= budget {
			break
		}
		if inUse(e.Bundle) {
			continue
		}
		doomed = append(doomed, e.key)
		if references[e.Bundle]--; references[e.Bundle] == 0 {
			total -= e.Bytes
		}
	}
	return doomed
}
