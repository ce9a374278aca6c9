package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
)

func facetsCommand() *cli.Command {
	return &cli.Command{
		Name:   "facets",
		Usage:  "facets: the running applications, one process and one database each",
		Action: group,
		Subcommands: []*cli.Command{
			{Name: "ls", ArgsUsage: "[ADDRESS]", Usage: "list facets, all or those below an address", Action: listFacets},
			{
				Name: "inspect", ArgsUsage: "ADDRESS", Usage: "everything about a facet: limits, usage, confinement, how it last ended",
				Action: onAddress(aFacet, func(c *cli.Context, client *admin.Client, a string) error {
					detail, err := client.FacetsInspect(c.Context, a)
					if err != nil {
						return err
					}
					return emit(c, detail, func(w io.Writer) { drawFacet(w, detail) })
				}),
			},
			{
				Name: "abort", ArgsUsage: "ADDRESS", Usage: "stop a facet and its descendants now; their data stays",
				Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "`TEXT` that calls in flight are told", Value: "aborted by the administrator"}},
				Action: onAddress(aFacet, func(c *cli.Context, client *admin.Client, a string) error {
					return client.FacetsAbort(c.Context, a, c.String("reason"))
				}),
			},
			{
				Name: "delete", ArgsUsage: "ADDRESS", Usage: "stop a facet and its descendants and delete their databases",
				Action: onAddress(aFacet, func(c *cli.Context, client *admin.Client, a string) error {
					if err := confirm(c, commandName(c), "this deletes the database of "+a+" and those of its descendants"); err != nil {
						return err
					}
					return client.FacetsDelete(c.Context, a)
				}),
			},
			{Name: "clone", ArgsUsage: "SOURCE DESTINATION", Usage: "replace a facet by a copy of another one's whole subtree", Action: cloneFacet},
			{
				Name: "usage", ArgsUsage: "ADDRESS", Usage: "what a facet has used",
				Action: onAddress(aFacet, func(c *cli.Context, client *admin.Client, a string) error {
					usage, err := client.FacetsUsage(c.Context, a)
					if err != nil {
						return err
					}
					return emit(c, usage, func(w io.Writer) {
						fields(w, func(field func(string, any)) { drawUsage(field, "", *usage) })
					})
				}),
			},
		},
	}
}

func listFacets(c *cli.Context) error {
	args, err := arguments(c, 0, 1)
	if err != nil {
		return err
	}
	prefix, err := checkAddress(c, strings.Join(args, ""), aPrefix)
	if err != nil {
		return err
	}
	return withGateway(c, func(client *admin.Client) error {
		facets, err := client.FacetsLs(c.Context, prefix)
		if err != nil {
			return err
		}
		return emitList(c, facets, "no facets: a request to one starts it", func(w io.Writer) { drawFacets(w, facets) })
	})
}

func cloneFacet(c *cli.Context) error {
	args, err := arguments(c, 2, 2)
	if err != nil {
		return err
	}
	for i := range args {
		if args[i], err = checkAddress(c, args[i], aFacet); err != nil {
			return err
		}
	}
	return withGateway(c, func(client *admin.Client) error {
		if _, err := client.FacetsInspect(c.Context, args[1]); err == nil {
			if err := confirm(c, commandName(c), "this replaces "+args[1]+" and its descendants, which exist"); err != nil {
				return err
			}
		}
		return client.FacetsClone(c.Context, args[0], args[1])
	})
}

// drawFacets shows facets as a table whose first column is their tree.
func drawFacets(w io.Writer, facets []admin.FacetInfo) {
	sorted := slices.Clone(facets)
	slices.SortStableFunc(sorted, func(a, b admin.FacetInfo) int {
		return slices.Compare(strings.Split(a.Address, "/"), strings.Split(b.Address, "/"))
	})
	names := branches(sorted)
	table(w, "FACET | STATE | APP | PID | SINCE | REQUESTS | MEMORY | STORAGE", func(row func(...any)) {
		for i, f := range sorted {
			app, pid, since, memory := orDash(f.App), "-", "-", "-"
			if f.Version > 0 {
				app += fmt.Sprintf(" v%d", f.Version)
			}
			if f.PID != nil {
				pid, memory = fmt.Sprint(*f.PID), byteCount(f.MemoryBytes).String()
			}
			if f.Since != nil {
				since = when(*f.Since)
			}
			row(names[i], f.State, app, pid, since, f.Requests, memory, byteCount(f.StorageBytes))
		}
	})
}

// branches are the addresses of sorted facets as a tree shows them: in whole where the parent is not
// listed, else the last part, below the parent.
func branches(sorted []admin.FacetInfo) []string {
	listed, last := map[string]bool{}, map[string]string{} // the last child of each parent
	for _, f := range sorted {
		listed[f.Address] = true
		if parent, ok := parentOf(f.Address); ok {
			last[parent] = f.Address
		}
	}
	names := make([]string, len(sorted))
	for i, f := range sorted {
		parent, ok := parentOf(f.Address)
		if !ok || !listed[parent] {
			names[i] = f.Address
			continue
		}
		turn, above := "├ ", ""
		if last[parent] == f.Address {
			turn = "└ "
		}
		for at := parent; ; at = parent {
			if parent, ok = parentOf(at); !ok || !listed[parent] {
				break
			}
			if last[parent] == at {
				above = "  " + above
			} else {
				above = "│ " + above
			}
		}
		names[i] = above + turn + f.Address[strings.LastIndex(f.Address, "/")+1:]
	}
	return names
}

// parentOf is the address above a facet's; a root has none.
func parentOf(text string) (parent string, ok bool) {
	a, err := address.Parse(text)
	if err != nil || len(a.Facets) == 0 {
		return "", false
	}
	a.Facets = a.Facets[:len(a.Facets)-1]
	a.Root = len(a.Facets) == 0
	return a.String(), true
}
