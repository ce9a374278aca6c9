package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/gateway/appvendor"
	"github.com/facetgateway/fgw/gateway/build"
	"github.com/urfave/cli/v2"
)

func modulesCommand() *cli.Command {
	return &cli.Command{
		Name:   "modules",
		Usage:  "the Go modules that sources built at run time may import",
		Action: group,
		Subcommands: []*cli.Command{
			{Name: "ls", Usage: "list the allowed modules", Action: noArguments(listModules)},
			{
				Name: "allow", ArgsUsage: "PATH@VERSION...", Usage: "allow modules, in place of other versions of them",
				Description: "It fetches them with the go command and its settings (GOPROXY, GOSUMDB), with all that they need, and hands\n" +
					"their sources to the gateway, which never fetches anything itself. VERSION may be latest. All allowed modules are\n" +
					"resolved together: where one needs a newer version of another, that one is used.",
				Action: allowModules,
			},
			{Name: "rm", ArgsUsage: "PATH[@VERSION]...", Usage: "no longer allow modules; what was built with them stays", Action: removeModules},
		},
	}
}

func listModules(c *cli.Context, client *admin.Client) error {
	modules, err := client.ModulesLs(c.Context)
	if err != nil {
		return err
	}
	return emitModules(c, modules)
}

func emitModules(c *cli.Context, modules []build.Module) error {
	return emitList(c, modules, "sources may import the standard library and the SDK; more: fgw modules allow PATH@VERSION", func(w io.Writer) {
		table(w, "MODULE | VERSION", func(row func(...any)) {
			for _, m := range modules {
				row(m.Path, m.Version)
			}
		})
	})
}

func allowModules(c *cli.Context) error {
	return changeModules(c, func(packer *build.Packer, modules []build.Module, arg string) ([]build.Module, error) {
		path, query, ok := strings.Cut(arg, "@")
		if !ok || path == "" || query == "" {
			return nil, wrongUsage(commandName(c), "%q is not of the form PATH@VERSION", arg)
		}
		m, err := packer.Resolve(c.Context, path, query)
		if err != nil {
			return nil, err
		}
		modules = slices.DeleteFunc(modules, func(o build.Module) bool { return o.Path == m.Path })
		return append(modules, m), nil
	})
}

func removeModules(c *cli.Context) error {
	return changeModules(c, func(_ *build.Packer, modules []build.Module, arg string) ([]build.Module, error) {
		path, version, one := strings.Cut(arg, "@") // as `allow` takes it
		left := slices.DeleteFunc(slices.Clone(modules), func(o build.Module) bool { return o.Path == path && (!one || o.Version == version) })
		if len(left) == len(modules) {
			return nil, &failure{what: commandName(c), why: "module " + arg + " is not allowed", code: "not_found", exit: exitNotFound}
		}
		return left, nil
	})
}

// changeModules applies each argument to the list of modules, and has the gateway take what comes out.
func changeModules(c *cli.Context, change func(*build.Packer, []build.Module, string) ([]build.Module, error)) error {
	args, err := arguments(c, 1, -1)
	if err != nil {
		return err
	}
	client, err := dial(c)
	if err != nil {
		return err
	}
	defer client.Close()
	sdk, err := appvendor.Open()
	if err != nil {
		return err
	}
	packer := &build.Packer{SDK: sdk}
	modules, err := client.ModulesLs(c.Context)
	if err != nil {
		return err
	}
	for _, arg := range args {
		if modules, err = change(packer, modules, arg); err != nil {
			return err
		}
	}
	if modules, err = sendModules(c, client, packer, modules); err != nil {
		return err
	}
	return emitModules(c, modules)
}

// sendModules packs modules and hands them to the gateway.
func sendModules(c *cli.Context, client *admin.Client, packer *build.Packer, modules []build.Module) ([]build.Module, error) {
	f, err := os.CreateTemp("", "fgw-modules-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := packer.Pack(c.Context, modules, f); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the archive back: %w", err)
	}
	return client.ModulesReplace(c.Context, f)
}
