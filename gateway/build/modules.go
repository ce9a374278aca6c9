package build

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/facetgateway/fgw/gateway/appvendor"
)

// Modules are the ones that sources may import besides the standard library and the SDK. The administrator
// fetches them, outside of the gateway, which has no business with module servers: what arrives here is an
// archive of their sources with all that they need, kept as DATA/modules/allowed.zip.
type Modules struct {
	sdk     *appvendor.Set
	archive string // path of the archive
	trees   string // directory of the trees

	mu      sync.Mutex // guards the fields below and the trees' references
	current *tree
	last    int64 // number of the newest tree
}

// openModules writes the tree that is built from now on, and removes those of earlier runs, which nobody
// uses any more.
func openModules(data string, sdk *appvendor.Set) (*Modules, error) {
	m := &Modules{
		sdk:     sdk,
		archive: filepath.Join(data, "modules", "allowed.zip"),
		trees:   filepath.Join(data, "build", modulesName),
	}
	for _, dir := range []string{filepath.Dir(m.archive), m.trees} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	old, err := os.ReadDir(m.trees)
	if err != nil {
		return nil, err
	}
	for _, e := range old {
		if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil {
			m.last = max(m.last, n)
		}
		if err := os.RemoveAll(filepath.Join(m.trees, e.Name())); err != nil {
			return nil, err
		}
	}
	z, err := zip.OpenReader(m.archive)
	if err == nil {
		defer z.Close()
		err = m.write(&z.Reader)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = m.write(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("write the tree of modules: %w", err)
	}
	return m, nil
}

// modulesName is where the trees lie below DATA/build; sandboxd finds them there by number.
const modulesName = "modules"

// write makes a tree and puts it in place of the current one.
func (m *Modules) write(archive *zip.Reader) error {
	m.mu.Lock()
	m.last++
	number := m.last
	m.mu.Unlock()
	dir := m.dir(number)
	t, err := writeTree(dir, m.sdk, archive)
	if err != nil {
		os.RemoveAll(dir)
		return err
	}
	t.number = number
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.current
	m.current = t
	if old != nil {
		old.stale = true
		m.sweep(old)
	}
	return nil
}

func (m *Modules) dir(number int64) string {
	return filepath.Join(m.trees, strconv.FormatInt(number, 10))
}

// acquire gives the current tree, which stays until it is released.
func (m *Modules) acquire() *tree {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current.refs++
	return m.current
}

func (m *Modules) retain(t *tree) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.refs++
}

func (m *Modules) release(t *tree) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.refs--
	m.sweep(t)
}

// sweep removes a tree that is neither current nor used.
func (m *Modules) sweep(t *tree) {
	if t.stale && t.refs == 0 {
		os.RemoveAll(m.dir(t.number)) // what can't be removed now goes at the next start
	}
}

// List gives the allowed modules, by path.
func (m *Modules) List() []Module {
	t := m.acquire()
	defer m.release(t)
	list := slices.Clone(t.allowed)
	slices.SortFunc(list, func(a, b Module) int { return compare(a.Path, b.Path) })
	return list
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// MaxArchive bounds an archive of modules.
const MaxArchive = 256 << 20

// Replace allows the modules of an archive (see Pack) and no others. Builds under way go on with those that they
// began with. The caller should then warm the cache again.
func (m *Modules) Replace(archive io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(m.archive), ".new-")
	if err != nil {
		return fmt.Errorf("store the modules: %w", err)
	}
	defer os.Remove(f.Name()) // gone under this name once it is in place
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(archive, MaxArchive+1))
	if err != nil {
		return fmt.Errorf("store the modules: %w", err)
	}
	if n > MaxArchive {
		return fmt.Errorf("store the modules: an archive of more than %d MiB", MaxArchive>>20)
	}
	z, err := zip.NewReader(f, n)
	if err != nil {
		return fmt.Errorf("store the modules: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("store the modules: %w", err)
	}
	if err := m.write(z); err != nil {
		return fmt.Errorf("store the modules: %w", err)
	}
	if err := os.Rename(f.Name(), m.archive); err != nil {
		return fmt.Errorf("store the modules: %w", err)
	}
	return syncDir(filepath.Dir(m.archive))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
