// Package e2e_test holds the gateway to its word as a whole: the program as it is
// shipped, started as a user starts it, with apps that behave and apps that do not.
// What one package can prove of itself is tested there.
package e2e_test

import (
	"os"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
