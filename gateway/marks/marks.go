// Package marks keeps the names of facets that run in a file, for the gateway's successor: after kill -9 it has to look at the
// alarms of these few, however many sleep. With each name goes how to start that facet, which only its supervisor knew.
//
// The file is a log: a start and a stop append a record each. As a file a facet, which was tried first, making and removing it
// took 0.5 ms of a start's 2 on ext4; appending takes some microseconds. What is large has a file of its own all the same, so that
// little has to be copied when the log is written anew. Nothing is synced: what a process has written outlives it, and an
// alarm is in the registry before anybody is told that it is set.
package marks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxInline is how many bytes of a facet's start go into the log itself.
	maxInline = 16 << 10
	// maxDead is how many bytes of records that no longer hold the log may have before it is written anew,
	// and then no fewer than those that hold.
	maxDead = 1 << 20
)

// Every other file is named as the facet that it is the start of.
const (
	logName = "log"
	newLog  = ".log-" // and something: a log being written
)

// ID is what a facet's database is called: the directory of its object, and a number in that.
type ID struct {
	Object string
	N      int
}

func (id ID) String() string { return id.Object + "." + strconv.Itoa(id.N) }

// parseID is the inverse of String.
func parseID(s string) (ID, bool) {
	object, number, _ := strings.Cut(s, ".")
	n, err := strconv.Atoi(number)
	id := ID{object, n}
	return id, err == nil && object != "" && id.String() == s
}

// Marks are the marks of one data directory, which belongs to one gateway.
type Marks struct {
	dir string

	mu   sync.Mutex // guards what follows, and the log's end
	log  *os.File   // nil once closed
	size int64      // of the log
	live map[ID]place
	held int64 // bytes of records that hold
}

// place is where a mark's record lies in the log.
type place struct {
	at   int64
	len  int
	file bool // how to start the facet is in a file of its own
}

// Open reads the marks below dir, which it makes where it is missing, and begins the log anew with those that hold. Of a log that ends
// in the middle of a record, as a process that was killed may leave it, the rest is used.
func Open(dir string) (*Marks, error) {
	m := &Marks{dir: dir, live: map[ID]place{}}
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("read which facets ran: %w", err)
	}
	return m, nil
}

func (m *Marks) open() error {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(m.dir, logName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	records := read(b)
	files, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), newLog) { // whose writer was killed
			os.Remove(filepath.Join(m.dir, f.Name()))
			continue
		}
		// One without a record is of a version that had no log, or of a log that has lost its end.
		if id, ok := parseID(f.Name()); ok && records[id] == nil {
			records[id] = encode(opFile, id, nil)
		}
	}
	return m.write(func(yield func(ID, []byte) bool) {
		for id, r := range records {
			if !yield(id, r) {
				return
			}
		}
	})
}

// write makes a new log of records and puts it in the old one's place.
func (m *Marks) write(records func(yield func(ID, []byte) bool)) error {
	f, err := os.CreateTemp(m.dir, newLog+"*")
	if err != nil {
		return err
	}
	live, size := map[ID]place{}, int64(0)
	for id, r := range records {
		if _, err = f.Write(r); err != nil {
			break
		}
		live[id] = place{at: size, len: len(r), file: r[headSize] == opFile}
		size += int64(len(r))
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(m.dir, logName))
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return err
	}
	if m.log != nil {
		m.log.Close()
	}
	m.log, m.live, m.size, m.held = f, live, size, size
	return nil
}

// Add marks a facet as running. start says how to start it, nil where nobody but the gateway has to know.
func (m *Marks) Add(id ID, start []byte) error {
	op := opStart
	if len(start) > maxInline {
		if err := os.WriteFile(m.file(id), start, 0o600); err != nil {
			return err
		}
		op, start = opFile, nil
	}
	r := encode(op, id, start)
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.size
	if err := m.append(r); err != nil {
		return err
	}
	if m.live[id].file && op != opFile {
		os.Remove(m.file(id))
	}
	m.forget(id)
	m.live[id] = place{at: at, len: len(r), file: op == opFile}
	m.held += int64(len(r))
	return nil
}

