package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/build"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/registry"
)

// Runtime is what runs: the part of the gateway that starts, stops and watches
// facets. An address that names no facet that was ever started gives an error
// that wraps registry.ErrNotFound. Errors may be *Error, which go out as they are.
type Runtime interface {
	// Facets lists the facets at or below prefix, running or not.
	Facets(ctx context.Context, prefix address.Address) ([]FacetInfo, error)
	Inspect(ctx context.Context, a address.Address) (*FacetDetail, error)
	Usage(ctx context.Context, a address.Address) (*Usage, error)
	// Abort ends a facet and its descendants, or all that a prefix covers.
	Abort(ctx context.Context, a address.Address, reason string) error
	Delete(ctx context.Context, a address.Address) error
	Clone(ctx context.Context, src, dst address.Address) error
	// SQL opens a session with a facet's database, without starting the facet.
	SQL(ctx context.Context, a address.Address) (Session, error)
	// SetAudit says whether a facet's SQL statements go into its log.
	SetAudit(ctx context.Context, a address.Address, on bool) error
	// Deployed tells that other versions of an app are to run, or none: what runs moves over, or ends.
	Deployed(ctx context.Context, namespace, app string) error
	// RemoveObject stops what runs in an object, closes its databases and removes it from the registry.
	RemoveObject(ctx context.Context, namespace, object string) error
	// RemoveNamespace does the same for a namespace, which must be empty unless force is given.
	RemoveNamespace(ctx context.Context, namespace string, force bool) error
}

// Config of the server. Registry, Bundles, Logs and Runtime are needed.
type Config struct {
	Registry *registry.Registry
	Bundles  *bundle.Store
	Logs     *logs.Store
	Runtime  Runtime
	// Sources builds sources; nil where nothing is built.
	Sources *build.Builder
	// Invoke serves calls to facets: InvokeAddress tells for which, the URL is
	// what the facet is to see. Without it such calls are refused.
	Invoke http.Handler
	// URL gives an app's addresses on the web, for whoever deployed it: by path and by origin.
	URL       func(ns *registry.Namespace, app string) (url, origin string)
	Version   string
	Listen    []string
	MaxBundle int64 // bytes; 0: bundle.MaxBytes
	Log       *slog.Logger
}

type server struct {
	Config
	mux *http.ServeMux
}

// NewServer gives the handler of the admin socket. Serve it with Serve, which
// looks at who is calling.
func NewServer(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{Config: c, mux: http.NewServeMux()}
	s.answer("GET "+pathStatus, s.status)
	s.answer("GET "+pathNamespaces, s.namespaces)
	s.answer("POST "+pathNamespace, s.namespaceCreate)
	s.answer("GET "+pathNamespace, s.namespaceShow)
	s.answer("PATCH "+pathNamespace, s.namespaceSet)
	s.answer("DELETE "+pathNamespace, s.namespaceRemove)
	s.answer("GET "+pathApps, s.apps)
	s.answer("GET "+pathVersions, s.versions)
	s.answer("POST "+pathDeploy, s.deploy)
	s.answer("POST "+pathRollback, s.rollback)
	s.answer("POST "+pathPromote, s.promote)
	s.answer("PATCH "+pathApp, s.appSet)
	s.answer("DELETE "+pathApp, s.appRemove)
	s.answer("GET "+pathObjects, s.objects)
	s.answer("POST "+pathObject, s.objectCreate)
	s.answer("DELETE "+pathObject, s.objectRemove)
	s.answer("GET "+pathFacets, s.facets)
	s.answer("GET "+pathFacet, s.facetInspect)
	s.answer("DELETE "+pathFacet, s.facetDelete)
	s.answer("POST "+pathAbort, s.facetAbort)
	s.answer("POST "+pathClone, s.facetClone)
	s.answer("GET "+pathUsage, s.facetUsage)
	s.answer("POST "+pathAudit, s.facetAudit)
	s.answer("GET "+pathModules, s.modules)
	s.answer("PUT "+pathModules, s.modulesReplace)
	s.mux.HandleFunc("POST "+pathSQL, s.sql)
	s.mux.HandleFunc("GET "+pathLogs, s.logs)
	s.mux.Handle("GET "+pathMetrics, promhttp.HandlerFor(s.gatherer(), promhttp.HandlerOpts{}))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Errorf(http.StatusNotFound, "not_found", "the admin API has no %s %s", r.Method, r.URL.Path))
	})
	return s
}

// ServeHTTP takes invocations out before the mux, which would tidy their paths.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.invoked(w, r) {
		s.mux.ServeHTTP(w, r)
	}
}

// answer serves a call whose result is written as JSON; nil is 204.
func (s *server) answer(pattern string, f func(*http.Request) (any, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		writeJSON(w, v)
	})
}

// fail answers an error, and logs those that nobody foresaw.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if e := asError(err); e.Code == codeInternal && !errors.Is(err, context.Canceled) {
		s.Log.Error("admin call failed", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	writeError(w, err)
}

func (s *server) status(*http.Request) (any, error) {
	return Status{Version: s.Version, PID: os.Getpid(), Listen: s.Listen}, nil
}

// facetAddress reads an address that must name a facet.
func facetAddress(r *http.Request, key string) (address.Address, error) {
	a, err := address.Parse(r.URL.Query().Get(key))
	if err == nil && !a.IsFacet() {
		err = Errorf(http.StatusBadRequest, "bad_name", "%q names no facet", a.String()).WithHint("a facet is NAMESPACE/OBJECT/FACET, a supervisor NAMESPACE/OBJECT/")
	}
	return a, err
}

// objectAddress reads an address that must name an object.
func objectAddress(r *http.Request) (address.Address, error) {
	a, err := address.Parse(r.URL.Query().Get("address"))
	if err == nil && (a.Object == "" || a.IsFacet()) {
		err = Errorf(http.StatusBadRequest, "bad_name", "%q names no object", a.String()).WithHint("an object is NAMESPACE/OBJECT")
	}
	return a, err
}
