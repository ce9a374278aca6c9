package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
)

func sqlCommand() *cli.Command {
	return &cli.Command{
		Name:      "sql",
		Usage:     "run SQL on a facet's database",
		ArgsUsage: "ADDRESS ['SQL']",
		Description: "It goes through the same mediation as the facet's own statements, with the facet's limits, and does not\n" +
			"start the facet. Without SQL it reads standard input; on a terminal it is a shell.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "run the statements in `FILE`; - is standard input"},
			&cli.StringFlag{Name: "mode", Usage: "`MODE` of results: table, csv, json or line", Action: oneOf("mode", sqlModes...)},
		},
		Action: runSQL,
	}
}

func runSQL(c *cli.Context) error {
	args, err := arguments(c, 1, 2)
	if err != nil {
		return err
	}
	a, err := checkAddress(c, args[0], aFacet)
	if err != nil {
		return err
	}
	file := c.String("file")
	if file != "" && len(args) == 2 {
		return wrongUsage("sql", "either SQL or --file, not both")
	}
	mode := c.String("mode")
	if mode == "" {
		mode = "table"
		if asJSON(c) {
			mode = "json"
		}
	}
	interactive := file == "" && len(args) == 1 && isTerminal(c.App.Reader) && isTerminal(c.App.Writer)
	text, fromFile := "", true
	switch {
	case len(args) == 2 && args[1] != "-":
		text, fromFile = args[1], false
	case file != "" && file != "-":
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text = string(b)
	case !interactive:
		b, err := io.ReadAll(c.App.Reader)
		if err != nil {
			return err
		}
		text = string(b)
	}
	client, err := dial(c)
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.SQLSession(c.Context, a)
	if err != nil {
		return err
	}
	defer session.Close()
	if interactive {
		return sqlShell(c, session, a, mode)
	}
	return runScript(c.App.Writer, session, text, mode, fromFile)
}

// runScript runs the statements of a text, one after another, until one fails.
// In a file it tells that one by its line.
func runScript(w io.Writer, session *admin.SQLSession, text, mode string, tellLine bool) error {
	out := bufio.NewWriterSize(w, 64<<10)
	results := 0
	for s := range statements(text) {
		rows, err := session.Query(s.text)
		if err == nil && len(rows.Columns()) > 0 {
			results++
			err = printRows(out, rows, mode)
		} else if err == nil {
			err = rows.Close()
		}
		if err != nil {
			out.Flush() // what came before it
			return sqlError(err, s.line, tellLine)
		}
	}
	if results == 0 && mode == "json" {
		fmt.Fprintln(out, "[]")
	}
	return out.Flush()
}

// sqlError keeps SQLite's own words.
func sqlError(err error, line int, tellLine bool) error {
	var remote *admin.Error
	if !errors.As(err, &remote) || !tellLine {
		return err
	}
	told := *remote
	told.Message = fmt.Sprintf("line %d: %s", line, remote.Message)
	return &told
}
