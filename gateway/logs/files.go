package logs

import (
	"bufio"
	"bytes"
	"cmp"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
)

// fileID is where a facet's lines are: NAMESPACE/OBJECT-FACET.log, the last two
// as hashes, since names may be longer than a file's name and hold any byte.
type fileID struct {
	namespace string
	name      string // 16 hexadecimal digits of the object, a dash, 16 of the facet
}

const (
	currentSuffix = ".log"
	olderSuffix   = ".log.1"
	maxOpen       = 64
	// blockSize is what the smallest file takes on the disk.
	blockSize = 4096
)

func idOf(a address.Address) fileID {
	return fileID{a.Namespace, objectHash(a) + "-" + short(a.String())}
}

func objectHash(a address.Address) string {
	return short(address.Address{Namespace: a.Namespace, Object: a.Object}.String())
}

func short(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:8])
}

// logFile is what is known of one facet's two files.
type logFile struct {
	id             fileID
	current, older int64 // bytes; 0: there is none
	file           *os.File
	addr           *address.Address // read from the file when it is first needed
	order          *list.Element
}

// files are all log files, those written last in front. One goroutine uses it.
type files struct {
	dir    string
	budget int64
	total  int64
	byID   map[fileID]*logFile
	order  list.List // of *logFile
	open   int
}

// openFiles takes stock of a directory.
func openFiles(dir string, budget int64) (*files, error) {
	fl := &files{dir: dir, budget: budget, byID: make(map[fileID]*logFile)}
	written := make(map[*logFile]int64)
	spaces, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, ns := range spaces {
		entries, err := os.ReadDir(filepath.Join(dir, ns.Name()))
		if err != nil {
			continue // not a directory of ours
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			name, older := strings.CutSuffix(e.Name(), olderSuffix)
			if !older {
				var ok bool
				if name, ok = strings.CutSuffix(e.Name(), currentSuffix); !ok {
					continue
				}
			}
			f := fl.get(fileID{ns.Name(), name})
			if older {
				f.older = info.Size()
			} else {
				f.current = info.Size()
			}
			fl.total += charge(info.Size())
			written[f] = max(written[f], info.ModTime().UnixNano())
		}
	}
	for _, f := range slices.SortedFunc(maps.Keys(written), func(a, b *logFile) int { return cmp.Compare(written[a], written[b]) }) {
		fl.order.MoveToFront(f.order)
	}
	fl.shrink(nil)
	return fl, nil
}

func charge(n int64) int64 {
	if n == 0 {
		return 0
	}
	return (n + blockSize - 1) / blockSize * blockSize
}

func (fl *files) get(id fileID) *logFile {
	f := fl.byID[id]
	if f == nil {
		f = &logFile{id: id}
		f.order = fl.order.PushFront(f)
		fl.byID[id] = f
	}
	return f
}

func (fl *files) path(id fileID, suffix string) string {
	return filepath.Join(fl.dir, id.namespace, id.name+suffix)
}

// append adds whole lines of one facet.
func (fl *files) append(id fileID, text []byte) error {
	f := fl.get(id)
	fl.order.MoveToFront(f.order)
	if f.current > 0 && f.current+int64(len(text)) > MaxFile {
		if err := fl.rotate(f); err != nil {
			return err
		}
	}
	if err := fl.openFile(f); err != nil {
		return err
	}
	n, err := f.file.Write(text)
	if err != nil && n > 0 {
		// Half a line would spoil the next one too.
		if f.file.Truncate(f.current) == nil {
			n = 0
		}
	}
	fl.total += charge(f.current+int64(n)) - charge(f.current)
	f.current += int64(n)
	fl.shrink(f)
	return err
}

