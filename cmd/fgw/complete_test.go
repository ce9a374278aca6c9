package main

import (
	"strings"
	"testing"
)

func TestArrangeCompletion(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for _, test := range []struct{ given, want string }{
		{"fgw facets", "fgw _complete --  ls inspect abort delete clone usage"},
		{"fgw facets ls --data D", "fgw --data=D _complete --  ADDRESS"},
		{"fgw --data ~/d facets ls", "fgw --data=/home/me/d _complete --  ADDRESS"},
		{"fgw --data=~/d facets ls", "fgw --data=/home/me/d _complete --  ADDRESS"},
		{"fgw namespaces show", "fgw _complete --  NAMESPACE"},
		{"fgw namespaces show x", "fgw _complete -- "},
		{"fgw facets clone a/b/c", "fgw _complete --  ADDRESS"},
		{"fgw audit a/b/c", "fgw _complete --  on off"},
		{"fgw apps rollback n/a", "fgw _complete --  [VERSION] n/a"},
		{"fgw apps rollback", "fgw _complete --  NAMESPACE/APP"},
		{"fgw objects rm", "fgw _complete --  NAMESPACE/OBJECT"},
		{"fgw deploy x --namespace", "fgw _complete --  NAMESPACE"},
		{"fgw facets ls --output", "fgw _complete --  table json"},
		{"fgw new --template", "fgw _complete --  TEMPLATE"},
		{"fgw deploy --app", "fgw _complete -- "}, // any name; the shell offers files
		{"fgw deploy", "fgw _complete -- "},
		{"fgw nosuch", "fgw _complete -- "},
	} {
		line, err := arrange(newApp(stdio{}).Commands, globalFlags(), append(strings.Fields(test.given), "", completionFlag))
		if got := strings.Join(line.args, " "); err != nil || got != test.want {
			t.Errorf("%s\n got %s (%v)\nwant %s", test.given, got, err, test.want)
		}
	}
}

// What people type most is two dashes and the completion key.
func TestCompletionOfFlags(t *testing.T) {
	for _, begun := range []string{"--", "-", "--na"} {
		line, _ := arrange(newApp(stdio{}).Commands, globalFlags(), []string{"fgw", "deploy", "x", begun, completionFlag})
		got := " " + strings.Join(line.args, " ") + " "
		for _, want := range []string{" --namespace ", " --canary ", " --data ", " --help "} {
			if !strings.Contains(got, want) {
				t.Errorf("%s offers %s, without%s", begun, got, want)
			}
		}
	}
}
