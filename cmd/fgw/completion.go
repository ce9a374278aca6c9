package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
)

// The scripts ask fgw itself what may come next, so they don't age.
const (
	bashCompletion = `# fgw completion for bash: source <(fgw completion bash)
_fgw() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	COMPREPLY=()
	case $cur in -*) words+=("$cur") ;; esac
	local said
	said=$("${words[@]}" --generate-bash-completion 2>/dev/null) || return
	COMPREPLY=($(compgen -W "$said" -- "$cur"))
}
complete -o bashdefault -o default -F _fgw fgw
`
	zshCompletion = `#compdef fgw
# fgw completion for zsh: source <(fgw completion zsh)
_fgw() {
	local -a said line
	line=("${words[@]:0:$CURRENT-1}")
	[[ ${words[CURRENT]} == -* ]] && line+=("${words[CURRENT]}")
	said=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 ${line[@]} --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${said[1]} ]]; then _describe fgw said; else _files; fi
}
compdef _fgw fgw
`
)

func completionCommand() *cli.Command {
	shell := func(name string, script func(*cli.Context) (string, error)) *cli.Command {
		return &cli.Command{
			Name:  name,
			Usage: "the script for " + name,
			Action: func(c *cli.Context) error {
				text, err := script(c)
				if err != nil {
					return err
				}
				_, err = io.WriteString(c.App.Writer, text)
				return err
			},
		}
	}
	constant := func(text string) func(*cli.Context) (string, error) {
		return func(*cli.Context) (string, error) { return text, nil }
	}
	return &cli.Command{
		Name:      "completion",
		Usage:     "a script that completes fgw's commands in a shell",
		ArgsUsage: "bash|zsh|fish",
		Action:    group,
		Subcommands: []*cli.Command{
			shell("bash", constant(bashCompletion)),
			shell("zsh", constant(zshCompletion)),
			shell("fish", func(c *cli.Context) (string, error) { return c.App.ToFishCompletion() }),
		},
	}
}

// completionTime is how long a shell waits for the gateway's part.
const completionTime = time.Second

// The names that arguments may be completed to.
var (
	completeNamespaces = completeWith(func(ctx context.Context, client *admin.Client) (names []string) {
		list, _ := client.NamespacesLs(ctx)
		for _, ns := range list {
			names = append(names, ns.Name)
		}
		return names
	})
	completeApps = completeWith(func(ctx context.Context, client *admin.Client) (names []string) {
		list, _ := client.AppsLs(ctx, "")
		for _, v := range list {
			names = append(names, v.Namespace+"/"+v.App)
		}
		return names
	})
	completeFacets = completeWith(func(ctx context.Context, client *admin.Client) (names []string) {
		list, _ := client.FacetsLs(ctx, "")
		for _, f := range list {
			names = append(names, f.Address)
		}
		return names
	})
)

// completionOf chooses the names by what a command says that it takes; without
// any it takes subcommands and flags.
func completionOf(argsUsage string) cli.BashCompleteFunc {
	first, _, _ := strings.Cut(strings.Trim(argsUsage, "[]"), " ")
	switch strings.Trim(first, "[]") {
	case "NAMESPACE":
		return completeNamespaces
	case "NAMESPACE/APP":
		return completeApps
	case "ADDRESS", "SOURCE":
		return completeFacets
	}
	return nil
}

// completeWith completes an argument to what a running gateway knows, and
// flags to the command's own. Where there is no gateway there are no names.
func completeWith(names func(context.Context, *admin.Client) []string) cli.BashCompleteFunc {
	return func(c *cli.Context) {
		if n := len(os.Args); n > 2 && strings.HasPrefix(os.Args[n-2], "-") {
			cli.DefaultCompleteWithFlags(c.Command)(c)
			return
		}
		client, err := dial(c)
		if err != nil {
			return
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(c.Context, completionTime)
		defer cancel()
		for _, name := range names(ctx, client) {
			fmt.Fprintln(c.App.Writer, name)
		}
	}
}
