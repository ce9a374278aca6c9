package sdk

import (
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire"
)

// What is refused comes as a diagnostic, for whoever wrote it, however it is found out.
func TestCheckOfASourceThatIsTooLarge(t *testing.T) {
	f := &Facet{outside: &outside{}, start: &wire.Start{Children: true}}
	found, err := f.Loader().Check(t.Context(), Source(map[string]string{"main.go": strings.Repeat("x", wire.MaxSource+1)}))
	if err != nil || len(found) != 1 || !strings.Contains(found[0].Message, "at most 16777216") {
		t.Errorf("%+v, %v", found, err)
	}
}
