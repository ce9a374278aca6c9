package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/sandboxd"
	"github.com/urfave/cli/v2"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "which layers of confinement this machine gives, and how to mend what is missing",
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0); err != nil {
				return err
			}
			layers := append(sandboxd.Plan(sandboxd.Probe(), sandboxd.Options{}).Layers, toolchainLayer())
			missing := 0
			for _, l := range layers {
				if l.Required && !l.Active {
					missing++
				}
			}
			if err := emitList(c, layers, "", func(w io.Writer) { drawLayers(w, layers) }); err != nil {
				return err
			}
			if missing > 0 {
				return &failure{what: "doctor", why: fmt.Sprintf("%d required layers of confinement are missing", missing),
					hint: "each line above says how to mend it", code: "layer_missing", exit: exitRefused}
			}
			return nil
		},
	}
}

func drawLayers(w io.Writer, layers []sandboxd.Layer) {
	table(w, "LAYER | STATE | DETAIL", func(row func(...any)) {
		for _, l := range layers {
			state := "active"
			switch {
			case !l.Active && l.Required:
				state = "MISSING"
			case !l.Active:
				state = "absent"
			}
			row(l.Layer, state, orDash(l.Detail))
		}
	})
	for _, m := range mends(layers) {
		fmt.Fprintf(w, "\n%s: %s\n", strings.Join(m.layers, ", "), printable(m.text))
	}
}

// mend is what would bring some layers.
type mend struct {
	layers []string
	text   string
}

// mends tells each once, with all the layers that it would bring.
func mends(layers []sandboxd.Layer) []mend {
	var all []mend
	for _, l := range layers {
		if l.Active || l.Mend == "" {
			continue
		}
		i := slices.IndexFunc(all, func(m mend) bool { return m.text == l.Mend })
		if i < 0 {
			i = len(all)
			all = append(all, mend{text: l.Mend})
		}
		all[i].layers = append(all[i].layers, l.Layer)
	}
	return all
}
