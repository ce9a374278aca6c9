package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
)

func appsCommand() *cli.Command {
	return &cli.Command{
		Name:   "apps",
		Usage:  "apps and their versions",
		Action: group,
		Subcommands: []*cli.Command{
			{Name: "ls", ArgsUsage: "[NAMESPACE]", Usage: "list the live version of each app", Action: listApps},
			{
				Name: "versions", ArgsUsage: "NAMESPACE/APP", Usage: "list an app's versions, the newest first",
				Action: onApp(1, func(c *cli.Context, client *admin.Client, namespace, app string, _ []string) error {
					versions, err := client.AppsVersions(c.Context, namespace, app)
					if err != nil {
						return err
					}
					return emitList(c, versions, "no versions", func(w io.Writer) { drawVersions(w, versions) })
				}),
			},
			{
				Name: "promote", ArgsUsage: "NAMESPACE/APP", Usage: "make an app's canary its live version",
				Action: onApp(1, func(c *cli.Context, client *admin.Client, namespace, app string, _ []string) error {
					live, err := client.AppsPromote(c.Context, namespace, app)
					if err != nil {
						return err
					}
					return emit(c, live, func(w io.Writer) { drawLive(w, live) })
				}),
			},
			{
				Name: "rollback", ArgsUsage: "NAMESPACE/APP [VERSION]", Usage: "end a canary, or make an earlier version live again: the one before, or VERSION",
				Action: onApp(2, rollBack),
			},
			{
				Name: "rm", ArgsUsage: "NAMESPACE/APP", Usage: "remove an app; the data of its facets stays",
				Action: onApp(1, func(c *cli.Context, client *admin.Client, namespace, app string, _ []string) error {
					if err := confirm(c, commandName(c), fmt.Sprintf("this removes the app %s/%s with all its versions", namespace, app)); err != nil {
						return err
					}
					return client.AppsRm(c.Context, namespace, app)
				}),
			},
			{
				Name: "set", ArgsUsage: "NAMESPACE/APP env.NAME=VALUE... secret.NAME=@FILE...", Usage: "give an app variables and secrets",
				Description: "They reach instances started from now on. @FILE takes the value from a file, @- from standard input, so that\n" +
					"a secret is in no process list; an empty value removes the name.",
				Action: onApp(-1, setApp),
			},
		},
	}
}

// onApp is the action of a command whose first argument is an app, and that
// takes at most that many arguments.
func onApp(most int, act func(c *cli.Context, client *admin.Client, namespace, app string, rest []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, 1, most)
		if err != nil {
			return err
		}
		namespace, app, err := splitApp(c, args[0])
		if err != nil {
			return err
		}
		return withGateway(c, func(client *admin.Client) error { return act(c, client, namespace, app, args[1:]) })
	}
}

func listApps(c *cli.Context) error {
	args, err := arguments(c, 0, 1)
	if err != nil {
		return err
	}
	return withGateway(c, func(client *admin.Client) error {
		apps, err := client.AppsLs(c.Context, strings.Join(args, ""))
		if err != nil {
			return err
		}
		return emitList(c, apps, "no apps yet: fgw deploy DIR --namespace NAMESPACE", func(w io.Writer) { drawVersions(w, apps) })
	})
}

func rollBack(c *cli.Context, client *admin.Client, namespace, app string, rest []string) error {
	version := 0
	if len(rest) == 1 {
		var err error
		if version, err = strconv.Atoi(rest[0]); err != nil || version < 1 {
			return wrongUsage(commandName(c), "%q is no version: they count 1, 2, 3", rest[0])
		}
	}
	live, err := client.AppsRollback(c.Context, namespace, app, version)
	if err != nil {
		return err
	}
	return emit(c, live, func(w io.Writer) { drawLive(w, live) })
}

func drawLive(w io.Writer, live *admin.AppVersion) {
	fmt.Fprintf(w, "%s/%s version %d is live\n", live.Namespace, live.App, live.Version)
}

func setApp(c *cli.Context, client *admin.Client, namespace, app string, rest []string) error {
	values, err := pairs(c, rest)
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return wrongUsage(commandName(c), "nothing to set")
	}
	for key, value := range values {
		if !strings.HasPrefix(key, "env.") && !strings.HasPrefix(key, "secret.") {
			return wrongUsage(commandName(c), "%s is neither env.NAME nor secret.NAME", key)
		}
		if text, err := valueOrFile(c, value); err != nil {
			return err
		} else {
			values[key] = string(text)
		}
	}
	return client.AppsSet(c.Context, namespace, app, values)
}

// valueOrFile is the value itself or, of @FILE, what is in the file; @- is
// standard input.
func valueOrFile(c *cli.Context, value string) ([]byte, error) {
	switch name, isFile := strings.CutPrefix(value, "@"); {
	case !isFile:
		return []byte(value), nil
	case name == "-":
		return io.ReadAll(c.App.Reader)
	default:
		return os.ReadFile(name)
	}
}

func drawVersions(w io.Writer, versions []admin.AppVersion) {
	table(w, "APP | VERSION | LIVE | SIZE | BUNDLE | CREATED", func(row func(...any)) {
		for _, v := range versions {
			live := "no"
			switch {
			case v.Live:
				live = "yes"
			case v.Canary > 0:
				live = fmt.Sprintf("canary %d %%", v.Canary)
			}
			row(v.Namespace+"/"+v.App, v.Version, live, byteCount(v.Bytes), v.Bundle[:min(12, len(v.Bundle))], v.CreatedAt)
		}
	})
}
