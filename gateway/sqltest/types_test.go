package sqltest

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

type level int

type valuer struct{ s string }

func (v valuer) Value() (driver.Value, error) { return "<" + v.s + ">", nil }

func TestValuesThereAndBack(t *testing.T) {
	db := newDB(t, `CREATE TABLE v (x)`)
	at := time.Date(2026, 3, 4, 5, 6, 7, 890, time.FixedZone("", 3600))
	text, number := "p", int64(5)
	for name, c := range map[string]struct{ in, out any }{
		"nil":             {nil, nil},
		"int":             {-7, int64(-7)},
		"int8":            {int8(-8), int64(-8)},
		"uint32":          {uint32(1 << 31), int64(1 << 31)},
		"uint64":          {uint64(math.MaxInt64), int64(math.MaxInt64)},
		"min":             {int64(math.MinInt64), int64(math.MinInt64)},
		"named int":       {level(3), int64(3)},
		"true":            {true, int64(1)},
		"false":           {false, int64(0)},
		"float64":         {1.5, 1.5},
		"float32":         {float32(0.25), 0.25},
		"infinity":        {math.Inf(1), math.Inf(1)},
		"text":            {"ü\x00\xff'", "ü\x00\xff'"},
		"empty text":      {"", ""},
		"bytes":           {[]byte{0, 1, 255}, []byte{0, 1, 255}},
		"empty bytes":     {[]byte{}, []byte{}},
		"pointer":         {&text, "p"},
		"pointer to int":  {&number, int64(5)},
		"nil pointer":     {(*string)(nil), nil},
		"valuer":          {valuer{"a"}, "<a>"},
		"null string":     {sql.NullString{}, nil},
		"null string set": {sql.NullString{String: "s", Valid: true}, "s"},
		"time":            {at, "2026-03-04 04:06:07.00000089+00:00"},
	} {
		t.Run(name, func(t *testing.T) {
			mustExec(t, db, `DELETE FROM v`)
			mustExec(t, db, `INSERT INTO v VALUES (?)`, c.in)
			var got any
			if err := db.QueryRow(`SELECT x FROM v`).Scan(&got); err != nil || !reflect.DeepEqual(got, c.out) {
				t.Errorf("%#v became %#v (%v), wanted %#v", c.in, got, err, c.out)
			}
		})
	}
	for name, in := range map[string]any{"uint64 too large": uint64(1 << 63), "map": map[string]int{}, "channel": make(chan int)} {
		if _, err := db.Exec(`INSERT INTO v VALUES (?)`, in); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestTimes(t *testing.T) {
	db := newDB(t, `CREATE TABLE v (a DATETIME, b TIMESTAMP, c DATE, d TEXT, e "timestamp", f DATETIME(6))`)
	now := time.Date(2026, 11, 24, 8, 9, 10, 123456789, time.UTC)
	mustExec(t, db, `INSERT INTO v VALUES (?, ?, ?, ?, ?, ?)`, now, now, now, now, now, now)
	var a, b, c, e, f time.Time
	var d string
	if err := db.QueryRow(`SELECT a, b, c, d, e, f FROM v`).Scan(&a, &b, &c, &d, &e, &f); err != nil {
		t.Fatal(err)
	}
	for _, got := range []time.Time{a, b, c, e, f} {
		if !got.Equal(now) || got.Location() != time.UTC {
			t.Errorf("%v, wanted %v", got, now)
		}
	}
	if d != "2026-11-24 08:09:10.123456789+00:00" {
		t.Errorf("as text %q", d)
	}
	for in, want := range map[any]any{
		"2026-01-02":                  time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		"2026-01-02 03:04":            time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		"2026-01-02T03:04:05Z":        time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02 03:04:05.5":       time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC),
		"2026-01-02T03:04:05.5+02:00": time.Date(2026, 1, 2, 1, 4, 5, 5e8, time.UTC),
		int64(1767322800):             time.Unix(1767322800, 0).UTC(),
		int64(1767322800_123):         time.UnixMilli(1767322800_123).UTC(),
		"no time at all":              "no time at all",
		1.5:                           1.5,
		nil:                           nil,
	} {
		mustExec(t, db, `UPDATE v SET a = ?`, in)
		var got any
		if err := db.QueryRow(`SELECT a FROM v`).Scan(&got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v read as %v (%v), wanted %v", in, got, err, want)
		}
	}
	// SQLite's own functions read what was stored, and what they write is read
	mustExec(t, db, `UPDATE v SET a = ?, b = CURRENT_TIMESTAMP`, now)
	var unix int64
	if err := db.QueryRow(`SELECT unixepoch(a), b FROM v`).Scan(&unix, &b); err != nil || unix != now.Unix() || time.Since(b).Abs() > time.Minute {
		t.Errorf("%d %v %v", unix, b, err)
	}
}

func TestColumnTypes(t *testing.T) {
	db := newDB(t, `CREATE TABLE v (a INTEGER, b varchar(20), c DECIMAL(10, 2), d DATETIME, e BLOB, f REAL, g BOOLEAN)`)
	mustExec(t, db, `INSERT INTO v (a) VALUES (1)`)
	rows, err := db.Query(`SELECT a, b, c, d, e, f, g, a + 1 FROM v`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		name string
		scan any
	}{{"INTEGER", int64(0)}, {"VARCHAR", ""}, {"DECIMAL", nil}, {"DATETIME", time.Time{}}, {"BLOB", []byte{}}, {"REAL", 0.0}, {"BOOLEAN", false}, {"", nil}}
	for i, w := range want {
		scan := reflect.TypeOf(w.scan)
		if scan == nil {
			scan = reflect.TypeFor[any]()
		}
		if got := types[i]; got.DatabaseTypeName() != w.name || got.ScanType() != scan {
			t.Errorf("column %d: %q %v, wanted %q %v", i, got.DatabaseTypeName(), got.ScanType(), w.name, scan)
		}
	}
	if n, ok := types[1].Length(); !ok || n != 20 {
		t.Error("length", n, ok)
	}
	if p, s, ok := types[2].DecimalSize(); !ok || p != 10 || s != 2 {
		t.Error("precision", p, s, ok)
	}
	if _, ok := types[0].Nullable(); ok {
		t.Error("claims to know what may be NULL")
	}
}

func TestNamedAndRepeatedArguments(t *testing.T) {
	db := newFacet(t).DB()
	var a, b, c string
	err := db.QueryRow(`SELECT :x, @y, $x`, sql.Named("x", "X"), sql.Named("y", "Y")).Scan(&a, &b, &c)
	if err != nil || a+b+c != "XYX" {
		t.Errorf("%q %v", a+b+c, err)
	}
	err = db.QueryRow(`SELECT ?2, ?1, ?2`, "1", "2").Scan(&a, &b, &c)
	if err != nil || a+b+c != "212" {
		t.Errorf("%q %v", a+b+c, err)
	}
	st, err := db.Prepare(`SELECT ?, ?`)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, args := range [][]any{{}, {1}, {1, 2, 3}} {
		if _, err := st.Query(args...); err == nil {
			t.Errorf("%d arguments for two places are taken", len(args))
		}
		if _, err := db.Exec(`SELECT ?, ?`, args...); err == nil {
			t.Errorf("%d arguments for two places are taken without preparing", len(args))
		}
	}
}

func TestLargeValuesAndResults(t *testing.T) {
	db := newDB(t, `CREATE TABLE v (id INTEGER PRIMARY KEY, b BLOB)`)
	big := bytes.Repeat([]byte("0123456789"), 100_000) // several packets
	mustExec(t, db, `INSERT INTO v (b) VALUES (?)`, big)
	var got []byte
	if err := db.QueryRow(`SELECT b FROM v`).Scan(&got); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	const count = 50_000
	rows, err := db.Query(`WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?) SELECT n, 'row ' || n FROM c`, count)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var n int
		var s string
		if err := rows.Scan(&n, &s); err != nil {
			t.Fatal(err)
		}
		if seen++; n != seen {
			t.Fatalf("row %d says %d", seen, n)
		}
	}
	if err := rows.Err(); err != nil || seen != count {
		t.Errorf("%d rows, %v", seen, err)
	}
}

func TestErrorsSayWhatTheyAre(t *testing.T) {
	db := newDB(t, `CREATE TABLE v (a INTEGER UNIQUE NOT NULL CHECK (a < 10)); INSERT INTO v VALUES (1)`)
	for query, want := range map[string]sdk.SQLError{
		`SELECT * FROM nosuch`:                        {Code: "sql_error", Message: "no such table: nosuch", SQLite: 1},
		`SELEKT 1`:                                    {Code: "sql_error", SQLite: 1},
		`INSERT INTO v VALUES (1)`:                    {Code: "constraint", SQLite: 2067},
		`INSERT INTO v VALUES (NULL)`:                 {Code: "constraint", SQLite: 1299},
		`INSERT INTO v VALUES (11)`:                   {Code: "constraint", SQLite: 275},
		`ATTACH DATABASE 'x' AS y`:                    {Code: "denied"},
		`SELECT load_extension('x')`:                  {Code: "denied"},
		`CREATE TABLE _fgw_mine (a)`:                  {Code: "denied"},
		"SELECT 1\x00":                                {Code: "denied"},
		`SELECT zeroblob(2000000000)`:                 {Code: "size_limit"},
		`SELECT '` + strings.Repeat("x", 9<<20) + `'`: {Code: "size_limit"},
	} {
		_, err := db.Exec(query)
		var e *sdk.SQLError
		if !errors.As(err, &e) || e.Code != want.Code || want.SQLite != 0 && e.SQLite != want.SQLite || want.Message != "" && e.Message != want.Message {
			t.Errorf("%.60s: %#v (%v), wanted %+v", query, e, err, want)
			continue
		}
		var fe *sdk.FacetError
		if !errors.As(err, &fe) || fe.Code != e.Code || fe.Message != e.Message {
			t.Errorf("%.60s: as a FacetError it is %+v", query, fe)
		}
		if limit := strings.HasSuffix(e.Code, "_limit"); errors.Is(err, sdk.ErrLimit) != limit {
			t.Errorf("%.60s: is a limit: %v", query, !limit)
		}
	}
}
