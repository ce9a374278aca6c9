package main

import (
	"io"

	"github.com/urfave/cli/v2"
)

// The scripts ask fgw itself what may come next, so they don't age. Each gives
// it the words before the cursor and the one under it, which may be empty.
// Where fgw knows nothing, files are offered.
const (
	bashCompletion = `# fgw completion for bash: source <(fgw completion bash)
_fgw() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}") said
	COMPREPLY=()
	said=$("${words[@]}" "$cur" ` + completionFlag + ` 2>/dev/null) || return
	COMPREPLY=($(compgen -W "$said" -- "$cur"))
}
complete -o bashdefault -o default -F _fgw fgw
`
	zshCompletion = `#compdef fgw
# fgw completion for zsh: source <(fgw completion zsh)
_fgw() {
	local -a said line
	line=("${words[@]:0:$CURRENT}")
	said=("${(@f)$("${line[@]}" ` + completionFlag + ` 2>/dev/null)}")
	if [[ -n ${said[1]} ]]; then compadd -- $said; else _files; fi
}
compdef _fgw fgw
`
	fishCompletion = `# fgw completion for fish: fgw completion fish | source
function __fgw_complete
	set -l words (commandline -opc)
	set -l cur (commandline -ct)
	set -l said ($words "$cur" ` + completionFlag + ` 2>/dev/null)
	if test (count $said) -gt 0
		printf '%s\n' $said
	else
		__fish_complete_path $cur
	end
end
complete -c fgw -f -a '(__fgw_complete)'
`
)

func completionCommand() *cli.Command {
	shell := func(name, script string) *cli.Command {
		return &cli.Command{
			Name:  name,
			Usage: "the script for " + name,
			Action: func(c *cli.Context) error {
				if _, err := arguments(c, 0, 0); err != nil {
					return err
				}
				_, err := io.WriteString(c.App.Writer, script)
				return err
			},
		}
	}
	return &cli.Command{
		Name:      "completion",
		Usage:     "a script that completes fgw's commands in a shell",
		ArgsUsage: "bash|zsh|fish",
		Action:    group,
		Subcommands: []*cli.Command{
			shell("bash", bashCompletion),
			shell("zsh", zshCompletion),
			shell("fish", fishCompletion),
		},
	}
}
