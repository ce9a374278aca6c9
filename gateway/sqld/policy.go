package sqld

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/facetgateway/fgw/gateway/sqlite"
	lib "modernc.org/sqlite/lib"
)

// reserved is how names begin that are the gateway's, in any case. Its own tables have another _ there; without
// one it is reserved too, for a virtual table _fgw would have tables of its own named _fgw_data and so on.
const reserved = "_fgw"

func isReserved(name string) bool {
	return len(name) >= len(reserved) && strings.EqualFold(name[:len(reserved)], reserved)
}

// functions are the SQL functions that statements may call. Not among them:
// load_extension, json_patch and jsonb_patch (quadratic in one opcode), geopoly,
// and what tells about the build or writes to a log.
var functions = set(`-> ->> abs acos acosh asin asinh atan atan2 atanh avg bm25 ceil ceiling changes char coalesce
	concat concat_ws cos cosh count cume_dist current_date current_time current_timestamp date datetime degrees
	dense_rank exp first_value floor format fts5_get_locale fts5_insttoken fts5_locale glob group_concat hex highlight
	if ifnull iif instr json json_array json_array_insert json_array_length json_error_position json_extract
	json_group_array json_group_object json_insert json_object json_pretty json_quote json_remove json_replace json_set
	json_type json_valid jsonb jsonb_array jsonb_array_insert jsonb_extract jsonb_group_array jsonb_group_object
	jsonb_insert jsonb_object jsonb_remove jsonb_replace jsonb_set julianday lag last_insert_rowid last_value lead
	length like likelihood likely ln log log10 log2 lower ltrim match max median min mod nth_value ntile nullif
	octet_length percent_rank pi pow power printf quote radians random randomblob rank replace round row_number
	rtrim sign sin sinh snippet soundex sqlite_source_id sqlite_version sqrt strftime string_agg substr substring
	subtype sum tan tanh time timediff total total_changes trim trunc typeof unhex unicode unistr unistr_quote
	unixepoch unlikely upper zeroblob
	sqlite_rename_column sqlite_rename_table sqlite_rename_test sqlite_drop_column sqlite_rename_quotefix
	sqlite_add_constraint sqlite_drop_constraint sqlite_find_constraint sqlite_fail`) // the last two lines: of ALTER TABLE; SQL text can't call them

// modules are the virtual tables that may be created.
var modules = set("fts5 fts5vocab rtree rtree_i32")

// forbiddenTables are SQLite's own virtual tables that reach beneath SQL.
var forbiddenTables = set("sqlite_dbpage dbstat")

const denyTemp = "TEMP tables, views, indexes and triggers are not allowed: use an ordinary one, or WITH"

// What may be done with a PRAGMA.
type pragmaRule int

const (
	pragmaRead   pragmaRule = iota + 1 // read, with an argument that says of what
	pragmaGet                          // read; setting it is denied
	pragmaGetSet                       // read and set: kept in the database file
	pragmaFlag                         // read and set: a state of the session
	pragmaOurs                         // read; setting it does nothing, since the gateway sets it
	pragmaRun                          // an action
)

var pragmas = map[string]pragmaRule{
	"collation_list": pragmaRead, "data_version": pragmaRead, "database_list": pragmaRead, "foreign_key_check": pragmaRead,
	"foreign_key_list": pragmaRead, "freelist_count": pragmaRead, "function_list": pragmaRead, "index_info": pragmaRead,
	"index_list": pragmaRead, "index_xinfo": pragmaRead, "integrity_check": pragmaRead, "page_count": pragmaRead,
	"quick_check": pragmaRead, "table_info": pragmaRead, "table_list": pragmaRead, "table_xinfo": pragmaRead,
	"auto_vacuum": pragmaGet, "encoding": pragmaGet, "max_page_count": pragmaGet, "page_size": pragmaGet, "schema_version": pragmaGet,
	"journal_mode":   pragmaGet,
	"application_id": pragmaGetSet, "user_version": pragmaGetSet,
	"automatic_index": pragmaFlag, "defer_foreign_keys": pragmaFlag, "foreign_keys": pragmaFlag, "ignore_check_constraints": pragmaFlag,
	"legacy_alter_table": pragmaFlag, "query_only": pragmaFlag, "recursive_triggers": pragmaFlag, "reverse_unordered_selects": pragmaFlag,
	"busy_timeout": pragmaOurs, "cache_size": pragmaOurs, "cell_size_check": pragmaOurs, "journal_size_limit": pragmaOurs,
	"locking_mode": pragmaOurs, "mmap_size": pragmaOurs, "secure_delete": pragmaOurs, "synchronous": pragmaOurs,
	"temp_store": pragmaOurs, "trusted_schema": pragmaOurs, "wal_autocheckpoint": pragmaOurs, "wal_checkpoint": pragmaOurs,
	"shrink_memory": pragmaOurs, "incremental_vacuum": pragmaOurs, "threads": pragmaOurs, "read_uncommitted": pragmaOurs,
	"optimize": pragmaRun,
}

