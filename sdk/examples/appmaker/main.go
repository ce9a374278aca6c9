// Appmaker is a studio for small web apps: a person pastes source code on its page, or a script that stands for an AI
// sends it, and has an app at an address of its own, with a database of its own, a moment later. The code can be edited for as
// long as the app lives, the data stays. It shows what a supervisor does: it keeps the sources, decides what runs and what
// it may do, sees each request first, and counts; the apps are its facets and can reach nothing of it.
//
// The studio's page is at http://OBJECT--NAMESPACE.localhost/, an app at http://APP--OBJECT--NAMESPACE.localhost/.
package main

import (
	"context"
	"embed"
	"fmt"
	"net/http"
	"sync"

	"github.com/facetgateway/fgw/sdk"
)

//go:embed page seeds/*/main.go
var files embed.FS

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	if _, err := f.DB().ExecContext(ctx, schema); err != nil {
		return nil, fmt.Errorf("create the tables: %w", err)
	}
	s := &studio{f: f, apps: map[string]bool{}}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	s.own = s.routes()
	return s, nil
}

// studio is the supervisor of the apps.
type studio struct {
	f   *sdk.Facet
	own http.Handler // the studio's own pages

	mu   sync.RWMutex    // guards apps
	apps map[string]bool // the apps there are, so that a request to one costs no query
}

// ServeHTTP sorts the requests: the gateway says which app's origin one came to. That header can't come from a client.
func (s *studio) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name := r.Header.Get("Fgw-Child"); name != "" {
		s.visit(w, r, name)
		return
	}
	s.own.ServeHTTP(w, r)
}

// visit steps aside for an app: the gateway joins the visitor to it. Whatever an app answers, it answers on an origin where
// neither the studio nor another app has anything.
func (s *studio) visit(w http.ResponseWriter, r *http.Request, name string) {
	if !s.has(name) {
		http.Error(w, fmt.Sprintf("There is no app %q here.", name), http.StatusNotFound)
		return
	}
	r.Header.Del("Fgw-Child")
	s.f.Facets().Get(name, func(ctx context.Context) (*sdk.Start, error) { return s.startApp(ctx, name) }).ServeHTTP(w, r)
}

func (s *studio) has(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.apps[name]
}

func (s *studio) note(name string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if there {
		s.apps[name] = true
	} else {
		delete(s.apps, name)
	}
}

// routes are the studio's own addresses: pages for people, whose forms work without scripts, and /api for programs. A page
// of another origin, that of an app included, can't change anything here.
func (s *studio) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.showList)
	mux.HandleFunc("POST /apps", s.create)
	mux.HandleFunc("GET /apps/{name}", s.showApp)
	mux.HandleFunc("POST /apps/{name}/source", s.postSource)
	mux.HandleFunc("POST /apps/{name}/settings", s.postSettings)
	mux.HandleFunc("POST /apps/{name}/rollback", s.postRollback)
	mux.HandleFunc("POST /apps/{name}/clone", s.postClone)
	mux.HandleFunc("POST /apps/{name}/restart", s.postRestart)
	mux.HandleFunc("POST /apps/{name}/delete", s.postDelete)
	mux.HandleFunc("GET /page/{file}", servePageFile)

	mux.HandleFunc("GET /api", s.apiGuide)
	mux.HandleFunc("GET /api/apps", s.apiList)
	mux.HandleFunc("GET /api/apps/{name}", s.apiGet)
	mux.HandleFunc("GET /api/apps/{name}/usage", s.apiUsage)
	mux.HandleFunc("PUT /api/apps/{name}", s.apiPut)
	mux.HandleFunc("DELETE /api/apps/{name}", s.apiDelete)
	mux.HandleFunc("POST /api/apps/{name}/limits", s.apiLimits)
	mux.HandleFunc("POST /api/apps/{name}/rollback", s.apiRollback)
	return http.NewCrossOriginProtection().Handler(mux)
}
