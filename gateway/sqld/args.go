package sqld

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// argument is an argument of a statement, as it lies in the request's payload.
type argument struct {
	name  []byte
	kind  sqlchan.ValueKind
	n     int64 // an INTEGER, or a REAL's bits
	bytes []byte
}

// readArgs reads a request's arguments into args, whose memory it uses. Errors stay in r.
func readArgs(r *sqlchan.Reader, args []argument) []argument {
	args = args[:0]
	n := r.Uvarint()
	if n > sqlchan.MaxArgs || n > uint64(r.Len()) {
		malformed(r) // more than there can be
		return args
	}
	for range n {
		a := argument{name: r.Bytes(), kind: sqlchan.ValueKind(r.Byte())}
		switch a.kind {
		case sqlchan.Null:
		case sqlchan.Integer:
			a.n = r.Varint()
		case sqlchan.Real:
			var b [8]byte
			for i := range b {
				b[i] = r.Byte()
			}
			a.n = int64(binary.LittleEndian.Uint64(b[:]))
		case sqlchan.Text, sqlchan.Blob:
			a.bytes = r.Bytes()
		default:
			malformed(r) // there is no such kind
		}
		if r.Err() != nil {
			return args
		}
		args = append(args, a)
	}
	return args
}

// malformed makes the reader fail, as a message that is too short does.
func malformed(r *sqlchan.Reader) {
	for r.Err() == nil {
		r.Byte()
	}
}

// binder gives a request's arguments to its statements, in order. Named ones
// (":a", "@a", "$a" by "a") are seen by every statement.
type binder struct {
	args []argument
	next int // the first positional argument that no statement had
}

func (b *binder) named() bool {
	for i := range b.args[b.next:] {
		if len(b.args[b.next+i].name) == 0 {
			return false
		}
	}
	return true
}

// positional skips to the next argument without a name.
func (b *binder) positional() *argument {
	for b.next < len(b.args) {
		a := &b.args[b.next]
		b.next++
		if len(a.name) == 0 {
			return a
		}
	}
	return nil
}

func (b *binder) find(name string) *argument {
	for i := range b.args {
		if string(b.args[i].name) == name {
			return &b.args[i]
		}
	}
	return nil
}

func argsError(want, got int) error {
	return failure(sqlchan.CodeSQL, fmt.Sprintf("the statement has %d parameters, %d arguments were given", want, got))
}

// bind sets the parameters of a statement. The last one must use up what is left.
func (b *binder) bind(s *statement, last bool) error {
	for i := 1; i <= s.Params; i++ {
		var a *argument
		if name := s.ParamName(i); len(name) > 1 && name[0] != '?' {
			a = b.find(name[1:])
		}
		if a == nil {
			a = b.positional()
		}
		if a == nil {
			if name := s.ParamName(i); len(name) > 1 && name[0] != '?' && len(b.args) > 0 {
				return failure(sqlchan.CodeSQL, fmt.Sprintf("no argument for the parameter %s", name))
			}
			return argsError(s.Params, len(b.args))
		}
		if err := a.set(s.Stmt, i); err != nil {
			return err
		}
	}
	if last && !b.named() {
		return argsError(s.Params, len(b.args))
	}
	return nil
}

func (a *argument) set(s *sqlite.Stmt, i int) error {
	switch a.kind {
	case sqlchan.Integer:
		return s.BindInt64(i, a.n)
	case sqlchan.Real:
		return s.BindFloat64(i, math.Float64frombits(uint64(a.n)))
	case sqlchan.Text:
		return s.BindText(i, a.bytes)
	case sqlchan.Blob:
		return s.BindBlob(i, a.bytes)
	}
	return s.BindNull(i)
}
