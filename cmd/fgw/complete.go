package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/appvendor"
	"github.com/urfave/cli/v2"
)

// completionFlag, as the last word, asks what may come next.
const completionFlag = "--generate-bash-completion"

// completeName is the command that such a line is turned into. It is not for
// people: no command of theirs begins with an underscore.
const completeName = "_complete"

// Kinds of words that a running gateway knows. Anything else that is sought is
// a word of its own.
const (
	soughtNamespaces = "NAMESPACE"
	soughtApps       = "NAMESPACE/APP"
	soughtVersions   = "[VERSION]"
	soughtObjects    = "NAMESPACE/OBJECT"
	soughtFacets     = "ADDRESS"
	soughtTemplates  = "TEMPLATE"
)

// flagValues is what may follow a flag, where that is known.
var flagValues = map[string][]string{
	"namespace":  {soughtNamespaces},
	"template":   {soughtTemplates},
	"output":     {"table", "json"},
	"mode":       sqlModes,
	"log-level":  {"debug", "info", "warn", "error"},
	"log-format": {"text", "json"},
}

// argumentValues is what an argument may be, by its name in a command's usage.
var argumentValues = map[string][]string{
	"NAMESPACE": {soughtNamespaces}, "[NAMESPACE]": {soughtNamespaces},
	"NAMESPACE/APP":    {soughtApps},
	"[VERSION]":        {soughtVersions},
	"NAMESPACE/OBJECT": {soughtObjects},
	"ADDRESS":          {soughtFacets}, "[ADDRESS]": {soughtFacets}, "SOURCE": {soughtFacets}, "DESTINATION": {soughtFacets},
	"on|off": {"on", "off"},
}

// arrangeCompletion makes of an unfinished line, whose last word is the one
// under the cursor, the line that prints what that may become.
func arrangeCompletion(commands []*cli.Command, globals []cli.Flag, args []string) commandLine {
	if len(args) < 2 {
		args = append(slices.Clone(args), "")
	}
	args, unfinished := args[:len(args)-1], args[len(args)-1]
	line, err := arrange(commands, globals, args)
	level := line.level(commands)
	var words []string
	switch flag := valueSought(args, flagsInReach(line.path, level, globals)); {
	case flag != nil:
		words, err = flagValues[flag.Names()[0]], nil // its value is missing, which is all that is wrong
	case strings.HasPrefix(unfinished, "-"):
		words = flagWords(line, globals)
	case len(level) > 0:
		for _, c := range level {
			if !c.Hidden {
				words = append(words, c.Name)
			}
		}
	default:
		words = argumentSought(line)
	}
	if err != nil {
		words = nil // nobody knows what comes after a mistake
	}
	made := []string{args[0]}
	for i, word := range args {
		if given, found := strings.CutPrefix(word, "--data="); found {
			made = append(made, "--data="+atHome(given))
		} else if word == "--data" && i+1 < len(args) {
			made = append(made, "--data="+atHome(args[i+1]))
		}
	}
	made = append(append(made, completeName, "--", unfinished), words...)
	if slices.Contains(words, soughtVersions) {
		made = append(made, line.positional()...)
	}
	return commandLine{args: made}
}

// level is where the next command's name is looked for; empty where none is to come.
func (l commandLine) level(commands []*cli.Command) []*cli.Command {
	if len(l.path) == 0 {
		return commands
	}
	return l.path[len(l.path)-1].Subcommands
}

// positional are the arguments of an arranged line.
func (l commandLine) positional() []string {
	if i := slices.Index(l.args, "--"); i >= 0 {
		return l.args[i+1:]
	}
	return nil
}

// valueSought is the flag whose value comes next.
func valueSought(args []string, reach []cli.Flag) cli.Flag {
	last := args[len(args)-1]
	if len(args) == 1 || !flagShape.MatchString(last) {
		return nil
	}
	f, known := lookUp(last, reach)
	if known == nil || !takesValue(known) || f.value != nil {
		return nil
	}
	return known
}

