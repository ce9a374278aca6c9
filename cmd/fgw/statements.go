package main

import (
	"iter"
	"strings"
)

// sqlStatement is one statement of a text, and the line that it begins on.
type sqlStatement struct {
	text string
	line int
}

// statements takes SQL text apart at the semicolons that end a statement: not
// those in strings, names and comments, nor those in a trigger's body. What the
// last one lacks is for SQLite to say. Text of blanks and comments alone is no
// statement.
func statements(sql string) iter.Seq[sqlStatement] {
	return func(yield func(sqlStatement) bool) {
		line := 1
		for sql != "" {
			n, start, _ := firstStatement(sql)
			if start < n {
				at := line + strings.Count(sql[:start], "\n")
				if !yield(sqlStatement{strings.TrimRight(sql[start:n], blanks), at}) {
					return
				}
			}
			line += strings.Count(sql[:n], "\n")
			sql = sql[n:]
		}
	}
}

// complete reports whether the text ends where a statement does, so that a
// shell need not ask for another line.
func complete(sql string) bool {
	for sql != "" {
		n, start, ended := firstStatement(sql)
		if !ended && start < n {
			return false
		}
		sql = sql[n:]
	}
	return true
}

// firstStatement measures the first statement: its length with the blanks
// before it, where it starts within that, and whether a semicolon ends it.
func firstStatement(sql string) (length, start int, ended bool) {
	start = -1
	var trigger triggerBody
	for i := 0; i < len(sql); {
		n, kind := firstToken(sql[i:])
		switch kind {
		case tokenBlank:
			i += n
			continue
		case tokenSemicolon:
			if start < 0 {
				start = i + n // an empty statement
			}
			if trigger.ends() {
				return i + n, start, true
			}
		case tokenWord:
			trigger.word(strings.ToUpper(sql[i : i+n]))
		default:
			trigger.word("")
		}
		if start < 0 {
			start = i
		}
		i += n
	}
	if start < 0 {
		start = len(sql)
	}
	return len(sql), start, false
}

// triggerBody follows a statement's words as far as they tell whether a
// semicolon ends it: CREATE [TEMP] TRIGGER … END does not before its END.
type triggerBody struct {
	words   int
	create  bool
	trigger bool
	end     bool // the last word was END, at a statement's place
	fresh   bool // the last token was a semicolon
}

func (t *triggerBody) word(w string) {
	t.words++
	switch {
	case t.words == 1:
		t.create = w == "CREATE"
	case t.create && t.words <= 3 && w == "TRIGGER":
		t.trigger = true
	}
	t.end = t.trigger && t.fresh && w == "END"
	t.fresh = false
}

func (t *triggerBody) ends() bool {
	t.fresh = true
	return !t.trigger || t.end
}

type tokenKind int

const (
	tokenBlank tokenKind = iota // blanks and comments
	tokenSemicolon
	tokenWord
	tokenOther
)

// blanks are those of SQLite: to it, others that Unicode knows are no blanks but an error, or part of a name.
const blanks = " \t\r\n\f"

// firstToken measures the first token of a text that is not empty.
func firstToken(s string) (int, tokenKind) {
	until := func(from int, end string) int {
		if i := strings.Index(s[from:], end); i >= 0 {
			return from + i + len(end)
		}
		return len(s)
	}
	switch c := s[0]; {
	case strings.IndexByte(blanks, c) >= 0:
		return 1, tokenBlank
	case strings.HasPrefix(s, "--"):
		return until(2, "\n"), tokenBlank
	case strings.HasPrefix(s, "/*"):
		return until(2, "*/"), tokenBlank
	case c == ';':
		return 1, tokenSemicolon
	case c == '\'' || c == '"' || c == '`':
		return until(1, s[:1]), tokenOther // a doubled quote begins another token, which ends the same
	case c == '[':
		return until(1, "]"), tokenOther
	case wordByte(c):
		n := 1
		for n < len(s) && wordByte(s[n]) {
			n++
		}
		return n, tokenWord
	}
	return 1, tokenOther
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
