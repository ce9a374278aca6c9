package main

import (
	"os"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// The libraries do in a confined facet what they do elsewhere.
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
	for _, library := range []string{"goose", "ent"} { // which leave their data as they found them
		if got := g.Text("GET", "/t/"+library+"/orm/"+library, ""); got != "ok" {
			t.Errorf("%s again: %s", library, got)
		}
	}
}
