package facet

import (
	"errors"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

// A worker has its supervisor's place, so that children of its own would be its supervisor's.
func TestWorkersHaveNoChildren(t *testing.T) {
	up, answer := &Spec{}, &wire.StartAnswer{Children: true}
	_, err := up.derive(t.Context(), &node{nameless: true}, answer, gated{})
	if p, ok := errors.AsType[*problem.Error](err); !ok || p.Code != problem.BadRequest || !strings.Contains(p.Message, "Children") {
		t.Errorf("%v", err)
	}
}
