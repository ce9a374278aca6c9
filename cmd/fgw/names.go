package main

import (
	"fmt"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/urfave/cli/v2"
)

// The kinds of address that commands take.
type addressKind int

const (
	aPrefix addressKind = iota // anything, nothing included
	anObject
	aFacet
)

// checkAddress refuses an address that can't be of that kind, before anything
// is asked of the gateway, and gives it back as the gateway writes it.
func checkAddress(c *cli.Context, text string, kind addressKind) (string, error) {
	what := commandName(c)
	a, err := address.Parse(text)
	if err != nil {
		return "", wrongUsage(what, "%s: %s", text, err)
	}
	f := wrongUsage(what, "%s is no %s", text, map[addressKind]string{anObject: "object", aFacet: "facet"}[kind])
	switch {
	case kind == anObject && (a.Object == "" || a.IsFacet()):
		f.hint = "an object's address is NAMESPACE/OBJECT"
		return "", f
	case kind == aFacet && !a.IsFacet():
		f.hint = "a facet's address is NAMESPACE/OBJECT/FACET; `fgw facets ls` lists them"
		return "", f
	}
	return a.String(), nil
}

// splitApp takes NAMESPACE/APP apart.
func splitApp(c *cli.Context, text string) (namespace, app string, err error) {
	namespace, app, found := strings.Cut(text, "/")
	for _, name := range []string{namespace, app} {
		if err := address.CheckName(name); err != nil || !found {
			f := wrongUsage(commandName(c), "%s names no app", text)
			f.hint = "an app is named NAMESPACE/APP; `fgw apps ls` lists them"
			return "", "", f
		}
	}
	return namespace, app, nil
}

// pairs takes arguments of the form KEY=VALUE apart.
func pairs(c *cli.Context, args []string) (map[string]string, error) {
	values := make(map[string]string, len(args))
	for _, arg := range args {
		key, value, found := strings.Cut(arg, "=")
		if !found || key == "" {
			return nil, wrongUsage(commandName(c), "%q is not KEY=VALUE", arg)
		}
		if _, twice := values[key]; twice {
			return nil, wrongUsage(commandName(c), "%s is given twice", key)
		}
		values[key] = value
	}
	return values, nil
}

// plural is "1 facet", "2 facets".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