func set(names string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(names) {
		m[n] = true
	}
	return m
}

// seen is what the authorizer noticed about the statement that is being prepared.
type seen struct {
	denied string // why it is refused; "" is allowed
	alter  bool   // ALTER TABLE: the new name does not pass the authorizer
	pragma bool   // takes effect while it is prepared, so it must not be kept
	heavy  bool   // calls functions that search their argument once for each of many paths
	flag   bool   // changes the session's state
}

// authorize decides about one action of a statement of a facet's. The first
// reason for a refusal stays: it is what the facet is told.
func (s *seen) authorize(action int, arg1, arg2, schema, source string) sqlite.Verdict {
	deny := func(format string, args ...any) sqlite.Verdict {
		if s.denied == "" {
			s.denied = fmt.Sprintf(format, args...)
		}
		return sqlite.Deny
	}
	if schema == "temp" && s.alter && action == lib.SQLITE_UPDATE && arg1 == "sqlite_temp_master" {
		return sqlite.Allow // ALTER TABLE looks for TEMP objects that name the table
	}
	if schema == "temp" && action != lib.SQLITE_READ && action != lib.SQLITE_PRAGMA {
		return deny(denyTemp)
	}
	switch action {
	case lib.SQLITE_SELECT, lib.SQLITE_TRANSACTION, lib.SQLITE_SAVEPOINT, lib.SQLITE_RECURSIVE:
		return sqlite.Allow
	case lib.SQLITE_FUNCTION:
		if !functions[strings.ToLower(arg2)] {
			return deny("the function %s() is not allowed here", arg2)
		}
		s.heavy = s.heavy || arg2[0] == '-' || strings.HasPrefix(arg2, "json") // -> and ->> too
		return sqlite.Allow
	case lib.SQLITE_PRAGMA:
		return s.pragmaVerdict(strings.ToLower(arg1), arg2, deny)
	case lib.SQLITE_ATTACH:
		return deny("ATTACH is not allowed: a facet has one database, and no files")
	case lib.SQLITE_DETACH:
		return deny("DETACH is not allowed: a facet has one database")
	case lib.SQLITE_CREATE_TEMP_TABLE, lib.SQLITE_CREATE_TEMP_INDEX, lib.SQLITE_CREATE_TEMP_TRIGGER, lib.SQLITE_CREATE_TEMP_VIEW,
		lib.SQLITE_DROP_TEMP_TABLE, lib.SQLITE_DROP_TEMP_INDEX, lib.SQLITE_DROP_TEMP_TRIGGER, lib.SQLITE_DROP_TEMP_VIEW:
		return deny(denyTemp)
	case lib.SQLITE_CREATE_VTABLE:
		if !modules[strings.ToLower(arg2)] {
			return deny("virtual tables of the module %s are not allowed: fts5, fts5vocab and rtree are", arg2)
		}
	case lib.SQLITE_ALTER_TABLE:
		s.alter = true
		arg1 = "" // the schema
	case lib.SQLITE_ANALYZE:
		if isReserved(arg1) {
			return sqlite.Ignore
		}
	case lib.SQLITE_READ:
		table := strings.ToLower(arg1)
		if forbiddenTables[table] {
			return deny("the table %s is not allowed here", arg1)
		}
		if name, ok := strings.CutPrefix(table, "pragma_"); ok && source == "" && pragmas[name] == 0 && schema == "" {
			return deny("the table function %s is not allowed here", arg1)
		}
	case lib.SQLITE_CREATE_INDEX, lib.SQLITE_CREATE_TABLE, lib.SQLITE_CREATE_TRIGGER, lib.SQLITE_CREATE_VIEW,
		lib.SQLITE_DELETE, lib.SQLITE_DROP_INDEX, lib.SQLITE_DROP_TABLE, lib.SQLITE_DROP_TRIGGER, lib.SQLITE_DROP_VIEW,
		lib.SQLITE_INSERT, lib.SQLITE_UPDATE, lib.SQLITE_DROP_VTABLE, lib.SQLITE_REINDEX:
		if action == lib.SQLITE_UPDATE {
			arg2 = "" // a column
		}
	default:
		return deny("this kind of statement (action %d) is not allowed here", action)
	}
	if action == lib.SQLITE_READ || action == lib.SQLITE_CREATE_VTABLE {
		arg2 = ""
	}
	for _, name := range []string{arg1, arg2} {
		if isReserved(name) {
			return deny("%s: names that begin with %s are reserved for the gateway", name, reserved)
		}
	}
	return sqlite.Allow
}

