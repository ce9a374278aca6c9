package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/urfave/cli/v2"
)

func namespacesCommand() *cli.Command {
	return &cli.Command{
		Name:    "namespaces",
		Aliases: []string{"ns"},
		Usage:   "namespaces: which apps run under which limits, and who may call them",
		Action:  group,
		Subcommands: []*cli.Command{
			{
				Name: "create", ArgsUsage: "NAMESPACE", Usage: "make a namespace",
				Action: onNamespace(func(c *cli.Context, client *admin.Client, name string) error {
					ns, err := client.NamespacesCreate(c.Context, name)
					if err != nil {
						return err
					}
					return emit(c, ns, func(w io.Writer) {
						fmt.Fprintf(w, "namespace %s created\n  fgw deploy DIR --namespace %s%s\n", ns.Name, ns.Name, dataFlag(c))
					})
				}),
			},
			{
				Name: "ls", Usage: "list the namespaces",
				Action: noArguments(func(c *cli.Context, client *admin.Client) error {
					list, err := client.NamespacesLs(c.Context)
					if err != nil {
						return err
					}
					return emitList(c, list, "no namespaces yet: fgw namespaces create NAMESPACE", func(w io.Writer) { drawNamespaces(w, list) })
				}),
			},
			{
				Name: "show", ArgsUsage: "NAMESPACE", Usage: "show a namespace and its limits",
				Action: onNamespace(func(c *cli.Context, client *admin.Client, name string) error {
					ns, err := client.NamespacesShow(c.Context, name)
					if err != nil {
						return err
					}
					return emit(c, ns, func(w io.Writer) { drawNamespace(w, ns) })
				}),
			},
			{
				Name: "set", ArgsUsage: "NAMESPACE KEY=VALUE...", Usage: "change what holds for instances started from now on",
				Description: "create=open|admin (may a request create an object), access=local|public|token, supervisor=APP,\n" +
					"egress=HOST,HOST (what the supervisor, or apps without one, may call: api.example.com, *.example.com, * for all\n" +
					"that is public; empty for nothing; what a supervisor's children may call is for it to say),\n" +
					"idle_timeout, statement_timeout, request_timeout (10s), memory, storage, body (64MiB), cpu (cores: 0.5),\n" +
					"processes, in_flight, max_objects\n\n" +
					"Limits are each facet's own. With a supervisor, memory, cpu, processes and storage are an object's: they bound the\n" +
					"supervisor and all facets below it together. Of the first three there are 1GiB, 2 and 512 unless set; a child has at most\n" +
					"256MiB, 1 and 64 of them unless its supervisor gives it more.",
				Action: setNamespace,
			},
			{
				Name: "rm", ArgsUsage: "NAMESPACE", Usage: "remove a namespace and its apps",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "its objects, too, with all their data"}},
				Action: onNamespace(func(c *cli.Context, client *admin.Client, name string) error {
					consequence := "this removes the namespace " + name + " and its apps"
					if c.Bool("force") {
						consequence += ", its objects and all their data"
					}
					if err := confirm(c, commandName(c), consequence); err != nil {
						return err
					}
					return client.NamespacesRm(c.Context, name, c.Bool("force"))
				}),
			},
		},
	}
}

// onNamespace is the action of a command that takes one namespace's name.
func onNamespace(act func(*cli.Context, *admin.Client, string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, 1, 1)
		if err != nil {
			return err
		}
		return withGateway(c, func(client *admin.Client) error { return act(c, client, args[0]) })
	}
}

func setNamespace(c *cli.Context) error {
	args, err := arguments(c, 2, -1)
	if err != nil {
		return err
	}
	values, err := pairs(c, args[1:])
	if err != nil {
		return err
	}
	return withGateway(c, func(client *admin.Client) error {
		ns, err := client.NamespacesSet(c.Context, args[0], values)
		if err != nil {
			return err
		}
		return emit(c, ns, func(w io.Writer) { drawNamespace(w, ns) })
	})
}

func drawNamespaces(w io.Writer, list []admin.Namespace) {
	table(w, "NAMESPACE | SUPERVISOR | CREATE | ACCESS | OBJECTS | CREATED", func(row func(...any)) {
		for _, ns := range list {
			row(ns.Name, orDash(ns.Supervisor), ns.Create, ns.Access, ns.Objects, ns.CreatedAt)
		}
	})
}

func drawNamespace(w io.Writer, ns *admin.Namespace) {
	fields(w, func(field func(string, any)) {
		field("namespace", ns.Name)
		field("supervisor", orDash(ns.Supervisor))
		field("create", ns.Create)
		field("access", ns.Access)
		field("egress", orDash(strings.Join(ns.Egress, ",")))
		field("objects", fmt.Sprintf("%d of at most %d", ns.Objects, ns.Limits.MaxObjects))
		field("created", ns.CreatedAt)
	})
	fmt.Fprintln(w, "limits")
	fields(w, func(field func(string, any)) { drawLimits(field, ns.Limits) })
}

// drawLimits shows the limits as `namespaces set` takes them.
func drawLimits(field func(string, any), l registry.Limits) {
	field("  memory", registry.FormatSize(l.Memory))
	field("  cpu", registry.FormatCPU(l.CPUMilli))
	field("  processes", l.Processes)
	field("  storage", registry.FormatSize(l.Storage))
	field("  body", registry.FormatSize(l.Body))
	field("  in_flight", l.InFlight)
	field("  idle_timeout", registry.FormatDuration(l.IdleTimeout))
	field("  request_timeout", registry.FormatDuration(l.RequestTimeout))
	field("  statement_timeout", registry.FormatDuration(l.StatementTimeout))
}
