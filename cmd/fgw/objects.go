package main

import (
	"fmt"
	"io"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
)

// objectsPage is how many objects are asked for at once.
const objectsPage = 1000

func objectsCommand() *cli.Command {
	return &cli.Command{
		Name:   "objects",
		Usage:  "objects: the named instances in a namespace",
		Action: group,
		Subcommands: []*cli.Command{
			{
				Name: "ls", ArgsUsage: "NAMESPACE", Usage: "list the objects of a namespace",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "prefix", Usage: "those whose names begin with `PREFIX`, encoded as names are"}},
				Action: onNamespace(listObjects),
			},
			{
				Name: "create", ArgsUsage: "NAMESPACE/OBJECT", Usage: "make an object, where requests may not",
				Action: onAddress(anObject, func(c *cli.Context, client *admin.Client, object string) error {
					made, err := client.ObjectsCreate(c.Context, object)
					if err != nil {
						return err
					}
					return emit(c, made, func(w io.Writer) { fmt.Fprintf(w, "object %s created\n", object) })
				}),
			},
			{
				Name: "rm", ArgsUsage: "NAMESPACE/OBJECT", Usage: "remove an object with all its facets and their data",
				Action: onAddress(anObject, func(c *cli.Context, client *admin.Client, object string) error {
					if err := confirm(c, commandName(c), "this removes the object "+object+" with all its facets and their data"); err != nil {
						return err
					}
					return client.ObjectsRm(c.Context, object)
				}),
			},
		},
	}
}

// onAddress is the action of a command that takes one address.
func onAddress(kind addressKind, act func(*cli.Context, *admin.Client, string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, 1, 1)
		if err != nil {
			return err
		}
		a, err := checkAddress(c, args[0], kind)
		if err != nil {
			return err
		}
		return withGateway(c, func(client *admin.Client) error { return act(c, client, a) })
	}
}

func listObjects(c *cli.Context, client *admin.Client, namespace string) error {
	prefix, err := address.Decode(c.String("prefix"))
	if err != nil {
		return wrongUsage(commandName(c), "--prefix %q is not encoded as names are: %v", c.String("prefix"), err)
	}
	var all []admin.Object
	for after := ""; ; {
		page, err := client.ObjectsLs(c.Context, namespace, prefix, objectsPage, after)
		if err != nil {
			return err
		}
		all = append(all, page...)
		if len(page) < objectsPage {
			break
		}
		after = page[len(page)-1].Object
	}
	return emitList(c, all, "no objects: a request to one makes it", func(w io.Writer) {
		table(w, "OBJECT | FACETS | STORAGE | CREATED", func(row func(...any)) {
			for _, o := range all {
				row(address.Address{Namespace: o.Namespace, Object: o.Object}.String(), o.Facets, byteCount(o.StorageBytes), o.CreatedAt)
			}
		})
	})
}