func (s *seen) pragmaVerdict(name, value string, deny func(string, ...any) sqlite.Verdict) sqlite.Verdict {
	s.pragma = true
	rule := pragmas[name]
	switch {
	case rule == 0:
		return deny("PRAGMA %s is not allowed here", name)
	case value == "" || rule == pragmaRead || rule == pragmaRun || rule == pragmaGetSet:
	case rule == pragmaFlag:
		s.flag = true
	case rule == pragmaOurs, name == "journal_mode" && strings.EqualFold(value, "wal"):
		return sqlite.Ignore
	default:
		return deny("setting PRAGMA %s is not allowed: the gateway sets it", name)
	}
	return sqlite.Allow
}

// checkText refuses what only the statement's text shows: the new name in an
// ALTER TABLE … RENAME TO, and a VACUUM into a file.
func (s *seen) checkText(sql []byte) {
	if s.denied == "" && firstWord(sql) == "vacuum" && !plainVacuum(sql) {
		s.denied = "VACUUM INTO is not allowed: a facet has no files"
	}
	if s.alter && s.denied == "" && strings.Contains(strings.ToLower(string(sql)), reserved) {
		s.denied = "names that begin with " + reserved + " are reserved for the gateway"
	}
}

// plainVacuum tells whether a VACUUM names nothing but the schema.
func plainVacuum(sql []byte) bool {
	rest := skipSpace(skipSpace(sql)[len("vacuum"):])
	word := bytes.TrimSpace(rest)
	for len(word) > 0 && word[len(word)-1] == ';' {
		word = bytes.TrimSpace(word[:len(word)-1])
	}
	switch strings.ToLower(string(word)) {
	case "", "main", `"main"`, "'main'", "[main]", "`main`":
		return true
	}
	return false
}

// firstWord is the first keyword of a statement in lower case, behind comments and semicolons.
func firstWord(sql []byte) string {
	sql = skipSpace(sql)
	n := 0
	for n < len(sql) && (sql[n]|0x20 >= 'a' && sql[n]|0x20 <= 'z') {
		n++
	}
	return strings.ToLower(string(sql[:n]))
}

// skipSpace drops white space, comments and semicolons before a statement.
func skipSpace(sql []byte) []byte {
	for len(sql) > 0 {
		switch c := sql[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == ';':
			sql = sql[1:]
		case c == '-' && len(sql) > 1 && sql[1] == '-':
			if i := bytes.IndexByte(sql, '\n'); i >= 0 {
				sql = sql[i+1:]
			} else {
				sql = nil
			}
		case c == '/' && len(sql) > 1 && sql[1] == '*':
			if i := bytes.Index(sql[2:], []byte("*/")); i >= 0 {
				sql = sql[2+i+2:]
			} else {
				sql = nil
			}
		default:
			return sql
		}
	}
	return sql
}
