package main

import (
	"os"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// The libraries do in a confined facet what they do elsewhere; and again on the data that they left.
func TestLibraries(t *testing.T) {
	g := rig.Start(t)
	g.Deploy(rig.App(t, ".", ""), "t", "orm")
	for _, library := range []string{"goose", "gorm", "sqlx", "ent"} {
		t.Run(library, func(t *testing.T) {
			g.T = t
			if got := g.Text("GET", "/t/"+library+"/orm/"+library, ""); got != "ok" {
				t.Error(got)
			}
		})
	}
	g.T = t
	if got := g.Text("GET", "/t/goose/orm/goose", ""); got != "ok" {
		t.Error(got)
	}
}
