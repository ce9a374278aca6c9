package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestArrangePutsFlagsBeforeArguments(t *testing.T) {
	for _, test := range []struct{ given, want string }{
		{"fgw namespaces ls", "fgw namespaces ls"},
		{"fgw namespaces ls --data D", "fgw --data=D namespaces ls"},
		{"fgw --data D namespaces ls", "fgw --data=D namespaces ls"},
		{"fgw namespaces --data=D ls", "fgw --data=D namespaces ls"},
		{"fgw deploy ./app --namespace notes --data D", "fgw --data=D deploy --namespace=notes -- ./app"},
		{"fgw --namespace notes deploy ./app", "fgw deploy --namespace=notes -- ./app"},
		{"fgw facets abort t/a/b --reason enough -y", "fgw -y facets abort --reason=enough -- t/a/b"},
		{"fgw invoke t/a/b /x -X POST -H A:b,c -H D:e -d -x", "fgw invoke -X=POST -H=A:b,c -H=D:e -d=-x -- t/a/b /x"},
		{"fgw invoke -XPOST t/a/b -i", "fgw invoke -X=POST -i -- t/a/b"},
		{"fgw invoke t/a/b -- --data /x", "fgw invoke -- t/a/b --data /x"},
		{"fgw logs -f t/a/b --lines 3", "fgw logs -f --lines=3 -- t/a/b"},
		{"fgw sql t/a/b -", "fgw sql -- t/a/b -"},
		{"fgw help facets ls", "fgw facets ls --help"},
		{"fgw facets ls -h", "fgw facets ls --help"},
		{"fgw --version", "fgw version"},
		{"fgw", "fgw"},
	} {
		line, err := arrange(newApp(stdio{}).Commands, globalFlags(), strings.Fields(test.given))
		if got := strings.Join(line.args, " "); err != nil || got != test.want {
			t.Errorf("%s\n got %s (%v)\nwant %s", test.given, got, err, test.want)
		}
	}
}

func TestArrangeTakesCommentsForSQL(t *testing.T) {
	for _, sql := range []string{"-- how many\nselect count(*) from entry", "--", "-1"} {
		line, err := arrange(newApp(stdio{}).Commands, globalFlags(), []string{"fgw", "sql", "t/a/b", "--output", "json", "--", sql})
		if err != nil || line.args[len(line.args)-1] != sql || !line.json {
			t.Errorf("%q became %q (%v)", sql, line.args, err)
		}
	}
	line, err := arrange(newApp(stdio{}).Commands, globalFlags(), []string{"fgw", "sql", "t/a/b", "-- how many\nselect 1"})
	if err != nil || !slices.Equal(line.args, []string{"fgw", "sql", "--", "t/a/b", "-- how many\nselect 1"}) {
		t.Errorf("a comment became %q (%v)", line.args, err)
	}
}

func TestArrangeRefuses(t *testing.T) {
	for _, test := range []struct{ given, why, hint string }{
		{"fgw namespaces ls --nosuchflag", "no flag --nosuchflag", "--help"},
		{"fgw namespaces ls --dta D", "no flag --dta", "--data"},
		{"fgw namespace ls", `no command "namespace"`, "fgw namespaces"},
		{"fgw facets inspekt x", `no command "facets inspekt"`, "fgw facets inspect"},
		{"fgw deploy x --namespace", "--namespace needs a value", "--help"},
		{"fgw namespaces ls --namespace x", "no flag --namespace", "--help"},
		{"fgw version --tail", "no flag --tail", "--help"},
		{"fgw --outptu json facets ls", "no flag --outptu", "--output"},
		{"fgw --output json facetz ls", `no command "facetz"`, "fgw facets"},
	} {
		_, err := arrange(newApp(stdio{}).Commands, globalFlags(), strings.Fields(test.given))
		f := (*failure)(nil)
		if !errors.As(err, &f) || f.exit != exitUsage || !strings.Contains(f.why, test.why) || !strings.Contains(f.hint, test.hint) {
			t.Errorf("%s: %+v, wanted %q and %q", test.given, f, test.why, test.hint)
		}
	}
}

// An error is told in the form that was asked for, wherever on the line that was, also behind what is wrong; the last one counts.
func TestArrangeTellsErrorsAsAsked(t *testing.T) {
	for given, json := range map[string]bool{
		"fgw nosuch --output json":                   true,
		"fgw nosuch --output=json":                   true,
		"fgw --output json nosuch":                   true,
		"fgw --nosuchflag x facets ls --output json": true,
		"fgw facets nosuch --output json --data D":   true,
		"fgw nosuch":                                             false,
		"fgw nosuch -- --output json":                            false,
		"fgw --output json nosuch --output table":                false,
		"fgw facets ls --output json --output table --nosuch":    false,
		"fgw facets ls --output table --output json --nosuch":    true,
		"fgw facets abort t/a/b --reason --output json --nosuch": false,
	} {
		if line, err := arrange(newApp(stdio{}).Commands, globalFlags(), strings.Fields(given)); err == nil || line.json != json {
			t.Errorf("%s: %v told as JSON: %v", given, err, line.json)
		}
	}
}

// A flag may stand before the command that it belongs to, so its name must
// mean the same shape everywhere.
func TestFlagsHaveOneShape(t *testing.T) {
	shapes := map[string]bool{}
	var walk func(path string, commands []*cli.Command)
	check := func(path string, flags []cli.Flag) {
		for _, f := range flags {
			for _, name := range f.Names() {
				if before, seen := shapes[name]; seen && before != takesValue(f) {
					t.Errorf("%s: --%s takes a value in one command and none in another", path, name)
				}
				shapes[name] = takesValue(f)
			}
		}
	}
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			check(path+" "+c.Name, c.Flags)
			if c.Usage == "" || c.Action == nil {
				t.Errorf("%s %s has no usage or no action", path, c.Name)
			}
			walk(path+" "+c.Name, c.Subcommands)
		}
	}
	check("fgw", globalFlags())
	walk("fgw", newApp(stdio{}).Commands)
	for _, f := range globalFlags() {
		for _, name := range f.Names() {
			var owners []string
			var own func(commands []*cli.Command)
			own = func(commands []*cli.Command) {
				for _, c := range commands {
					if flagNamed(c.Flags, name) != nil {
						owners = append(owners, c.Name)
					}
					own(c.Subcommands)
				}
			}
			own(newApp(stdio{}).Commands)
			if len(owners) > 0 {
				t.Errorf("--%s is the program's own and also a flag of %v", name, owners)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"namespaces", "apps", "objects", "facets", "logs", "sql", "sqld"}
	for word, want := range map[string]string{"namspaces": "namespaces", "facet": "facets", "lgos": "logs", "zzz": "", "app": "apps", "x": ""} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, wanted %q", word, got, want)
		}
	}
}

func FuzzArrange(f *testing.F) {
	for _, line := range []string{"namespaces ls --data D", "invoke -XPOST a/b/c -- -x", "sql a/b/c -- x", "help help", "--=x -"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := append([]string{"fgw"}, strings.Split(line, " ")...)
		got, err := arrange(newApp(stdio{}).Commands, globalFlags(), words)
		if err == nil && len(got.args) < 1 {
			t.Fatalf("%q lost the program's name", line)
		}
	})
}
