package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
)

// An object's directory holds, beside the databases, descriptionFile: a line
// that says which object this is, then a line for each facet that got a number
// or lost its name. Lines are only ever appended; a last line that a crash left
// unfinished does not count, since its change was not acknowledged.
const (
	descriptionFile    = "object.jsonl"
	descriptionVersion = 1
	// maxDescription is far above what maxFacets live facets take, since
	// removed ones stay until the file is written anew.
	maxDescription = 64 << 20
)

// header is the first line.
type header struct {
	Version     int       `json:"fgw_object"`
	ID          string    `json:"id"`
	Namespace   string    `json:"namespace"`
	NamespaceID int64     `json:"namespace_id"`
	Object      string    `json:"object"` // percent-encoded as in an address
	CreatedAt   time.Time `json:"created_at"`
	Next        int       `json:"next"` // numbers below it were given before the lines that follow
}

// record is any other line.
type record struct {
	N      int    `json:"n"`
	Parent int    `json:"parent,omitempty"`
	Name   string `json:"name,omitempty"` // percent-encoded
	Gone   bool   `json:"gone,omitempty"`
}

// description is what the lines add up to.
type description struct {
	header
	Name   string         // of the object
	Facets map[int]record // that have their names, decoded
	Gone   map[int]bool
	Next   int
	Lines  int
	Torn   bool // the end was unreadable
}

var errNoDescription = errors.New("the directory does not say which object it is")

// parseDescription adds the lines up. What it reads was written by this
// package, but a power cut, a careless hand or a SQL worker that was taken over
// may have changed it.
func parseDescription(b []byte) (*description, error) {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	d := &description{Facets: make(map[int]record), Gone: make(map[int]bool)}
	if !ok || json.Unmarshal(line, &d.header) != nil || d.Version < 1 {
		return nil, errNoDescription
	}
	if d.Version > descriptionVersion {
		return nil, fmt.Errorf("object description version %d: %w", d.Version, ErrNewer)
	}
	var err error
	if d.Name, err = address.Decode(d.Object); err != nil || address.CheckPart(d.Name) != nil || address.CheckName(d.Namespace) != nil {
		return nil, errNoDescription
	}
	if d.ID != objectID(d.NamespaceID, d.Name) {
		return nil, errNoDescription
	}
	d.Next = max(1, min(d.header.Next, maxNumber))
	for len(rest) > 0 {
		line, rest, ok = bytes.Cut(rest, []byte("\n"))
		var rec record
		if !ok || json.Unmarshal(line, &rec) != nil || !d.add(rec) {
			d.Torn = true
			break
		}
		d.Lines++
	}
	return d, nil
}

// maxNumber keeps a damaged line from using up the numbers.
const maxNumber = 1 << 40

func (d *description) add(rec record) bool {
	if rec.N < 1 || rec.N >= maxNumber || rec.Parent < 0 || rec.Parent >= rec.N {
		return false
	}
	if rec.Gone {
		delete(d.Facets, rec.N)
		d.Gone[rec.N] = true
	} else {
		name, err := address.Decode(rec.Name)
		if err != nil || address.CheckPart(name) != nil {
			return false
		}
		rec.Name = name
		d.Facets[rec.N] = rec
	}
	d.Next = max(d.Next, rec.N+1)
	return true
}

// readDescription reads that of one directory.
func (r *Registry) readDescription(dir string) (*description, error) {
	// Not blocking: what lies there might be a pipe.
	f, err := r.objects.OpenFile(dir+"/"+descriptionFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDescription {
		return nil, errNoDescription
	}
	b, err := io.ReadAll(io.LimitReader(f, maxDescription))
	if err != nil {
		return nil, err
	}
	return parseDescription(b)
}

// encodeDescription gives the lines for a state.
func encodeDescription(o *Object, next int, facets []record) ([]byte, error) {
	b, err := appendLine(nil, header{descriptionVersion, o.ID, o.Namespace, o.NamespaceID, address.Encode(o.Name), o.CreatedAt, next})
	if err != nil {
		return nil, err
	}
	return appendRecords(b, facets)
}

// rewrite replaces the file by one with the given state. It is not synced: until
// the kernel has written it, the registry's rows know as much.
func (r *Registry) rewrite(o *Object, next int, facets []record) error {
	b, err := encodeDescription(o, next, facets)
	if err != nil {
		return err
	}
	path := o.Dir() + "/" + descriptionFile
	if err := r.objects.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return r.objects.Rename(path+".new", path)
}

// replace is rewrite that is synced and tells of removals, too. What there was comes back if the change is not committed.
func (r *Registry) replace(c *change, o *Object, next int, facets []record) error {
	b, err := encodeDescription(o, next, facets)
	if err != nil {
		return err
	}
	path := o.Dir() + "/" + descriptionFile
	// A name of its own in the group: each change of it takes back its own, where they fail together.
	before := path + ".old" + strconv.Itoa(r.replacements%maxGroup)
	r.replacements++
	if err := r.objects.Remove(before); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	back := func() error { return r.objects.Rename(before, path) } // takes no space on a full disk
	switch err := r.objects.Link(path, before); {
	case errors.Is(err, fs.ErrNotExist): // lost, with its directory or without
		if err := r.mkdir(o.ID); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		back = func() error { return r.objects.Remove(path) }
	case err != nil:
		return err
	}
	c.onUndo(func() {
		if err := back(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.log.Error("the description of an object could not be put back", slog.String("id", o.ID), slog.Any("error", err))
		}
	})
	c.onCommit(func() { r.objects.Remove(before) })
	if err := r.writeSynced(path+".new", b); err != nil {
		return err
	}
	if err := r.objects.Rename(path+".new", path); err != nil {
		return err
	}
	return r.syncDir(o.Dir())
}

func (r *Registry) writeSynced(path string, b []byte) error {
	f, err := r.objects.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// describe appends records, and takes them back if the change is not committed.
// It goes before the commit: a number that the description alone knows counts
// as given.
func (r *Registry) describe(c *change, o *Object, records []record, sync bool) error {
	if len(records) == 0 {
		return nil
	}
	path := o.Dir() + "/" + descriptionFile
	f, err := r.objects.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err = r.repair(c, o); err == nil {
			f, err = r.objects.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := appendRecords(nil, records)
	if err != nil {
		return err
	}
	c.onUndo(func() {
		if f, err := r.objects.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			f.Truncate(info.Size())
			f.Close()
		}
	})
	if _, err := f.Write(b); err != nil || !sync {
		return err
	}
	return f.Sync()
}

// appendRecords encodes the names, which records hold as they are.
func appendRecords(b []byte, records []record) ([]byte, error) {
	for _, rec := range records {
		rec.Name = address.Encode(rec.Name)
		var err error
		if b, err = appendLine(b, rec); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendLine(b []byte, v any) ([]byte, error) {
	line, err := json.Marshal(v)
	return append(append(b, line...), '\n'), err
}
