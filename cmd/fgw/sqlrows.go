package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/facetgateway/fgw/gateway/admin"
)

// sqlModes are the forms in which results are printed.
var sqlModes = []string{"table", "csv", "json", "line"}

// printRows prints a result as it streams in, and closes it.
func printRows(w *bufio.Writer, rows *admin.SQLRows, mode string) error {
	defer rows.Close()
	names := make([]string, len(rows.Columns()))
	for i, c := range rows.Columns() {
		names[i] = c.Name
	}
	print := map[string]func(*bufio.Writer, []string, *admin.SQLRows) error{
		"table": printTable, "csv": printCSV, "json": printJSON, "line": printLines,
	}[mode]
	if err := print(w, names, rows); err != nil {
		return err
	}
	return rows.Err()
}

// printJSON prints an array of objects whose members are the columns in their
// order, a row a line, as `sqlite3 -json` does.
func printJSON(w *bufio.Writer, names []string, rows *admin.SQLRows) error {
	keys := make([][]byte, len(names))
	for i, name := range names {
		keys[i] = append(quoted(name), ':')
	}
	sep := "["
	for rows.Next() {
		w.WriteString(sep)
		sep = ",\n"
		for i, v := range rows.Values() {
			w.WriteByte("{,"[min(i, 1)])
			w.Write(keys[i])
			w.Write(jsonValue(v))
		}
		w.WriteByte('}')
	}
	if rows.Err() != nil {
		w.WriteString(map[bool]string{true: "", false: "\n"}[sep == "["])
		return nil // an array that is not closed is not taken for a whole one
	}
	if sep == "[" {
		w.WriteByte('[')
	}
	_, err := w.WriteString("]\n")
	return err
}

// jsonValue is a SQL value in JSON. Integers are exact; infinities are numbers
// too large for a float, as SQLite prints them; what is not text is base64.
func jsonValue(v any) []byte {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case float64:
		if math.IsInf(v, 0) {
			return []byte(map[bool]string{true: "9.0e+999", false: "-9.0e+999"}[v > 0])
		}
		return []byte(real(v))
	case string:
		if utf8.ValidString(v) {
			return quoted(v)
		}
		return jsonValue([]byte(v))
	case []byte:
		return fmt.Appendf(nil, `{"base64":"%s"}`, base64.StdEncoding.EncodeToString(v))
	}
	return []byte("null")
}

func quoted(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// real prints a REAL so that it can't be taken for an INTEGER.
func real(v float64) string {
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, ".eIN") {
		s += ".0"
	}
	return s
}

func printCSV(w *bufio.Writer, names []string, rows *admin.SQLRows) error {
	out := csv.NewWriter(w)
	out.Write(names)
	fields := make([]string, len(names))
	for rows.Next() {
		for i, v := range rows.Values() {
			switch v := v.(type) {
			case nil:
				fields[i] = ""
			case []byte:
				fields[i] = hex.EncodeToString(v)
			default:
				fields[i] = sqlText(v)
			}
		}
		out.Write(fields)
	}
	out.Flush()
	return out.Error()
}

// printLines prints a column a line, for rows that are too wide for a table.
func printLines(w *bufio.Writer, names []string, rows *admin.SQLRows) error {
	width := 0
	for _, name := range names {
		width = max(width, utf8.RuneCountInString(name))
	}
	for first := true; rows.Next(); first = false {
		if !first {
			w.WriteByte('\n')
		}
		for i, v := range rows.Values() {
			fmt.Fprintf(w, "%*s = %s\n", width, printable(names[i]), printable(sqlText(v)))
		}
	}
	return nil
}

// tableSample is how many rows decide the widths of a table. The rows after
// them are printed as they come, so that a result of any size is.
const tableSample = 500

func printTable(w *bufio.Writer, names []string, rows *admin.SQLRows) error {
	widths := make([]int, len(names))
	head := make([]string, len(names))
	for i, name := range names {
		head[i] = printable(name)
		widths[i] = utf8.RuneCountInString(head[i])
	}
	sample := [][]string{head}
	write := func(cells []string) {
		var line strings.Builder
		for i, c := range cells {
			line.WriteString(c)
			line.WriteString(strings.Repeat(" ", max(widths[i]-utf8.RuneCountInString(c), 0)+2))
		}
		w.WriteString(strings.TrimRight(line.String(), " "))
		w.WriteByte('\n')
	}
	flush := func() {
		for _, cells := range sample {
			for i, c := range cells {
				widths[i] = max(widths[i], utf8.RuneCountInString(c))
			}
		}
		for _, cells := range sample {
			write(cells)
		}
		sample = nil
	}
	cells := make([]string, len(names))
	for n := 0; rows.Next(); n++ {
		for i, v := range rows.Values() {
			cells[i] = printable(sqlText(v))
		}
		if n < tableSample {
			sample = append(sample, slices.Clone(cells))
			continue
		}
		if sample != nil {
			flush()
		}
		write(cells)
	}
	if sample != nil {
		flush()
	}
	return nil
}

// sqlText is a value as people read it.
func sqlText(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return real(v)
	case []byte:
		return "x'" + hex.EncodeToString(v) + "'"
	}
	return fmt.Sprint(v)
}
