package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// showHelp describes the command that a line names: what it does, its commands
// or its flags, and the flags that all commands have.
func showHelp(w io.Writer, line commandLine) {
	c := line.path[len(line.path)-1]
	fmt.Fprintf(w, "fgw %s: %s\n\n", line.name(), c.Usage)
	words := "usage: fgw " + line.name()
	if len(c.Subcommands) > 0 {
		words += " COMMAND"
	}
	if len(c.Flags) > 0 {
		words += " [FLAGS]"
	}
	fmt.Fprintln(w, strings.TrimSpace(words+" "+c.ArgsUsage))
	if c.Description != "" {
		fmt.Fprintf(w, "\n%s\n", c.Description)
	}
	if len(c.Subcommands) > 0 {
		fmt.Fprintln(w, "\ncommands:")
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, sub := range c.Subcommands {
			fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(sub.Name+" "+sub.ArgsUsage), sub.Usage)
		}
		t.Flush()
	}
	describeFlags(w, c.Flags)
	fmt.Fprintln(w, "\nflags of every command:")
	drawFlags(w, globalFlags())
}

// describeFlags lists flags under the heading of their category.
func describeFlags(w io.Writer, flags []cli.Flag) {
	var order []string
	grouped := map[string][]cli.Flag{}
	for _, f := range flags {
		category := "flags"
		if named, ok := f.(cli.CategorizableFlag); ok && named.GetCategory() != "" {
			category = named.GetCategory()
		}
		if grouped[category] == nil {
			order = append(order, category)
		}
		grouped[category] = append(grouped[category], f)
	}
	for _, category := range order {
		fmt.Fprintf(w, "\n%s:\n", category)
		drawFlags(w, grouped[category])
	}
}

func drawFlags(w io.Writer, flags []cli.Flag) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		placeholder, usage := placeholderOf(d.GetUsage())
		var names []string
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			names = append(names, dashes+name)
		}
		if d.TakesValue() {
			names[len(names)-1] += " " + placeholder
			if text := strings.Trim(d.GetDefaultText(), `"`); text != "" {
				usage += " (" + text + ")"
			}
		}
		if env := d.GetEnvVars(); len(env) > 0 {
			usage += "; or $" + env[0]
		}
		fmt.Fprintf(t, "  %s\t%s\n", strings.Join(names, ", "), usage)
	}
	t.Flush()
}

// placeholderOf takes the value's name, written `LIKE THIS`, out of a usage.
func placeholderOf(usage string) (name, text string) {
	before, rest, found := strings.Cut(usage, "`")
	if !found {
		return "VALUE", usage
	}
	name, after, _ := strings.Cut(rest, "`")
	return name, before + name + after
}
