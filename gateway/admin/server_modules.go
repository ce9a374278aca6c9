package admin

import (
	"context"
	"net/http"

	"github.com/facetgateway/fgw/gateway/build"
)

// pathModules is about the modules that sources built at run time may import.
const pathModules = "/v1/modules"

// modules lists what is allowed.
func (s *server) modules(*http.Request) (any, error) {
	if s.Sources == nil {
		return []build.Module{}, nil
	}
	return append([]build.Module{}, s.Sources.Modules().List()...), nil
}

// modulesReplace takes the archive that the administrator's side has made; it names all that is allowed from now on.
func (s *server) modulesReplace(r *http.Request) (any, error) {
	if s.Sources == nil {
		return nil, Errorf(http.StatusNotImplemented, "not_found", "this gateway builds no sources")
	}
	if err := s.Sources.Modules().Replace(r.Body); err != nil {
		return nil, Errorf(http.StatusBadRequest, "bad_request", "%v", err)
	}
	// In the background, and not for this call alone: builds work meanwhile, and are slower.
	s.Sources.Warm(context.WithoutCancel(r.Context()))
	return s.modules(r)
}
