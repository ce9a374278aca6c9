// Package bundle keeps code: immutable files named by the SHA-256 of their
// content, written so that a file that is there is whole.
package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Errors of the store.
var (
	ErrTooLarge = errors.New("bundle too large")
	ErrNotFound = errors.New("bundle not found")
)

// MaxBytes is the largest bundle unless the caller says otherwise. A Go program
// with everything linked in takes some tens of MB.
const MaxBytes = 512 << 20

// grace is how long a bundle that no version refers to is kept: one that was
// just stored is referred to only a moment later.
const grace = time.Hour

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".new-"

// Store is the directory of bundles.
type Store struct {
	dir string
	now func() time.Time

	mu   sync.Mutex     // held while a bundle gets its name or loses it: one stored again must not be collected
	pins map[string]int // how often each is pinned; guarded by mu
}

// NewStore opens the store of a data directory, DATA/bundles, and removes what
// a crash left half-written. The caller holds the directory's lock.
func NewStore(dataDir string) (*Store, error) {
	s := &Store{dir: filepath.Join(dataDir, "bundles"), now: time.Now, pins: map[string]int{}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(s.path(e.Name())); err != nil {
				return nil, fmt.Errorf("open bundles: %w", err)
			}
		}
	}
	return s, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Put stores what r gives, up to max bytes (0: MaxBytes), after check has
// accepted the file, and tells its hash. The same content is stored once.
func (s *Store) Put(ctx context.Context, r io.Reader, max int64, check func(*os.File) error) (hash string, bytes int64, err error) {
	hash, bytes, err = s.PutPinned(ctx, r, max, check)
	if err == nil {
		s.Unpin(hash)
	}
	return hash, bytes, err
}

// PutPinned is Put of a bundle that nobody removes before the caller unpins it.
func (s *Store) PutPinned(ctx context.Context, r io.Reader, max int64, check func(*os.File) error) (hash string, bytes int64, err error) {
	if max <= 0 {
		max = MaxBytes
	}
	f, err := os.CreateTemp(s.dir, tempPrefix)
	if err != nil {
		return "", 0, fmt.Errorf("store bundle: %w", err)
	}
	defer os.Remove(f.Name()) // gone under this name once it is in place
	defer f.Close()
	sum := sha256.New()
	bytes, err = io.Copy(io.MultiWriter(f, sum), io.LimitReader(&contextReader{ctx, r}, max+1))
	if err != nil {
		return "", 0, fmt.Errorf("store bundle: %w", err)
	}
	if bytes > max {
		return "", 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, max)
	}
	if check != nil {
		if err := check(f); err != nil {
			return "", 0, err
		}
	}
	hash = hex.EncodeToString(sum.Sum(nil))
	if err := s.place(f, hash); err != nil {
		return "", 0, fmt.Errorf("store bundle: %w", err)
	}
	return hash, bytes, nil
}

// place makes a written file durable under its hash, and pins it. Mode 0511: a facet's own user must be able to run
// it, by descriptor too, but not to read it, which also keeps the facet's process from being dumpable: no
// other process of its user may look into it.
func (s *Store) place(f *os.File, hash string) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if err == nil {
			s.pins[hash]++
		}
	}()
	if now := s.now(); os.Chtimes(s.path(hash), now, now) == nil {
		return nil // there already, and its grace begins anew
	}
	if err := f.Chmod(0o511); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// Closed before it is in place: a file open for writing can't be executed.
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path(hash)); err != nil {
		return err
	}
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// contextReader ends an upload whose caller has gone.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// Open opens a bundle.
func (s *Store) Open(hash string) (*os.File, error) {
	if !isHash(hash) {
		return nil, fmt.Errorf("%w: %q is no hash", ErrNotFound, hash)
	}
	f, err := os.Open(s.path(hash))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	return f, nil
}

// Has reports whether the bundle is there.
func (s *Store) Has(hash string) bool {
	_, err := os.Stat(s.path(hash))
	return isHash(hash) && err == nil
}

// Pin keeps a bundle from being removed until it is unpinned as often, and gives its size.
func (s *Store) Pin(hash string) (bytes int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.path(hash))
	switch {
	case !isHash(hash), errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("%w: %q", ErrNotFound, hash)
	case err != nil:
		return 0, fmt.Errorf("pin bundle: %w", err)
	}
	s.pins[hash]++
	return info.Size(), nil
}

// Unpin takes back one Pin.
func (s *Store) Unpin(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[hash]--; s.pins[hash] <= 0 {
		delete(s.pins, hash)
	}
}

// Pinned reports whether the bundle is pinned.
func (s *Store) Pinned(hash string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pins[hash] > 0
}

// Collect removes bundles that are not pinned, for which used says no, and that have not been stored
// in the last hour. It gives how many, and the bytes they took.
func (s *Store) Collect(used func(hash string) bool) (removed int, bytes int64, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, 0, fmt.Errorf("collect bundles: %w", err)
	}
	for _, e := range entries {
		if !isHash(e.Name()) || used(e.Name()) {
			continue
		}
		n, err := s.remove(e.Name(), grace)
		if err != nil {
			return removed, bytes, fmt.Errorf("collect bundles: %w", err)
		}
		if n > 0 {
			removed++
			bytes += n
		}
	}
	return removed, bytes, nil
}

// remove removes a bundle of that age that is not pinned, and gives its size, else 0.
func (s *Store) remove(hash string, age time.Duration) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[hash] > 0 {
		return 0, nil
	}
	info, err := os.Stat(s.path(hash))
	if err != nil || s.now().Sub(info.ModTime()) < age {
		return 0, err
	}
	return info.Size(), os.Remove(s.path(hash))
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}
