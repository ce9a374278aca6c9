package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// commandLine is a command line in the order in which the cli library parses
// it, with what errors need to know of it.
type commandLine struct {
	args []string
	path []*cli.Command // the command that was named, from the outermost in
	json bool           // --output json was asked for
	help bool           // --help was
}

// name is the command as a person would type it: "namespaces ls".
func (l commandLine) name() string {
	var words []string
	for _, c := range l.path {
		words = append(words, c.Name)
	}
	return strings.Join(words, " ")
}

// flagShape tells a flag from an argument that merely begins with a dash, as
// the text of a SQL statement with a leading comment does.
var flagShape = regexp.MustCompile(`^--?[A-Za-z][A-Za-z0-9-]*(=(?s:.*))?$|^-[A-Za-z](?s:.+)$`)

// givenFlag is one flag as it stood on the line.
type givenFlag struct {
	text  string // as it was typed, for errors
	name  string
	value *string
}

// arrange puts flags before arguments, since the library takes whatever
// follows an argument for an argument. A flag may stand anywhere, before the
// command that it belongs to included; "--" ends them.
func arrange(commands []*cli.Command, globals []cli.Flag, args []string) (commandLine, error) {
	line := commandLine{args: args}
	if n := len(args) - 1; n > 0 && args[n] == completionFlag {
		return arrangeCompletion(commands, globals, args[:n]), nil
	}
	var flags []givenFlag
	var positional []string
	unknown := ""     // a flag that nothing in reach has
	level := commands // where the next command's name is looked for
	for i := 1; i < len(args); i++ {
		word := args[i]
		refuse := func(err error) (commandLine, error) {
			line.json = jsonAsked(args[i:], line.json)
			return line, err
		}
		switch {
		case word == "--":
			positional = append(positional, args[i+1:]...)
			i = len(args)
		case flagShape.MatchString(word):
			f, known := lookUp(word, flagsInReach(line.path, level, globals))
			if known != nil && takesValue(known) && f.value == nil {
				if i++; i == len(args) {
					return line, usage(line, fmt.Sprintf("%s needs a value", word))
				}
				f.value = &args[i]
			}
			if flags = append(flags, f); known == nil && f.name != "help" && f.name != "h" && f.name != "version" {
				unknown = f.text
			}
			if f.name == "output" && f.value != nil {
				line.json = *f.value == "json"
			}
		case len(level) > 0 && len(positional) == 0:
			if word == "help" { // `help A B` is `A B --help`
				flags = append(flags, givenFlag{text: "--help", name: "help"})
				continue
			}
			next := commandNamed(level, word)
			if next == nil && unknown != "" {
				// Without its flag the word may be that flag's value.
				return refuse(unknownFlag(line, unknown, flagsInReach(line.path, level, globals)))
			}
			if next == nil {
				return refuse(unknownCommand(line, level, word))
			}
			line.path = append(line.path, next)
			level = next.Subcommands
		default:
			positional = append(positional, word)
		}
	}
	err := line.assemble(args[0], globals, flags, positional)
	return line, err
}

// jsonAsked reports whether the words that follow an error in the line ask for JSON, as whoever reads the error then expects
// it; so is what was asked before them.
func jsonAsked(words []string, so bool) bool {
	for i, word := range words {
		value, glued := strings.CutPrefix(word, "--output=")
		switch {
		case word == "--":
			return so
		case glued:
			so = value == "json"
		case word == "--output" && i+1 < len(words):
			so = words[i+1] == "json"
		}
	}
	return so
}

// assemble writes the line anew: the program's own flags, the command, its
// flags, its arguments.
func (l *commandLine) assemble(program string, globals []cli.Flag, flags []givenFlag, positional []string) error {
	front, back := []string{program}, []string{}
	var own []cli.Flag
	for _, c := range l.path {
		front = append(front, c.Name)
		own = c.Flags
	}
	var before []string
	for _, f := range flags {
		word := "--" + f.name
		if len(f.name) == 1 {
			word = "-" + f.name
		}
		if f.value != nil {
			word += "=" + *f.value
		}
		switch {
		case f.name == "help" || f.name == "h":
			l.help = true
			back = append(back, "--help")
		case flagNamed(own, f.name) != nil:
			back = append(back, word)
		case flagNamed(globals, f.name) != nil:
			before = append(before, word)
		case len(l.path) == 0 && f.name == "version":
			front = append(front, "version")
		default:
			return unknownFlag(*l, f.text, append(slices.Clone(own), globals...))
		}
	}
	l.args = slices.Concat(front[:1], before, front[1:], back)
	if len(positional) > 0 {
		l.args = append(append(l.args, "--"), positional...)
	}
	return nil
}

// flagsInReach are the flags that may stand at this point of the line. Before
// the command is known that is any command's: a name means the same shape of
// flag in all of them, which a test holds.
func flagsInReach(path, level []*cli.Command, globals []cli.Flag) []cli.Flag {
	all := slices.Clone(globals)
	if len(path) > 0 {
		all = append(all, path[len(path)-1].Flags...)
	}
	for _, c := range level {
		all = append(all, flagsInReach([]*cli.Command{c}, c.Subcommands, nil)...)
	}
	return all
}

// lookUp takes a word apart into a flag and the value that is part of it:
// --name=value, or -Xvalue where X takes one.
func lookUp(word string, reach []cli.Flag) (givenFlag, cli.Flag) {
	name, value, given := strings.Cut(strings.TrimLeft(word, "-"), "=")
	f := givenFlag{text: word, name: name}
	if given {
		f.value, f.text = &value, word[:len(word)-len(value)-1]
	}
	known := flagNamed(reach, name)
	if known == nil && !strings.HasPrefix(word, "--") && len(word) > 2 {
		if short := flagNamed(reach, word[1:2]); short != nil && takesValue(short) {
			glued := word[2:]
			return givenFlag{text: word[:2], name: word[1:2], value: &glued}, short
		}
	}
	return f, known
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func commandNamed(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
