package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// unknownCommand says that there is no such command, and what comes close.
func unknownCommand(line commandLine, level []*cli.Command, word string) error {
	f := usage(line, fmt.Sprintf("there is no command %q", strings.TrimSpace(line.name()+" "+word)))
	var names []string
	for _, c := range level {
		if !c.Hidden {
			names = append(names, c.Names()...)
		}
	}
	if near := nearest(word, names); near != "" {
		f.hint = fmt.Sprintf("did you mean `fgw %s`?", strings.TrimSpace(line.name()+" "+near))
	}
	return f
}

// unknownFlag says that the command has no such flag, and what comes close.
func unknownFlag(line commandLine, text string, flags []cli.Flag) error {
	f := usage(line, "there is no flag "+text)
	var names []string
	for _, known := range flags {
		names = append(names, known.Names()...)
	}
	if near := nearest(strings.TrimLeft(text, "-"), names); near != "" {
		f.hint = fmt.Sprintf("did you mean --%s?", near)
	}
	return f
}

// nearest is the candidate that the fewest edits lead to, if it is near enough
// to have been meant: a third of its letters.
func nearest(word string, candidates []string) string {
	best, distance := "", 3
	for _, c := range candidates {
		if len(c) < 2 {
			continue
		}
		if strings.HasPrefix(c, word) && len(word) >= 2 {
			return c
		}
		if d := edits(word, c); d < distance && d <= (len(c)+2)/3 {
			best, distance = c, d
		}
	}
	return best
}

// edits counts the insertions, deletions and replacements that make a into b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
