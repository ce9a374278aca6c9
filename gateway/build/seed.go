package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// SeedName is argv[0] of the program that the go command asks for what is compiled already, while the cache is being warmed.
const SeedName = "/fgw-cache"

// seedDir is the go command's cache of whoever started the gateway, in the world of a builder that warms.
const seedDir = "/seed"

// What the go command of a newer release may do differently must end in a compilation, not in a mistake: records are of this
// one form, and files are what their name says.
const (
	recordForm = "v1"
	maxRecord  = 256
	idLength   = sha256.Size
)

// SeedMain is the cache program of a builder that warms, by the go command's own protocol (GOCACHEPROG, `go doc
// cmd/go/internal/cacheprog`): what is in the builder's cache is taken from there, what the administrator's own cache has is copied, the rest
// the go command compiles and gives to it. The builder's cache has the form that the go command reads without it.
func SeedMain() {
	s := &seeder{cache: cacheDir, seed: seedDir}
	if err := s.serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cache:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// seeded gives the variable that has the go command use the program, "" where there is nothing to copy from.
func seeded() string {
	if _, err := os.Stat(seedDir); err != nil {
		return ""
	}
	if _, err := os.Stat(SeedName); err != nil {
		return ""
	}
	return "GOCACHEPROG=" + SeedName
}

// seeder fills the directory cache with what is asked for, from the directory seed where that has it.
type seeder struct{ cache, seed string }

// cacheRequest and cacheResponse are one line of JSON each; a request with a body is followed by it, a string in base64.
type cacheRequest struct {
	ID       int64
	Command  string
	ActionID []byte
	OutputID []byte
	BodySize int64
}

type cacheResponse struct {
	ID            int64
	Err           string     `json:",omitempty"`
	KnownCommands []string   `json:",omitempty"`
	Miss          bool       `json:",omitempty"`
	OutputID      []byte     `json:",omitempty"`
	Size          int64      `json:",omitempty"`
	Time          *time.Time `json:",omitempty"`
	DiskPath      string     `json:",omitempty"`
}

// serve answers requests, one after another, until the go command has no more.
func (s *seeder) serve(r io.Reader, w io.Writer) error {
	out := bufio.NewWriter(w)
	say := json.NewEncoder(out)
	in := json.NewDecoder(r)
	if err := errors.Join(say.Encode(cacheResponse{KnownCommands: []string{"get", "put", "close"}}), out.Flush()); err != nil {
		return err
	}
	for {
		var q cacheRequest
		if err := in.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var body []byte
		if q.BodySize > 0 {
			if err := in.Decode(&body); err != nil {
				return err
			}
		}
		if err := errors.Join(say.Encode(s.answer(&q, body)), out.Flush()); err != nil || q.Command == "close" {
			return err
		}
	}
}

func (s *seeder) answer(q *cacheRequest, body []byte) cacheResponse {
	r := cacheResponse{ID: q.ID}
	switch {
	case q.Command == "close":
	case len(q.ActionID) != idLength:
		r.Err = "no action of that form"
	case q.Command == "get":
		e, err := s.get(q.ActionID)
		if err != nil {
			r.Miss = true
			break
		}
		r.OutputID, r.Size, r.Time, r.DiskPath = e.output, e.size, &e.made, s.path(s.cache, e.output, 'd')
	case q.Command == "put" && len(q.OutputID) == idLength && int64(len(body)) == q.BodySize:
		e := &record{output: q.OutputID, size: q.BodySize, made: time.Now()}
		if err := s.put(q.ActionID, e, body); err != nil {
			r.Err = err.Error()
			break
		}
		r.DiskPath = s.path(s.cache, e.output, 'd')
	default:
		r.Err = "unknown command"
	}
	return r
}

// path names the file of an action (kind a, a record) or of an output (kind d, what was compiled).
func (s *seeder) path(dir string, id []byte, kind byte) string {
	name := hex.EncodeToString(id)
	return filepath.Join(dir, name[:2], name+"-"+string(kind))
}

// get finds the output of an action, and copies it where the seed alone has it.
func (s *seeder) get(action []byte) (*record, error) {
	if e, err := s.look(s.cache, action); err == nil {
		if info, err := os.Stat(s.path(s.cache, e.output, 'd')); err == nil && info.Size() == e.size {
			return e, nil
		}
	}
	e, err := s.look(s.seed, action)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(s.path(s.seed, e.output, 'd'))
	if err != nil {
		return nil, err
	}
	// An output is named after its content: one that was cut off or written by someone else does not bear its name.
	if sum := sha256.Sum256(text); !bytes.Equal(sum[:], e.output) || int64(len(text)) != e.size {
		return nil, fs.ErrNotExist
	}
	return e, s.put(action, e, text)
}

// look reads the record of an action.
func (s *seeder) look(dir string, action []byte) (*record, error) {
	f, err := os.Open(s.path(dir, action, 'a'))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return nil, err
	}
	return parseRecord(string(text), action)
}

// put stores an output and the record of its action, in this order, since a record promises the output.
func (s *seeder) put(action []byte, e *record, output []byte) error {
	if err := s.write(s.path(s.cache, e.output, 'd'), output); err != nil {
		return err
	}
	return s.write(s.path(s.cache, action, 'a'), []byte(e.format(action)))
}

// write makes a file at once or not at all: the builder may be killed at any moment.
func (s *seeder) write(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "new-*-d") // if it is left, the go command takes it for an old output, and removes it
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	// Everyone's builds read it.
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// record is what the go command's cache keeps of an action:
//
//	v1 <action> <output> <size> <nanoseconds since 1970>
//
// with ids in hexadecimal and numbers padded to 20 places.
type record struct {
	output []byte
	size   int64
	made   time.Time
}

func (e *record) format(action []byte) string {
	return fmt.Sprintf("%s %x %x %20d %20d\n", recordForm, action, e.output, e.size, e.made.UnixNano())
}

var errRecord = errors.New("no record of a form that is known here")

func parseRecord(text string, action []byte) (*record, error) {
	f := strings.Fields(text)
	if len(f) != 5 || f[0] != recordForm || f[1] != hex.EncodeToString(action) {
		return nil, errRecord
	}
	output, err := hex.DecodeString(f[2])
	size, err2 := strconv.ParseInt(f[3], 10, 64)
	made, err3 := strconv.ParseInt(f[4], 10, 64)
	if errors.Join(err, err2, err3) != nil || len(output) != idLength || size < 0 {
		return nil, errRecord
	}
	e := &record{output: output, size: size, made: time.Unix(0, made)}
	if e.format(action) != text {
		return nil, errRecord
	}
	return e, nil
}