// flagWords are the flags that may stand here.
func flagWords(line commandLine, globals []cli.Flag) (words []string) {
	flags := slices.Clone(globals)
	if len(line.path) > 0 {
		flags = append(slices.Clone(line.path[len(line.path)-1].Flags), globals...)
	}
	for _, f := range flags {
		for _, name := range f.Names() {
			if len(name) == 1 {
				words = append(words, "-"+name)
			} else {
				words = append(words, "--"+name)
			}
		}
	}
	return append(words, "--help")
}

// argumentSought is what the command's next argument may be.
func argumentSought(line commandLine) []string {
	names := strings.Fields(line.path[len(line.path)-1].ArgsUsage)
	if n := len(line.positional()); n < len(names) {
		return argumentValues[names[n]]
	}
	return nil
}

// atHome is a path whose leading ~ the shell has not replaced, since the line
// does not run yet.
func atHome(path string) string {
	if rest, found := strings.CutPrefix(path, "~/"); found {
		return filepath.Join(os.Getenv("HOME"), rest)
	}
	return path
}

// completionTime is how long a shell waits for the gateway's part.
const completionTime = time.Second

// completionNames bounds how many names of a kind are offered: nobody chooses
// among more.
const completionNames = 1000

func completeCommand() *cli.Command {
	return &cli.Command{
		Name:   completeName,
		Usage:  "print what a word may become; for the scripts of completion",
		Hidden: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) < 2 {
				return nil
			}
			begun, words := words[0], words[1:]
			if names := namesSought(c, words[0], words[1:]); names != nil {
				words = names()
			}
			words = slices.DeleteFunc(words, func(word string) bool { return !strings.HasPrefix(word, begun) })
			for _, word := range words[:min(len(words), completionNames)] {
				fmt.Fprintln(c.App.Writer, word)
			}
			return nil
		},
	}
}

// namesSought returns what lists the names of a kind; nil where kind is a word
// like others. Where there is no gateway there are no names.
func namesSought(c *cli.Context, kind string, of []string) func() []string {
	if kind == soughtTemplates {
		return func() []string {
			set, err := appvendor.Open()
			if err != nil {
				return nil
			}
			return set.Templates()
		}
	}
	list := map[string]func(context.Context, *admin.Client, []string) []string{
		soughtNamespaces: namespaceNames, soughtApps: appNames, soughtVersions: versionNames, soughtObjects: objectNames, soughtFacets: facetNames,
	}[kind]
	if list == nil {
		return nil
	}
	return func() []string {
		client, err := dial(c)
		if err != nil {
			return nil
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(c.Context, completionTime)
		defer cancel()
		return list(ctx, client, of)
	}
}

func namespaceNames(ctx context.Context, client *admin.Client, _ []string) (names []string) {
	list, _ := client.NamespacesLs(ctx)
	for _, ns := range list {
		names = append(names, ns.Name)
	}
	return names
}

func appNames(ctx context.Context, client *admin.Client, _ []string) (names []string) {
	list, _ := client.AppsLs(ctx, "")
	for _, v := range list {
		names = append(names, v.Namespace+"/"+v.App)
	}
	return names
}

func versionNames(ctx context.Context, client *admin.Client, of []string) (names []string) {
	namespace, app, _ := strings.Cut(strings.Join(of, ""), "/")
	list, _ := client.AppsVersions(ctx, namespace, app)
	for _, v := range list {
		names = append(names, fmt.Sprint(v.Version))
	}
	return names
}

func objectNames(ctx context.Context, client *admin.Client, _ []string) (names []string) {
	for _, namespace := range namespaceNames(ctx, client, nil) {
		list, _ := client.ObjectsLs(ctx, namespace, "", completionNames, "")
		for _, o := range list {
			names = append(names, o.Address)
		}
	}
	return names
}

func facetNames(ctx context.Context, client *admin.Client, _ []string) (names []string) {
	list, _ := client.FacetsLs(ctx, "")
	for _, f := range list {
		names = append(names, f.Address)
	}
	return names
}