func (fl *files) openFile(f *logFile) error {
	if f.file != nil {
		return nil
	}
	path := fl.path(f.id, currentSuffix)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err != nil {
		return err
	}
	f.file = file
	if fl.open++; fl.open > maxOpen {
		fl.closeOldest(f)
	}
	// A crash may have left half a line: what follows begins a new one.
	var last [1]byte
	if f.current > 0 {
		if _, err := file.ReadAt(last[:], f.current-1); err == nil && last[0] != '\n' {
			if _, err := file.Write([]byte("\n")); err != nil {
				return err
			}
			f.current++
		}
	}
	return nil
}

func (fl *files) closeOldest(but *logFile) {
	for e := fl.order.Back(); e != nil; e = e.Prev() {
		if f := e.Value.(*logFile); f.file != nil && f != but {
			fl.closeFile(f)
			return
		}
	}
}

func (fl *files) closeFile(f *logFile) {
	if f.file != nil {
		f.file.Close()
		f.file = nil
		fl.open--
	}
}

// rotate sets the current file aside in place of the older one.
func (fl *files) rotate(f *logFile) error {
	fl.closeFile(f)
	if err := os.Rename(fl.path(f.id, currentSuffix), fl.path(f.id, olderSuffix)); err != nil {
		return err
	}
	fl.total -= charge(f.older)
	f.older, f.current = f.current, 0
	return nil
}

// shrink deletes what was written longest ago until the budget holds; but is
// the file that was just written, whose current part stays.
func (fl *files) shrink(but *logFile) {
	for e := fl.order.Back(); e != nil && fl.total > fl.budget; {
		f := e.Value.(*logFile)
		switch {
		case f.older > 0:
			os.Remove(fl.path(f.id, olderSuffix))
			fl.total -= charge(f.older)
			f.older = 0
		case f == but:
			e = e.Prev()
		default:
			e = e.Prev()
			fl.forget(f)
		}
	}
}

// forget deletes a facet's files.
func (fl *files) forget(f *logFile) error {
	fl.closeFile(f)
	fl.total -= charge(f.older) + charge(f.current)
	fl.order.Remove(f.order)
	delete(fl.byID, f.id)
	var errs []error
	for _, suffix := range []string{olderSuffix, currentSuffix} {
		if err := os.Remove(fl.path(f.id, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// matching gives the files of facets at or below an address.
func (fl *files) matching(prefix address.Address) []*logFile {
	if prefix.IsFacet() && prefix.Root {
		if f := fl.byID[idOf(prefix)]; f != nil {
			return []*logFile{f}
		}
		return nil
	}
	var all []*logFile
	object := objectHash(prefix) + "-"
	for id, f := range fl.byID {
		switch {
		case prefix.Namespace != "" && id.namespace != prefix.Namespace:
		case prefix.Object != "" && !strings.HasPrefix(id.name, object):
		case len(prefix.Facets) > 0 && !prefix.Contains(fl.address(f)):
		default:
			all = append(all, f)
		}
	}
	return all
}

// address reads whose lines a file has.
func (fl *files) address(f *logFile) address.Address {
	if f.addr != nil {
		return *f.addr
	}
	f.addr = &address.Address{}
	for _, suffix := range []string{currentSuffix, olderSuffix} {
		file, err := os.Open(fl.path(f.id, suffix))
		if err != nil {
			continue
		}
		defer file.Close()
		sc := bufio.NewScanner(file)
		sc.Buffer(nil, 8*MaxLine)
		for sc.Scan() {
			var l Line
			if json.Unmarshal(bytes.TrimSpace(sc.Bytes()), &l) != nil {
				continue
			}
			if a, err := address.Parse(l.Address); err == nil {
				f.addr = &a
				return a
			}
		}
	}
	return *f.addr
}

// remove deletes the files of facets at or below an address.
func (fl *files) remove(prefix address.Address) error {
	var errs []error
	for _, f := range fl.matching(prefix) {
		errs = append(errs, fl.forget(f))
	}
	return errors.Join(errs...)
}

func (fl *files) close() error {
	for _, f := range fl.byID {
		fl.closeFile(f)
	}
	return nil
}
