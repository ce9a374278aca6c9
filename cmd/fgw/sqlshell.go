package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// sqlShell reads statements from the terminal and runs them in one session, so
// that a transaction may span several.
func sqlShell(c *cli.Context, session *admin.SQLSession, address, mode string) error {
	history := loadHistory()
	defer history.save()
	editor := newLineEditor(c.App.Reader.(*os.File), c.App.Writer, history)
	prompt := address + "> "
	fmt.Fprintln(c.App.Writer, "End statements with a semicolon; .mode table|csv|json|line, .quit or ^D.")
	pending := ""
	for {
		p := prompt
		if pending != "" {
			p = strings.Repeat(" ", len(prompt)-3) + "-> "
		}
		line, err := editor.read(p)
		if err != nil {
			fmt.Fprintln(c.App.Writer)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		if word := strings.Fields(line); pending == "" && len(word) > 0 && strings.HasPrefix(word[0], ".") {
			if word[0] == ".quit" || word[0] == ".exit" {
				return nil
			}
			if word[0] == ".mode" && len(word) == 2 && oneOf("mode", sqlModes...)(c, word[1]) == nil {
				mode = word[1]
				continue
			}
			fmt.Fprintln(c.App.ErrWriter, "there is .mode table|csv|json|line, and .quit")
			continue
		}
		if pending += line + "\n"; !complete(pending) {
			continue
		}
		text := pending
		pending = ""
		if err := runShellText(c, session, text, mode); err != nil {
			return err
		}
	}
}

// runShellText runs what was typed. An error of the statement's own is told and
// the shell goes on; one of the connection ends it.
func runShellText(c *cli.Context, session *admin.SQLSession, text, mode string) error {
	out := bufio.NewWriter(c.App.Writer)
	defer out.Flush()
	for s := range statements(text) {
		rows, err := session.Query(s.text)
		if err == nil && len(rows.Columns()) > 0 {
			err = printRows(out, rows, mode)
		} else if err == nil {
			rows.Close()
			if n := rows.Result().RowsAffected; n > 0 {
				fmt.Fprintf(out, "%s changed\n", plural(int(n), "row"))
			}
		}
		var remote *admin.Error
		if errors.As(err, &remote) {
			out.Flush()
			fmt.Fprintln(c.App.ErrWriter, "error:", printable(remote.Message))
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lineEditor reads lines with editing and history.
type lineEditor struct {
	in *os.File
	t  *term.Terminal // keeps what was pasted beyond a line
}

func newLineEditor(in *os.File, out io.Writer, history term.History) *lineEditor {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, "")
	t.History = history
	return &lineEditor{in, t}
}

// read edits one line. The terminal is raw only meanwhile, so that ^C stops a
// statement that runs.
func (e *lineEditor) read(prompt string) (string, error) {
	state, err := term.MakeRaw(int(e.in.Fd()))
	if err != nil {
		return "", err
	}
	defer term.Restore(int(e.in.Fd()), state)
	if width, height, err := term.GetSize(int(e.in.Fd())); err == nil && width > 0 {
		e.t.SetSize(width, height)
	}
	e.t.SetPrompt(prompt)
	return e.t.ReadLine()
}

// historyLimit is how many lines are remembered.
const historyLimit = 1000

// lineHistory is what was typed before, kept in a file of the user's own.
type lineHistory struct {
	file  string // empty: not kept
	lines []string
}

func loadHistory() *lineHistory {
	state := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); state == "" && err == nil {
		state = filepath.Join(home, ".local", "state")
	}
	h := &lineHistory{}
	if state == "" {
		return h
	}
	h.file = filepath.Join(state, "fgw-sql-history")
	if text, err := os.ReadFile(h.file); err == nil {
		h.lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	return h
}

// Add remembers a line.
func (h *lineHistory) Add(line string) {
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	h.lines = h.lines[max(len(h.lines)-historyLimit, 0):]
}

// Len is how many lines there are.
func (h *lineHistory) Len() int { return len(h.lines) }

// At gives a line, 0 being the latest.
func (h *lineHistory) At(i int) string { return h.lines[len(h.lines)-1-i] }

// save writes the file. A history that can't be kept is no reason to fail.
func (h *lineHistory) save() {
	if h.file != "" && os.MkdirAll(filepath.Dir(h.file), 0o700) == nil {
		os.WriteFile(h.file, []byte(strings.Join(h.lines, "\n")+"\n"), 0o600)
	}
}
