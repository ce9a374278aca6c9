package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// asJSON reports whether the results are for a program.
func asJSON(c *cli.Context) bool { return c.String("output") == "json" }

// emit writes a result: v as JSON, or as what people draws.
func emit(c *cli.Context, v any, people func(io.Writer)) error {
	if !asJSON(c) {
		w := bufio.NewWriter(c.App.Writer)
		people(w)
		return w.Flush()
	}
	e := json.NewEncoder(c.App.Writer)
	e.SetEscapeHTML(false)
	if isTerminal(c.App.Writer) {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

// emitList is emit for a list, which in JSON is never null.
func emitList[T any](c *cli.Context, list []T, none string, people func(io.Writer)) error {
	if list == nil {
		list = []T{}
	}
	return emit(c, list, func(w io.Writer) {
		if len(list) > 0 {
			people(w)
		} else if isTerminal(c.App.Writer) {
			fmt.Fprintln(w, none)
		}
	})
}

// table writes aligned columns under a head.
func table(w io.Writer, head string, rows func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(head, " | ", "\t"))
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				io.WriteString(t, "\t")
			}
			io.WriteString(t, cell(c))
		}
		io.WriteString(t, "\n")
	})
	t.Flush()
}

// cell is a value on one line of a terminal. Names come from whoever calls the
// gateway, so control characters must not reach the terminal as they are.
func cell(v any) string {
	switch v := v.(type) {
	case time.Time:
		return when(v)
	case time.Duration:
		return v.String()
	case byteCount:
		return v.String()
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	return printable(fmt.Sprint(v))
}

// printable shows control characters, escape sequences among them, as codes.
func printable(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isControl(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// byteCount prints as people measure memory and disks.
type byteCount int64

func (n byteCount) String() string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", int64(n))
	}
	v, unit := float64(n)/1024, 0
	for ; v >= 1023.95 && unit < len(units)-1; unit++ {
		v /= 1024
	}
	s := strconv.FormatFloat(v, 'f', 1, 64)
	return fmt.Sprintf("%s %ciB", strings.TrimSuffix(s, ".0"), units[unit])
}

// when is a moment in the reader's own time zone.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// isTerminal reports whether a person sees what is written there.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// fields writes names and values, a pair a line, the values aligned.
func fields(w io.Writer, pairs func(field func(name string, value any))) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	pairs(func(name string, value any) { fmt.Fprintf(t, "%s\t%s\n", name, cell(value)) })
	t.Flush()
}
