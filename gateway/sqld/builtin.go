package sqld

import (
	"fmt"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

const (
	maxKey   = 2048
	maxValue = 1 << 20
	maxList  = 1 << 20
)

// builtin is a statement of the worker's own on a reserved table (SPEC §5).
type builtin struct {
	sql    string
	create string // the table, made by the first statement that writes to it
	args   []sqlchan.ValueKind
	reads  bool
	table  string
	want   []sqlchan.Column // of the answer where there is no table yet
}

const (
	kvTable    = "CREATE TABLE IF NOT EXISTS _fgw_kv (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
	alarmTable = "CREATE TABLE IF NOT EXISTS _fgw_alarm (id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL)"
)

var (
	key    = []sqlchan.ValueKind{sqlchan.Blob}
	valued = []sqlchan.Column{{Name: "value", DeclType: "BLOB"}}
	pair   = []sqlchan.Column{{Name: "key", DeclType: "BLOB"}, {Name: "value", DeclType: "BLOB"}}
	at     = []sqlchan.Column{{Name: "at", DeclType: "INTEGER"}}
)

// builtins by number. The listing's prefix is ?1, its end ?4 the first key past
// the prefix, NULL where there is none.
var builtins = map[uint64]*builtin{
	sqlchan.KVGet:    {"SELECT value FROM _fgw_kv WHERE key = ?1", kvTable, key, true, "_fgw_kv", valued},
	sqlchan.KVPut:    {"INSERT INTO _fgw_kv (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value", kvTable, []sqlchan.ValueKind{sqlchan.Blob, sqlchan.Blob}, false, "_fgw_kv", nil},
	sqlchan.KVDelete: {"DELETE FROM _fgw_kv WHERE key = ?1", kvTable, key, false, "_fgw_kv", nil},
	sqlchan.KVList: {"SELECT key, value FROM _fgw_kv WHERE key >= ?1 AND key > ?2 AND (?4 IS NULL OR key < ?4) ORDER BY key LIMIT ?3",
		kvTable, []sqlchan.ValueKind{sqlchan.Blob, sqlchan.Blob, sqlchan.Integer}, true, "_fgw_kv", pair},
	sqlchan.AlarmSet:    {"INSERT INTO _fgw_alarm (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = excluded.at", alarmTable, []sqlchan.ValueKind{sqlchan.Integer}, false, "_fgw_alarm", nil},
	sqlchan.AlarmGet:    {"SELECT at FROM _fgw_alarm", alarmTable, nil, true, "_fgw_alarm", at},
	sqlchan.AlarmDelete: {"DELETE FROM _fgw_alarm", alarmTable, nil, false, "_fgw_alarm", nil},
}

// builtin runs a built-in statement.
func (t *task) builtin(number uint64) error {
	b := builtins[number]
	if b == nil {
		return failure(sqlchan.CodeProtocol, fmt.Sprintf("there is no built-in statement %d", number))
	}
	if err := b.check(t.args); err != nil {
		return err
	}
	if number == sqlchan.KVList {
		t.args = append(t.args, prefixEnd(t.args[0].bytes))
	}
	if err := t.connect(); err != nil {
		return err
	}
	c := t.conn
	defer c.trust()()
	if b.reads || number == sqlchan.KVDelete || number == sqlchan.AlarmDelete {
		exists, err := t.hasTable(b.table)
		if err != nil {
			return err
		}
		if !exists {
			return t.out.message(t, sqlchan.Columns, sqlchan.AppendColumns(nil, b.want))
		}
	} else if exists, err := t.hasTable(b.table); err != nil {
		return err
	} else if !exists {
		if err := t.own(b.create); err != nil {
			return err
		}
	}
	s := c.find([]byte(b.sql))
	if s == nil {
		var err error
		if s, _, err = c.prepare([]byte(b.sql)); err != nil {
			return err
		}
	}
	switch number {
	case sqlchan.AlarmSet:
		c.alarm = max(1, t.args[0].n)
	case sqlchan.AlarmDelete:
		c.alarm = -1
	}
	before := c.Counters()
	err := t.one(s, &binder{args: t.args}, true, true)
	c.done(s)
	t.stats.written += c.Counters().TotalChanges - before.TotalChanges
	return err
}

// hasTable tells whether a reserved table exists in the connection's view of the database.
func (t *task) hasTable(name string) (bool, error) {
	const sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1"
	c := t.conn
	s := c.find([]byte(sql))
	if s == nil {
		var err error
		if s, _, err = c.prepare([]byte(sql)); err != nil {
			return false, err
		}
	}
	defer c.done(s)
	if err := s.BindText(1, []byte(name)); err != nil {
		return false, err
	}
	return s.Step()
}

// check refuses arguments that the tables should not hold.
func (b *builtin) check(args []argument) error {
	if len(args) != len(b.args) {
		return argsError(len(b.args), len(args))
	}
	for i, kind := range b.args {
		a := args[i]
		if a.kind == sqlchan.Text && kind == sqlchan.Blob {
			args[i].kind = sqlchan.Blob
		} else if a.kind != kind {
			return failure(sqlchan.CodeProtocol, fmt.Sprintf("argument %d of the built-in statement is of the wrong kind", i+1))
		}
		args[i].name = nil
	}
	switch {
	case b.table != "_fgw_kv":
	case len(b.args) == 3:
		if args[2].n <= 0 || args[2].n > maxList {
			args[2].n = maxList
		}
	case len(args[0].bytes) == 0 || len(args[0].bytes) > maxKey:
		return failure(sqlchan.CodeSizeLimit, fmt.Sprintf("a key has 1 to %d bytes, this one %d", maxKey, len(args[0].bytes)))
	case len(args) > 1 && len(args[1].bytes) > maxValue:
		return failure(sqlchan.CodeSizeLimit, "a value has at most "+size(maxValue))
	}
	return nil
}

// prefixEnd is the first key behind all that begin with prefix: NULL where there is none.
func prefixEnd(prefix []byte) argument {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return argument{kind: sqlchan.Blob, bytes: end}
		}
	}
	return argument{kind: sqlchan.Null}
}
