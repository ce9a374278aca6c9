package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/appvendor"
	"github.com/urfave/cli/v2"
)

func newCommand() *cli.Command {
	return &cli.Command{
		Name:      "new",
		Usage:     "write an app to start from",
		ArgsUsage: "DIR",
		Description: "The app builds with the Go toolchain and fgw alone: all that it imports is in its vendor directory.\n" +
			"main.go is the app, main_test.go its tests; `go run .` in DIR tries it without a gateway.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "template", Usage: "what to start from: `NAME` is guestbook, canvas, counter or appmaker (a supervisor)", Value: "guestbook"},
		},
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 1, 1)
			if err != nil {
				return err
			}
			made, err := makeApp(args[0], c.String("template"))
			if err != nil {
				return err
			}
			return emit(c, made, func(w io.Writer) {
				fmt.Fprintf(w, "%s: a new app, from the template %s\n", printable(args[0]), made.Template)
				fmt.Fprintf(w, "  fgw deploy %s --namespace NAMESPACE\n", shellWord(args[0]))
			})
		},
	}
}

// madeApp is what `fgw new` reports.
type madeApp struct {
	Dir      string `json:"dir"`
	Module   string `json:"module"`
	Template string `json:"template"`
}

// makeApp writes a new app into dir, which must not exist or be empty. It
// appears there whole or not at all.
func makeApp(dir, template string) (madeApp, error) {
	set, err := appvendor.Open()
	if err != nil {
		return madeApp{}, err
	}
	if have := set.Templates(); !slices.Contains(have, template) {
		return madeApp{}, wrongUsage("new", "there is no template %q; there are %s", template, strings.Join(have, ", "))
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return madeApp{}, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return madeApp{}, &failure{what: "new", why: dir + " is there already and not empty", code: "exists", exit: exitConflict,
			hint: "choose another directory"}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return madeApp{}, err
	}
	made := madeApp{Dir: dir, Module: modulePath(filepath.Base(dir)), Template: template}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return madeApp{}, err
	}
	draft, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-")
	if err != nil {
		return madeApp{}, err
	}
	defer os.RemoveAll(draft)
	if err := writeApp(set, draft, made); err != nil {
		return madeApp{}, err
	}
	if err := os.Rename(draft, dir); err != nil {
		return madeApp{}, err
	}
	return made, nil
}

func writeApp(set *appvendor.Set, dir string, app madeApp) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"go.mod":     set.GoMod(app.Module),
		".gitignore": "# the database of `go run .`\n/.fgw/\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := set.WriteTemplate(app.Template, dir); err != nil {
		return err
	}
	return set.WriteVendor(dir)
}

// modulePath makes a module path of a directory's name. Its first element is
// one that no package of the standard library has.
func modulePath(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	if name = strings.Trim(name, "-."); name == "" {
		name = "app"
	}
	return "app/" + name
}

// shellWord quotes s where a shell would not take it as one word.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@%+,~", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
