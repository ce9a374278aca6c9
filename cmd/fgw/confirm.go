package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// confirm asks before something is destroyed. --yes answers for the person;
// without it and without a terminal there is nobody to ask, and nothing is
// done.
func confirm(c *cli.Context, what, consequence string) error {
	if c.Bool("yes") {
		return nil
	}
	if !isTerminal(c.App.Reader) {
		f := wrongUsage(what, "%s, and there is no terminal to ask on", consequence)
		f.hint = "--yes says that it is meant"
		return f
	}
	fmt.Fprintf(c.App.ErrWriter, "%s. Go on? [y/N] ", strings.ToUpper(consequence[:1])+consequence[1:])
	answer, _ := bufio.NewReader(c.App.Reader).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &failure{what: what, why: "not confirmed: nothing was changed", code: "not_confirmed", exit: exitFailed}
}
