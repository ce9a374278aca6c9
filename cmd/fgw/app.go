package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
)

// newApp is the tree of commands.
func newApp(std stdio) *cli.App {
	app := &cli.App{
		Name:      "fgw",
		Usage:     "the facet gateway: small stateful applications, each confined, each with its own database",
		UsageText: "fgw COMMAND [FLAGS] [ARGUMENTS]      flags may stand anywhere",
		Description: "An ADDRESS is NAMESPACE/OBJECT/FACET, each part percent-encoded; many commands take a prefix of one.\n" +
			"`fgw run` shows what there is. To begin: `fgw serve`, and in a second terminal `fgw namespaces create demo`,\n" +
			"`fgw new ./guestbook` and `fgw deploy ./guestbook --namespace demo`.",
		Reader: std.in, Writer: std.out, ErrWriter: std.err,
		Flags:                     globalFlags(),
		HideVersion:               true, // it is a command
		HideHelpCommand:           true, // arrange makes --help of it, and showHelp the help
		DisableSliceFlagSeparator: true, // header values have commas
		ExitErrHandler:            func(*cli.Context, error) {},
		Commands: []*cli.Command{
			serveCommand(), runCommand(), doctorCommand(),
			newCommand(), deployCommand(),
			namespacesCommand(), appsCommand(), objectsCommand(), facetsCommand(),
			modulesCommand(),
			invokeCommand(), sqlCommand(), logsCommand(), auditCommand(),
			sqldCommand(), completionCommand(), completeCommand(), versionCommand(),
		},
	}
	app.OnUsageError = usageError
	finish(app.Commands)
	return app
}

// globalFlags are those that every command has.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "data", Usage: "the gateway's data directory, `DIR`", EnvVars: []string{"FGW_DATA"}, DefaultText: "/var/lib/fgw for root, $XDG_STATE_HOME/fgw otherwise"},
		&cli.StringFlag{Name: "output", Usage: "`FORMAT` of results: table or json", Value: "table", Action: oneOf("output", "table", "json")},
		&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "answer every question with yes"},
	}
}

// finish gives every command what they have in common.
func finish(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		if action := c.Action; action != nil {
			c.Action = func(c *cli.Context) error { return failed(commandName(c), action(c)) }
		}
		finish(c.Subcommands)
	}
}

// group is the action of a command that has only subcommands.
func group(c *cli.Context) error {
	return wrongUsage(commandName(c), "which of its commands?")
}

// commandName is the command as a person would type it: "namespaces ls".
func commandName(c *cli.Context) string {
	if c.Command == nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(c.Command.HelpName, "fgw"))
}

// badValue is how the library words a value that is none of its flag.
var badValue = regexp.MustCompile(`^invalid (?:boolean )?value (".*") for (?:flag )?-(\S+): (?s:.*)$`)

// usageError is what the library found wrong with a flag, in words that name the flag as it is typed.
func usageError(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if m := badValue.FindStringSubmatch(text); m != nil {
		dashes := "--"
		if len(m[2]) == 1 {
			dashes = "-"
		}
		text = fmt.Sprintf("%s is no value for %s%s", m[1], dashes, m[2])
	}
	return wrongUsage(commandName(c), "%s", text)
}

// oneOf refuses any other value of a flag.
func oneOf(flag string, values ...string) func(*cli.Context, string) error {
	return func(c *cli.Context, given string) error {
		for _, v := range values {
			if given == v {
				return nil
			}
		}
		f := wrongUsage("--"+flag, "%q is none of %s", given, strings.Join(values, ", "))
		f.hint = seeHelp(commandName(c))
		return f
	}
}

// arguments refuses a command line with fewer or more arguments than the
// command takes, and returns them.
func arguments(c *cli.Context, least, most int) ([]string, error) {
	given := c.Args().Slice()
	if len(given) < least || most >= 0 && len(given) > most {
		f := wrongUsage(commandName(c), "it takes %s, not %d", count(least, most), len(given))
		f.hint = strings.TrimSpace("usage: fgw " + commandName(c) + " " + c.Command.ArgsUsage)
		return nil, f
	}
	return given, nil
}

func count(least, most int) string {
	words := []string{"no argument", "one argument", "two arguments", "three arguments"}
	switch {
	case least == most:
		return words[least]
	case most < 0:
		return "at least " + words[least]
	case least > 0:
		return words[least] + " or " + words[most]
	}
	return "at most " + words[most]
}
