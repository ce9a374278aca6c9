package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// row is one line of the table.
type row struct {
	what    string
	figure  string
	floor   string  // with what it is; "–" where a row has none
	ratio   float64 // figure ÷ floor; 0: none
	target  string
	verdict string // ok, miss, or – where nothing is promised or could be compared
	note    string // printed below the table
}

// upTo and atLeast say whether a figure keeps its promise.
func upTo(v, limit float64) string    { return verdict(v <= limit) }
func atLeast(v, limit float64) string { return verdict(v >= limit) }

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "miss"
}

const none = "–"

// printTable writes the rows as a Markdown table whose columns also line up in a terminal.
func printTable(w io.Writer, rows []row) {
	cells := [][]string{{"what", "figure", "floor, same run", "ratio", "target", ""}}
	for _, r := range rows {
		ratio := none
		if r.ratio != 0 {
			ratio = fmt.Sprintf("%.2f", r.ratio)
		}
		cells = append(cells, []string{r.what, r.figure, orNone(r.floor), ratio, orNone(r.target), orNone(r.verdict)})
	}
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for n, line := range cells {
		for i, c := range line {
			fmt.Fprint(w, "| ", c, strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+1))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for i := range line {
				fmt.Fprint(w, "|", strings.Repeat("-", width[i]+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
	for _, r := range rows {
		if r.note != "" {
			fmt.Fprintf(w, "\n%s: %s\n", r.what, r.note)
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// Figures as people read them.

func perSecond(v float64) string { return grouped(int64(v+0.5)) + "/s" }
func micros(v float64) string    { return fmt.Sprintf("%.1f µs", v) }
func millis(v float64) string    { return fmt.Sprintf("%.2f ms", v) }
func megabytes(v float64) string { return fmt.Sprintf("%.2f MB", v/1e6) }

// grouped writes 12345 as 12,345.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
