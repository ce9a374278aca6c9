package sqld

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// object is what the databases of one directory have in common: what they may take of the disk together. They
// are all this worker's, so it is known here.
//
// No database may grow into what another is about to take. So whoever begins to write is granted half of what is left
// after the grants of all who write at that moment: the bound holds, nobody waits for a sibling's transaction, and one transaction
// can take half of the rest.
type object struct {
	dir string

	mu     sync.Mutex
	copies int // that are being made
	open   map[*database]struct{}
	stale  bool  // closed has to be looked up
	closed int64 // bytes of the databases that are not in open
}

// join makes db one of its directory's. w.mu is held.
func (w *worker) join(db *database) {
	dir := filepath.Dir(db.file)
	o := w.objects[dir]
	if o == nil {
		o = &object{dir: dir, open: map[*database]struct{}{}}
		w.objects[dir] = o
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if fi, err := os.Stat(db.file); err == nil {
		db.bytes.Store(fi.Size())
	}
	o.open[db] = struct{}{}
	o.stale = true
	db.object = o
}

// part takes db from its directory's. w.mu is held.
func (w *worker) part(db *database) {
	o := db.object
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, db)
	o.stale = true
	if len(o.open) == 0 {
		delete(w.objects, o.dir)
	}
}

// makeCopy says that a copy is being made in the directory, until what it returns is called.
func (o *object) makeCopy() (made func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.copies++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.copies--
		o.stale = true
	}
}

// lookAgain says that files came or went.
func (w *worker) lookAgain(dir string) {
	w.mu.Lock()
	o := w.objects[dir]
	w.mu.Unlock()
	if o != nil {
		o.mu.Lock()
		o.stale = true
		o.mu.Unlock()
	}
}

// count adds up the databases that are closed: their files, without what their logs may still hold. o.mu is held.
func (o *object) count() error {
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		return fmt.Errorf("measure the object: %w", err)
	}
	open := map[string]bool{}
	for db := range o.open {
		open[filepath.Base(db.file)] = true
	}
	o.closed = 0
	for _, e := range entries {
		if name, _, ok := strings.Cut(e.Name(), ".db"+unfinished); ok && o.copies == 0 {
			removeFiles(filepath.Join(o.dir, name+".db"+unfinished)) // what can't be removed now is tried again
			continue
		}
		if !strings.HasSuffix(e.Name(), ".db") || open[e.Name()] {
			continue
		}
		if fi, err := e.Info(); err == nil { // else it is gone
			o.closed += fi.Size()
		}
	}
	o.stale = false
	return nil
}

// allow sets how far the database may grow while c writes, where its object is bounded.
func (db *database) allow(c *conn) error {
	l := db.limits()
	if l.Object == 0 {
		return nil
	}
	o := db.object
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stale {
		if err := o.count(); err != nil {
			return err
		}
	}
	own := int64(c.Pages()) * pageSize
	db.bytes.Store(own)
	left := l.Object - o.closed
	for other := range o.open {
		left -= other.bytes.Load()
		if other != db && other.writers.taken() {
			left -= other.grant
		}
	}
	grant := min(max(left, 0)/2, max(l.Storage-own, 0))
	db.short.Store(own+grant < l.Storage)
	// What the connection may take already will do, if it is not much less.
	if has := c.most - own; has <= grant && has >= grant/2 {
		db.grant = max(has, 0)
		return nil
	}
	db.grant = grant
	c.most = own + grant
	defer c.trust()()
	return c.Exec(fmt.Sprintf("PRAGMA max_page_count=%d", max(c.most/pageSize, 1)))
}
