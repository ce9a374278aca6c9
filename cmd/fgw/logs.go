package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/urfave/cli/v2"
)

// followLines is how many lines -f shows of what was before.
const followLines = 10

func logsCommand() *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "what facets print and log",
		ArgsUsage: "[ADDRESS]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "f", Aliases: []string{"follow"}, Usage: "go on with the lines to come"},
			&cli.StringFlag{Name: "since", Usage: "none before `TIME`: a duration back (90s, 10m) or a time (2026-01-02T15:04:05Z)"},
			&cli.IntFlag{Name: "lines", Usage: "at most the newest `N`", DefaultText: fmt.Sprintf("all; %d with -f", followLines)},
		},
		Action: showLogs,
	}
}

func showLogs(c *cli.Context) error {
	args, err := arguments(c, 0, 1)
	if err != nil {
		return err
	}
	options := admin.LogsOptions{Follow: c.Bool("f"), Lines: c.Int("lines")}
	if options.Address, err = checkAddress(c, strings.Join(args, ""), aPrefix); err != nil {
		return err
	}
	if options.Since, err = moment(c.String("since"), time.Now()); err != nil {
		return err
	}
	if c.IsSet("lines") && options.Lines < 1 && !(options.Follow && options.Lines == 0) {
		return wrongUsage("logs", "--lines %d: a count from 1 is allowed; with -f 0, too, for the lines to come alone", options.Lines)
	}
	if options.Follow && options.Lines == 0 && c.IsSet("lines") && options.Since.IsZero() {
		options.Since = time.Now()
	}
	if options.Follow && !c.IsSet("lines") && options.Since.IsZero() {
		options.Lines = followLines
	}
	client, err := dial(c)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(c.App.Writer)
	defer out.Flush()
	for line, err := range client.Logs(c.Context, options) {
		if options.Follow && errors.Is(err, context.Canceled) {
			return nil // ^C is the way out
		}
		if err != nil {
			return err
		}
		if err := writeLogLine(out, line, asJSON(c)); err != nil {
			return err
		}
		if options.Follow { // each line is for somebody who waits
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

func writeLogLine(w io.Writer, line admin.LogLine, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(line)
	}
	mark := " "
	if line.Stream == logs.StreamGateway {
		mark = " * " // the gateway's own words
	}
	_, err := fmt.Fprintf(w, "%s %s%s%s\n", line.Time.Local().Format("2006-01-02 15:04:05.000"), line.Address, mark, printable(line.Line))
	return err
}

// moment reads a time, or a duration before now; nothing is the zero time.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, wrongUsage("logs", "--since %q is neither a duration (10m) nor a time (2026-01-02T15:04:05Z)", text)
}
