package sdk

import (
	"context"
	"database/sql/driver"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// rows is a result that streams.
type rows struct {
	ctx   context.Context
	r     *client.Rows
	cols  []sqlchan.Column
	times []bool // columns that hold times; nil if none does
}

var (
	_ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*rows)(nil)
	_ driver.RowsColumnTypeNullable         = (*rows)(nil)
	_ driver.RowsColumnTypeLength           = (*rows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*rows)(nil)
)

func newRows(ctx context.Context, r *client.Rows) *rows {
	rs := &rows{ctx: ctx, r: r, cols: r.Columns()}
	for i, c := range rs.cols {
		if isTime(c.DeclType) {
			if rs.times == nil {
				rs.times = make([]bool, len(rs.cols))
			}
			rs.times[i] = true
		}
	}
	return rs
}

func (r *rows) Columns() []string {
	names := make([]string, len(r.cols))
	for i, c := range r.cols {
		names[i] = c.Name
	}
	return names
}

func (r *rows) Close() error { return sqlError(r.ctx, r.r.Close()) }

func (r *rows) Next(dest []driver.Value) error {
	if err := r.r.Next(); err != nil {
		if err == io.EOF {
			return err
		}
		return sqlError(r.ctx, err)
	}
	for i := range dest {
		v := r.r.Value()
		if r.times != nil && r.times[i] {
			v = asTime(v)
		}
		dest[i] = v
	}
	return r.r.RowErr()
}

// ColumnTypeDatabaseTypeName returns the declared type without its size, in capitals; "" for an expression.
func (r *rows) ColumnTypeDatabaseTypeName(i int) string { return typeName(r.cols[i].DeclType) }

// ColumnTypeScanType returns the type that the column's declared type suggests, by SQLite's
// rules of affinity. Any column may hold NULL and any kind of value all the same.
func (r *rows) ColumnTypeScanType(i int) reflect.Type {
	t := typeName(r.cols[i].DeclType)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(t, w) {
				return true
			}
		}
		return false
	}
	switch {
	case t == "":
		return reflect.TypeFor[any]()
	case isTime(t):
		return reflect.TypeFor[time.Time]()
	case t == "BOOLEAN" || t == "BOOL":
		return reflect.TypeFor[bool]()
	case has("INT"):
		return reflect.TypeFor[int64]()
	case has("CHAR", "CLOB", "TEXT"):
		return reflect.TypeFor[string]()
	case has("BLOB"):
		return reflect.TypeFor[[]byte]()
	case has("REAL", "FLOA", "DOUB"):
		return reflect.TypeFor[float64]()
	}
	return reflect.TypeFor[any]()
}

// ColumnTypeNullable says that it is not known.
func (r *rows) ColumnTypeNullable(int) (nullable, ok bool) { return false, false }

// ColumnTypeLength returns the n of a declared VARCHAR(n) and the like.
func (r *rows) ColumnTypeLength(i int) (int64, bool) {
	sizes := typeSizes(r.cols[i].DeclType)
	if len(sizes) != 1 || !strings.Contains(typeName(r.cols[i].DeclType), "CHAR") {
		return 0, false
	}
	return sizes[0], true
}

// ColumnTypePrecisionScale returns the p and s of a declared DECIMAL(p, s).
func (r *rows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	if sizes := typeSizes(r.cols[i].DeclType); len(sizes) == 2 {
		return sizes[0], sizes[1], true
	}
	return 0, 0, false
}

// typeName returns a declared type's name: "varchar(20)" is "VARCHAR".
func typeName(decl string) string {
	name, _, _ := strings.Cut(decl, "(")
	return strings.ToUpper(strings.TrimSpace(name))
}

// typeSizes returns the numbers in a declared type's parentheses.
func typeSizes(decl string) []int64 {
	_, rest, ok := strings.Cut(decl, "(")
	inner, _, closed := strings.Cut(rest, ")")
	if !ok || !closed {
		return nil
	}
	var sizes []int64
	for part := range strings.SplitSeq(inner, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(part), 10, 64)
		if err != nil {
			return nil
		}
		sizes = append(sizes, n)
	}
	return sizes
}
