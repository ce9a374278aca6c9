package sqld

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

// clone replaces dst by a copy of src as of one moment, while src is in use. The
// copy is on disk, whole, before it takes dst's name.
func (w *worker) clone(src, dst string, limits *control.Limits) error {
	from, err := w.database(src, limits)
	if err != nil {
		return err
	}
	defer w.unref(from)
	if err := w.quiesce(dst); err != nil {
		return err
	}
	defer from.object.makeCopy()()
	temp := dst + unfinished
	if err := removeFiles(temp); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if err := copyInto(from, temp); err != nil {
		removeFiles(temp)
		return err
	}
	if err := syncFile(temp); err != nil {
		removeFiles(temp)
		return err
	}
	for _, s := range suffixes[:len(suffixes)-1] { // dst's connections are closed: its log is in its file
		if err := os.Remove(dst + s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clone: %w", err)
		}
	}
	if err := os.Rename(temp, dst); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	w.lookAgain(filepath.Dir(dst))
	return syncDir(filepath.Dir(dst))
}

func copyInto(from *database, temp string) error {
	src, err := from.lease()
	if err != nil {
		return err
	}
	defer from.giveBack(src)
	src.trusted = true
	defer func() { src.trusted = false }()
	// A reading transaction keeps the copy to one moment however long it takes.
	if err := src.Exec("BEGIN"); err != nil {
		return err
	}
	defer src.Exec("ROLLBACK")
	if err := src.Exec("SELECT count(*) FROM sqlite_schema"); err != nil {
		return err
	}
	if err := os.WriteFile(temp, firstPage(), 0o600); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	account, err := sqlite.NewAccount(from.limits().Memory)
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
	if err := dst.Backup(src.Conn, nil); err != nil {
		dst.Close()
		return fmt.Errorf("clone: %w", err)
	}
	if err := dst.Close(); err != nil { // moves its log into the file and removes it
		return fmt.Errorf("clone: %w", err)
	}
	return nil
}
