// Package logs keeps what facets print: one JSON object a line, a few MB per
// facet and a budget for all, on disk but not synced. A facet that prints
// without end loses lines, and never slows another or fills the disk.
package logs

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Line is one line of a facet's output.
type Line struct {
	Time      time.Time `json:"time"`
	Address   string    `json:"address"`
	Version   int       `json:"version"`
	Stream    string    `json:"stream"`     // "output", "log", "gateway" or "sql"
	RequestID *string   `json:"request_id"` // nil where none is known
	Line      string    `json:"line"`
}

// Streams of a line.
const (
	StreamOutput  = "output"  // what the process printed
	StreamLog     = "log"     // a record of its structured logger
	StreamGateway = "gateway" // what the gateway says of it
	StreamSQL     = "sql"     // a statement of an audited facet
)

// MaxLine is how much of one line is kept.
const MaxLine = 16 << 10

// MaxRequestID is how much of a request's id is kept. The gateway's own have 24 bytes; but a facet says to which request a
// line belongs, and it may say anything.
const MaxRequestID = 64

// encode gives the line as it stands in the file and in an answer.
func (l *Line) encode() []byte {
	b, err := json.Marshal(l)
	if err != nil {
		return nil // a struct of texts and a time always marshals
	}
	return append(b, '\n')
}

// clean cuts a line that is too long and replaces what is not UTF-8. Total is
// how long the line was before somebody else cut it.
func clean(s string, total int) string {
	if total > MaxLine || len(s) > MaxLine {
		s = s[:min(len(s), MaxLine)]
		for range utf8.UTFMax - 1 { // not in the middle of a character
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1]
		}
		s += fmt.Sprintf(" … (cut: the line has %d bytes, %d are kept)", total, MaxLine)
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
