package sqld

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlite"
)

// suffixes are what the files of a database end in.
var suffixes = []string{"-wal", "-shm", "-journal", ""}

// unfinished ends the name of a copy that is being made. One that a worker left which died is removed
// when its object is measured.
const unfinished = ".new"

// removeFiles removes what there is of a database's files.
func removeFiles(file string) error {
	var errs []error
	for _, s := range suffixes {
		if err := os.Remove(file + s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove deletes databases. Channels to them are ended first.
func (w *worker) remove(files []string) error {
	var errs []error
	dirs := map[string]bool{}
	for _, file := range files {
		if err := w.quiesce(file); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := removeFiles(file); err != nil {
			errs = append(errs, fmt.Errorf("remove a database: %w", err))
		}
		dirs[filepath.Dir(file)] = true
	}
	for dir := range dirs {
		w.lookAgain(dir)
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// errRemoved ends the channels of a database that is removed or replaced.
var errRemoved = errors.New("the database was removed")

// quiesce ends a file's channels, closes its connections and forgets it.
func (w *worker) quiesce(file string) error {
	w.mu.Lock()
	var ids []uint64
	for id, ch := range w.channels {
		if ch.db.file == file {
			ids = append(ids, id)
		}
	}
	db := w.databases[file]
	w.mu.Unlock()
	for _, id := range ids {
		w.endAndWait(id, errRemoved)
	}
	if db == nil {
		return nil
	}
	if db.closeIdle() {
		return fmt.Errorf("the database %s is in use", file)
	}
	w.forget()
	return nil
}

// syncDir puts a directory's entries on disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open for syncing: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync a directory: %w", err)
	}
	return nil
}

// clone replaces each of copies by a copy of that source, all as of one moment, while the sources are in use. A
// copy is on disk, whole, before it takes its name.
func (w *worker) clone(sources, copies []string, limits *control.Limits) error {
	if len(sources) == 0 || len(sources) != len(copies) {
		return errors.New("clone: as many copies as sources are wanted, and some")
	}
	for _, file := range copies {
		if err := w.quiesce(file); err != nil {
			return err
		}
	}
	dir := filepath.Dir(copies[0])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	from := make([]*snapshot, 0, len(sources))
	defer func() {
		for _, s := range from {
			s.close()
		}
	}()
	for _, file := range sources {
		s, err := w.snapshot(file, limits)
		if err != nil {
			return err
		}
		from = append(from, s)
	}
	defer from[0].db.object.makeCopy()()
	if err := begin(from); err != nil {
		return err
	}
	for i, s := range from {
		if err := s.copyTo(copies[i]); err != nil {
			return err
		}
		s.end() // its log may be emptied again
	}
	w.lookAgain(dir)
	return syncDir(dir)
}

// snapshot is a connection that reads a database as of one moment.
type snapshot struct {
	db   *database
	conn *conn
}

// snapshot opens a connection, which reads nothing yet.
func (w *worker) snapshot(file string, limits *control.Limits) (*snapshot, error) {
	db, err := w.database(file, limits)
	if err != nil {
		return nil, err
	}
	c, err := db.lease()
	if err != nil {
		w.unref(db)
		return nil, err
	}
	c.trusted = true
	return &snapshot{db, c}, nil
}

// begin fixes the moment that the snapshots show. None of the databases commits meanwhile: a commit that one shows and that led to
// another, in a database of the others, would be there without its cause, or the cause without it.
func begin(from []*snapshot) error {
	inOrder := slices.SortedFunc(slices.Values(from), func(a, b *snapshot) int { return strings.Compare(a.db.file, b.db.file) })
	for _, s := range inOrder {
		s.db.commitMu.Lock()
		defer s.db.commitMu.Unlock()
	}
	for _, s := range from {
		if err := s.conn.Exec("BEGIN"); err != nil {
			return fmt.Errorf("clone: %w", err)
		}
		if err := s.conn.Exec("SELECT count(*) FROM sqlite_schema"); err != nil { // the first to read fixes it
			return fmt.Errorf("clone: %w", err)
		}
	}
	return nil
}

// end lets what changed since into the snapshot.
func (s *snapshot) end() {
	if !s.conn.AutoCommit() {
		s.conn.Exec("ROLLBACK")
	}
}

func (s *snapshot) close() {
	s.end()
	if !s.conn.AutoCommit() { // for want of memory, say: whoever got it next would read the past
		s.conn.changed = true
	}
	s.conn.trusted = false
	s.db.giveBack(s.conn)
	s.db.w.unref(s.db)
}

// copyTo puts a copy in the place of what file names, whose connections are closed.
func (s *snapshot) copyTo(file string) error {
	temp := file + unfinished
	if err := removeFiles(temp); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	err := s.copyInto(temp)
	if err == nil {
		err = syncFile(temp)
	}
	if err != nil {
		removeFiles(temp)
		return err
	}
	for _, suffix := range suffixes[:len(suffixes)-1] { // the old one's connections are closed: its log is in its file
		if err := os.Remove(file + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clone: %w", err)
		}
	}
	if err := os.Rename(temp, file); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	return nil
}

// copyInto makes temp a copy.
func (s *snapshot) copyInto(temp string) error {
	if err := os.WriteFile(temp, firstPage(), 0o600); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	account, err := sqlite.NewAccount(s.db.limits().Memory)
	if err != nil {
		return err
	}
	defer account.Close()
	dst, err := sqlite.Open(temp, account, sqlite.Hooks{})
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if err := dst.Exec("PRAGMA synchronous=OFF"); err != nil { // synced whole, before it is renamed
		dst.Close()
		return err
	}
	if err := dst.Backup(s.conn.Conn, nil); err != nil {
		dst.Close()
		return fmt.Errorf("clone: %w", err)
	}
	if err := dst.Close(); err != nil { // moves its log into the file and removes it
		return fmt.Errorf("clone: %w", err)
	}
	return nil
}
