// Package e2e_test holds the gateway to its word as a whole: the program as it is
// shipped, started as a user starts it, with apps that behave and apps that do not.
// What one package can prove of itself is tested there.
package e2e_test

import (
	"flag"
	"os"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// As many as are parallel, whatever the number of cores: they wait, for a minute each.
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	os.Exit(rig.Main(m))
}