// Remove takes a mark back.
func (m *Marks) Remove(id ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, marked := m.live[id]
	if !marked {
		return nil
	}
	if err := m.append(encode(opStop, id, nil)); err != nil {
		return err
	}
	m.forget(id)
	if p.file {
		if err := os.Remove(m.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if dead := m.size - m.held; dead > max(maxDead, m.held) {
		return m.write(m.records)
	}
	return nil
}

func (m *Marks) forget(id ID) {
	m.held -= int64(m.live[id].len)
	delete(m.live, id)
}

// append adds a record to the log, all of it or, as far as a reader is concerned, nothing.
func (m *Marks) append(r []byte) error {
	if m.log == nil {
		return fs.ErrClosed
	}
	if _, err := m.log.WriteAt(r, m.size); err != nil {
		return err // what was written of it is written over by the next
	}
	m.size += int64(len(r))
	return nil
}

// records gives those that hold, as they are in the log.
func (m *Marks) records(yield func(ID, []byte) bool) {
	for id, p := range m.live {
		r := make([]byte, p.len)
		if _, err := m.log.ReadAt(r, p.at); err != nil {
			r = encode(opStart, id, nil) // its name at least
		}
		if !yield(id, r) {
			return
		}
	}
}

// All names the facets that are marked.
func (m *Marks) All() []ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]ID, 0, len(m.live))
	for id := range m.live {
		ids = append(ids, id)
	}
	return ids
}

// Start is how a marked facet can be started, nil where it has none.
func (m *Marks) Start(id ID) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.live[id]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case p.file:
		return os.ReadFile(m.file(id))
	case m.log == nil:
		return nil, fs.ErrClosed
	}
	r := make([]byte, p.len)
	if _, err := m.log.ReadAt(r, p.at); err != nil {
		return nil, err
	}
	_, _, start, _, err := decode(r)
	return start, err
}

// Close lets go of the log. The marks stay.
func (m *Marks) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.log == nil {
		return nil
	}
	err := m.log.Close()
	m.log = nil
	return err
}

func (m *Marks) file(id ID) string { return filepath.Join(m.dir, id.String()) }

// A record is the length of its body and its CRC-32C, four bytes each, little-endian; the body is the operation, the facet's name, a
// line feed, and how to start it.
const (
	headSize = 8
	opStart  = byte('+')
	opFile   = byte('f') // how to start it is in a file
	opStop   = byte('-')
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(op byte, id ID, start []byte) []byte {
	name := id.String()
	r := make([]byte, headSize, headSize+1+len(name)+1+len(start))
	r = append(r, op)
	r = append(r, name...)
	r = append(r, '\n')
	r = append(r, start...)
	binary.LittleEndian.PutUint32(r, uint32(len(r)-headSize))
	binary.LittleEndian.PutUint32(r[4:], crc32.Checksum(r[headSize:], castagnoli))
	return r
}

var errRecord = errors.New("no whole record")

// decode reads the record at the beginning of b; n is its length.
func decode(b []byte) (op byte, id ID, start []byte, n int, err error) {
	if len(b) < headSize {
		return 0, ID{}, nil, 0, io.ErrUnexpectedEOF
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if size > int64(len(b)-headSize) {
		return 0, ID{}, nil, 0, io.ErrUnexpectedEOF
	}
	n = headSize + int(size)
	body := b[headSize:n]
	if len(body) == 0 || crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, ID{}, nil, 0, errRecord
	}
	name, rest, ok := strings.Cut(string(body[1:]), "\n")
	if id, known := parseID(name); known && ok {
		if rest != "" {
			start = []byte(rest)
		}
		return body[0], id, start, n, nil
	}
	return 0, ID{}, nil, 0, errRecord
}

// read gives the record of each facet that a log leaves marked.
func read(log []byte) map[ID][]byte {
	live := map[ID][]byte{}
	for len(log) > 0 {
		op, id, _, n, err := decode(log)
		if err != nil {
			break
		}
		if op == opStop {
			delete(live, id)
		} else {
			live[id] = log[:n]
		}
		log = log[n:]
	}
	return live
}
