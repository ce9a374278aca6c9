package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/facetgateway/fgw/sdk"
)

// appInfo is an app in the answers of the API.
type appInfo struct {
	Name        string           `json:"name"`
	URL         string           `json:"url"`
	Version     int              `json:"version"` // 0: none has built yet
	Draft       bool             `json:"draft"`   // a later source did not build
	Diagnostics []sdk.Diagnostic `json:"diagnostics"`
	Limits      settings         `json:"limits"`
	Usage       *sdk.FacetUsage  `json:"usage,omitempty"`
	Source      string           `json:"source,omitempty"`
	Versions    []version        `json:"versions,omitempty"`
}

func (s *studio) info(r *http.Request, a *app) *appInfo {
	i := &appInfo{Name: a.Name, URL: s.origin(r, a.Name) + "/", Version: a.Live, Draft: a.Draft != nil, Diagnostics: a.Diagnostics, Limits: a.Settings}
	if i.Diagnostics == nil {
		i.Diagnostics = []sdk.Diagnostic{}
	}
	return i
}

func (s *studio) apiList(w http.ResponseWriter, r *http.Request) {
	apps, err := s.list(r.Context(), `NOT deleting`)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	all := make([]*appInfo, 0, len(apps))
	for _, a := range apps {
		all = append(all, s.info(r, a))
	}
	reply(w, http.StatusOK, all)
}

func (s *studio) apiGet(w http.ResponseWriter, r *http.Request) {
	a, err := s.app(r.Context(), r.PathValue("name"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	i := s.info(r, a)
	i.Source = a.Shown()
	if i.Usage, err = s.usage(r.Context(), a.Name); err != nil {
		s.refuse(w, r, err)
		return
	}
	if i.Versions, err = s.versions(r.Context(), a.Name); err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, i)
}

func (s *studio) apiUsage(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !s.has(name) {
		s.refuse(w, r, fmt.Errorf("there is no app %q here: %w", name, sdk.ErrNotFound))
		return
	}
	u, err := s.usage(r.Context(), name)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, u)
}

// apiPut takes an app's source as it is. The answer says where the app is, or, with status 422, what is wrong and where.
func (s *studio) apiPut(w http.ResponseWriter, r *http.Request) {
	source, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSource))
	if err != nil {
		s.refuse(w, r, badRequest("read the source, of at most %s: %w", size(maxSource), err))
		return
	}
	base, err := baseOf(r.URL.Query().Get("base"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	name := r.PathValue("name")
	done, err := s.save(r.Context(), name, string(source), base)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if len(done.Diagnostics) > 0 {
		reply(w, http.StatusUnprocessableEntity, map[string]any{"name": name, "diagnostics": done.Diagnostics})
		return
	}
	reply(w, http.StatusOK, map[string]any{"name": name, "version": done.Version, "url": s.origin(r, name) + "/"})
}

// apiLimits changes the settings that the body names.
func (s *studio) apiLimits(w http.ResponseWriter, r *http.Request) {
	a, err := s.app(r.Context(), r.PathValue("name"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	in.DisallowUnknownFields()
	if err := in.Decode(&a.Settings); err != nil {
		s.refuse(w, r, badRequest(`read the limits: %w; they are like {"memory": 67108864, "storage": 16777216, "request_time": 5000, "egress": ["api.example.com"]}`, err))
		return
	}
	if err := s.set(r.Context(), a.Name, a.Settings); err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, a.Settings)
}

func (s *studio) apiRollback(w http.ResponseWriter, r *http.Request) {
	var to struct {
		Version int `json:"version"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&to); err != nil {
		s.refuse(w, r, badRequest(`read the version: %w; it is like {"version": 3}`, err))
		return
	}
	if err := s.rollback(r.Context(), r.PathValue("name"), to.Version); err != nil {
		s.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, to)
}

// apiDelete deletes an app and its data; one that is not there is deleted already.
func (s *studio) apiDelete(w http.ResponseWriter, r *http.Request) {
	if err := s.remove(r.Context(), r.PathValue("name")); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// status gives the HTTP status for an error.
func status(err error) int {
	var facet *sdk.FacetError
	var bad requestError
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.Is(err, sdk.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, errStale):
		return http.StatusConflict
	case errors.Is(err, sdk.ErrLimit):
		return http.StatusInsufficientStorage
	case errors.As(err, &facet):
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// refuse answers a program with an error.
func (s *studio) refuse(w http.ResponseWriter, r *http.Request, err error) {
	code := status(err)
	if code >= http.StatusInternalServerError {
		s.f.Logger().ErrorContext(r.Context(), "a call failed", "path", r.URL.Path, "error", err)
	}
	reply(w, code, map[string]string{"error": err.Error()})
}

// apiGuide is a page for a program that writes programs: how an app looks, and how it gets here.
func (s *studio) apiGuide(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	example, err := files.ReadFile("seeds/todo/main.go")
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	fmt.Fprintf(w, guide, example)
}

const guide = `How to make an app here

An app is one Go file, package main, that imports the standard library and github.com/facetgateway/fgw/sdk. It has a
SQLite database of its own, f.DB(), a *sql.DB that works from the first moment; what it creates there stays when its code
changes, so create tables with IF NOT EXISTS, and add columns by ALTER TABLE. It can open no file and no socket.
f.Client() is an HTTP client for the hosts that the app's owner allowed. The page that it serves is at the root of an origin of
its own, so absolute paths are fine.

	PUT    /api/apps/NAME           the source as the body. 200 {"name","version","url"}: it is live, on the data that was
	                                there. 422 {"diagnostics":[{"file","line","column","message"}]}: it does not build, what
	                                ran before still runs; mend it and put it again.
	GET    /api/apps                all apps
	GET    /api/apps/NAME           one, with its source, versions and usage
	POST   /api/apps/NAME/limits    {"memory": bytes, "storage": bytes, "request_time": milliseconds, "egress": [hosts]}
	POST   /api/apps/NAME/rollback  {"version": n}
	DELETE /api/apps/NAME           the app and its data

A NAME is made of a-z, 0-9 and single hyphens. Here is a whole app:

%s`
