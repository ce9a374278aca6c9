package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/egress"
	"github.com/facetgateway/fgw/gateway/registry"
)

// maxBody is the largest body of a call other than a deploy: an app's
// environment and secrets, with what JSON adds.
const maxBody = 4 << 20

func (s *server) namespace(ns *registry.Namespace) Namespace {
	return Namespace{
		Name: ns.Name, Supervisor: ns.Supervisor, Create: ns.Create, Access: ns.Access, Egress: append([]string{}, registry.Hosts(ns.Egress)...),
		Limits: ns.Limits, Objects: s.Registry.CountObjects(ns), CreatedAt: ns.CreatedAt,
	}
}

func (s *server) namespaces(*http.Request) (any, error) {
	all := []Namespace{}
	for _, ns := range s.Registry.Namespaces() {
		all = append(all, s.namespace(ns))
	}
	return all, nil
}

func (s *server) namespaceAnswer(ns *registry.Namespace, err error) (any, error) {
	if err != nil {
		return nil, notFound(err, codeNamespaceNotFound)
	}
	return s.namespace(ns), nil
}

func (s *server) namespaceCreate(r *http.Request) (any, error) {
	return s.namespaceAnswer(s.Registry.CreateNamespace(r.Context(), r.URL.Query().Get("namespace")))
}

func (s *server) namespaceShow(r *http.Request) (any, error) {
	return s.namespaceAnswer(s.Registry.Namespace(r.URL.Query().Get("namespace")))
}

func (s *server) namespaceSet(r *http.Request) (any, error) {
	values, err := readPairs(r)
	if err != nil {
		return nil, err
	}
	name := r.URL.Query().Get("namespace")
	before, err := s.Registry.Namespace(name)
	if err != nil {
		return nil, notFound(err, codeNamespaceNotFound)
	}
	if _, err := egress.ParsePolicy(registry.Hosts(values["egress"])); err != nil {
		return nil, Errorf(http.StatusBadRequest, "bad_value", "egress=%s: %v", values["egress"], err)
	}
	ns, err := s.Registry.SetNamespace(r.Context(), name, values)
	if err == nil && ns.Supervisor != before.Supervisor {
		// What runs was started by someone who is no longer asked.
		err = s.Runtime.Abort(r.Context(), address.Address{Namespace: name}, "the namespace has another supervisor")
	}
	return s.namespaceAnswer(ns, err)
}

func (s *server) namespaceRemove(r *http.Request) (any, error) {
	name := r.URL.Query().Get("namespace")
	err := s.Runtime.RemoveNamespace(r.Context(), name, r.URL.Query().Get("force") == "true")
	if err != nil {
		return nil, notFound(err, codeNamespaceNotFound)
	}
	s.collect(r)
	return nil, s.Logs.Remove(r.Context(), address.Address{Namespace: name})
}

func appVersion(v *registry.Version) AppVersion {
	return AppVersion{Live: v.Live, Canary: v.Canary, Namespace: v.Namespace, App: v.App, Version: v.Version, Bundle: v.Bundle, Bytes: v.Bytes, CreatedAt: v.CreatedAt}
}

func (s *server) apps(r *http.Request) (any, error) {
	live, err := s.Registry.Apps(r.URL.Query().Get("namespace"))
	if err != nil {
		return nil, notFound(err, codeNamespaceNotFound)
	}
	all := []AppVersion{}
	for _, v := range live {
		all = append(all, appVersion(v))
	}
	return all, nil
}

// app reads which app a call is about, and checks that its namespace exists.
func (s *server) app(r *http.Request) (ns, app string, err error) {
	q := r.URL.Query()
	ns, app = q.Get("namespace"), q.Get("app")
	if _, err := s.Registry.Namespace(ns); err != nil {
		return "", "", notFound(err, codeNamespaceNotFound)
	}
	return ns, app, nil
}

func (s *server) versions(r *http.Request) (any, error) {
	ns, app, err := s.app(r)
	if err != nil {
		return nil, err
	}
	versions, err := s.Registry.Versions(r.Context(), ns, app)
	if err != nil {
		return nil, notFound(err, codeAppNotFound)
	}
	all := []AppVersion{}
	for i := range versions {
		all = append(all, appVersion(&versions[i]))
	}
	return all, nil
}

// deploy refuses before it reads the body what it can refuse by name.
// maxRefused is how much of a bundle that is refused is read all the same: by far most bundles.
const maxRefused = 128 << 20

func (s *server) deploy(r *http.Request) (_ any, err error) {
	ns, app, err := s.app(r)
	if err != nil {
		return nil, err
	}
	if err := address.CheckName(app); err != nil {
		return nil, err
	}
	percent, err := number(r, "canary", 1, 100)
	if err != nil {
		return nil, err
	}
	if percent > 0 {
		if _, err := s.Registry.Live(ns, app); err != nil {
			return nil, notFound(err, codeAppNotFound)
		}
	}
	limit := s.MaxBundle
	if limit <= 0 {
		limit = bundle.MaxBytes
	}
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", bundle.ErrTooLarge, r.ContentLength, limit)
	}
	// A refusal must find a client that listens: one that is cut off while it sends knows only that.
	defer func() {
		if err != nil {
			io.CopyN(io.Discard, r.Body, maxRefused)
		}
	}()
	hash, bytes, err := s.Bundles.Put(r.Context(), r.Body, limit, func(f *os.File) error { return bundle.Check(f) })
	if err != nil {
		return nil, err
	}
	var v registry.Version
	if percent > 0 {
		v, err = s.Registry.AddCanary(r.Context(), ns, app, hash, bytes, percent)
	} else {
		v, err = s.Registry.AddVersion(r.Context(), ns, app, hash, bytes)
	}
	if err != nil {
		return nil, notFound(err, codeAppNotFound)
	}
	if err := s.Runtime.Deployed(r.Context(), ns, app); err != nil {
		return nil, err
	}
	d := Deployment{Namespace: ns, App: app, Version: v.Version, Bundle: hash, Bytes: bytes, Canary: v.Canary}
	if s.URL != nil {
		n, err := s.Registry.Namespace(ns)
		if err != nil {
			return nil, notFound(err, codeNamespaceNotFound)
		}
		d.URL, d.Origin = s.URL(n, app)
	}
	return d, nil
}

func (s *server) rollback(r *http.Request) (any, error) {
	ns, app, err := s.app(r)
	if err != nil {
		return nil, err
	}
	version, err := number(r, "version", 0, 1<<31)
	if err != nil {
		return nil, err
	}
	v, err := s.Registry.Rollback(r.Context(), ns, app, version)
	if err != nil {
		return nil, notFound(err, codeAppNotFound)
	}
	if err := s.Runtime.Deployed(r.Context(), ns, app); err != nil {
		return nil, err
	}
	return appVersion(&v), nil
}

func (s *server) promote(r *http.Request) (any, error) {
	ns, app, err := s.app(r)
	if err != nil {
		return nil, err
	}
	v, err := s.Registry.Promote(r.Context(), ns, app)
	if err != nil {
		return nil, notFound(err, codeAppNotFound)
	}
	if err := s.Runtime.Deployed(r.Context(), ns, app); err != nil {
		return nil, err
	}
	return appVersion(&v), nil
}

func (s *server) appSet(r *http.Request) (any, error) {
	ns, app, err := s.app(r)
	if err != nil {
		return nil, err
	}
	values, err := readPairs(r)
	if err != nil {
		return nil, err
	}
	env, secrets := make(map[string]string), make(map[string]string)
	for key, value := range values {
		if name, ok := strings.CutPrefix(key, "env."); ok {
			env[name] = value
		} else if name, ok := strings.CutPrefix(key, "secret."); ok {
			secrets[name] = value
		} else {
			return nil, fmt.Errorf("%w: there is no key %q: use env.NAME or secret.NAME", registry.ErrBadValue, key)
		}
	}
	return nil, notFound(s.Registry.SetApp(r.Context(), ns, app, env, secrets), codeAppNotFound)
}

func (s *server) appRemove(r *http.Request) (any, error) {
	ns, app, err := s.app(r)
	if err != nil {
		return nil, err
	}
	if err := s.Registry.RemoveApp(r.Context(), ns, app); err != nil {
		return nil, notFound(err, codeAppNotFound)
	}
	s.collect(r)
	return nil, s.Runtime.Deployed(r.Context(), ns, app)
}

// collect removes bundles that no version refers to any more and that are no kept result of a build. That it fails
// costs space and not the call.
func (s *server) collect(r *http.Request) {
	used, err := s.Registry.Bundles(r.Context())
	if err == nil {
		_, _, err = s.Bundles.Collect(func(hash string) bool { return used[hash] || s.Sources != nil && s.Sources.Keeps(hash) })
	}
	if err != nil {
		s.Log.Warn("unused bundles were not removed", slog.Any("error", err))
	}
}

// maxObjects is how many objects one listing gives.
const maxObjects = 1000

func (s *server) objects(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := number(r, "limit", 0, maxObjects)
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = maxObjects
	}
	found, err := s.Registry.Objects(r.Context(), q.Get("namespace"), q.Get("prefix"), limit, q.Get("after"))
	if err != nil {
		return nil, notFound(err, codeNamespaceNotFound)
	}
	all := []Object{}
	for i := range found {
		all = append(all, object(&found[i].Object, found[i].Facets, found[i].StorageBytes))
	}
	return all, nil
}

func object(o *registry.Object, facets int, bytes int64) Object {
	a := address.Address{Namespace: o.Namespace, Object: o.Name}
	return Object{Address: a.String(), Namespace: o.Namespace, Object: o.Name, ID: o.ID, Facets: facets, StorageBytes: bytes, CreatedAt: o.CreatedAt}
}

func (s *server) objectCreate(r *http.Request) (any, error) {
	a, err := objectAddress(r)
	if err != nil {
		return nil, err
	}
	o, err := s.Registry.CreateObject(r.Context(), a.Namespace, a.Object)
	if err != nil {
		return nil, notFound(err, codeNamespaceNotFound)
	}
	return object(o, 0, 0), nil
}

func (s *server) objectRemove(r *http.Request) (any, error) {
	a, err := objectAddress(r)
	if err != nil {
		return nil, err
	}
	if err := s.Runtime.RemoveObject(r.Context(), a.Namespace, a.Object); err != nil {
		return nil, notFound(err, codeNamespaceNotFound)
	}
	return nil, s.Logs.Remove(r.Context(), a)
}

func (s *server) facets(r *http.Request) (any, error) {
	prefix, err := address.Parse(r.URL.Query().Get("address"))
	if err != nil {
		return nil, err
	}
	below, err := s.facetsBelow(r.Context(), prefix)
	if err == nil && len(below) == 0 && prefix.IsFacet() { // a facet that is there is listed itself
		err = s.known(r.Context(), prefix)
	}
	return below, err
}

func (s *server) facetsBelow(ctx context.Context, prefix address.Address) ([]FacetInfo, error) {
	if prefix.Namespace != "" {
		if _, err := s.Registry.Namespace(prefix.Namespace); err != nil {
			return nil, notFound(err, codeNamespaceNotFound)
		}
	}
	all, err := s.Runtime.Facets(ctx, prefix)
	if all == nil {
		all = []FacetInfo{}
	}
	return all, err
}

// noFacet gives the code of what a call to a facet missed: also a namespace may be what is not there.
func (s *server) noFacet(a address.Address, err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		if _, missing := s.Registry.Namespace(a.Namespace); missing != nil {
			return notFound(missing, codeNamespaceNotFound)
		}
	}
	return notFound(err, codeFacetNotFound)
}

func (s *server) facetInspect(r *http.Request) (any, error) {
	a, err := facetAddress(r, "address")
	if err != nil {
		return nil, err
	}
	d, err := s.Runtime.Inspect(r.Context(), a)
	if err != nil {
		return nil, s.noFacet(a, err)
	}
	return d, nil
}

func (s *server) facetUsage(r *http.Request) (any, error) {
	a, err := facetAddress(r, "address")
	if err != nil {
		return nil, err
	}
	u, err := s.Runtime.Usage(r.Context(), a)
	if err != nil {
		return nil, s.noFacet(a, err)
	}
	return u, nil
}

func (s *server) facetAbort(r *http.Request) (any, error) {
	a, err := facetAddress(r, "address")
	if err != nil {
		return nil, err
	}
	return nil, s.noFacet(a, s.Runtime.Abort(r.Context(), a, r.URL.Query().Get("reason")))
}

func (s *server) facetDelete(r *http.Request) (any, error) {
	a, err := facetAddress(r, "address")
	if err != nil {
		return nil, err
	}
	return nil, s.noFacet(a, s.Runtime.Delete(r.Context(), a))
}

func (s *server) facetClone(r *http.Request) (any, error) {
	src, err := facetAddress(r, "src")
	if err != nil {
		return nil, err
	}
	dst, err := facetAddress(r, "dst")
	if err != nil {
		return nil, err
	}
	return nil, s.noFacet(src, s.Runtime.Clone(r.Context(), src, dst))
}

func (s *server) facetAudit(r *http.Request) (any, error) {
	a, err := facetAddress(r, "address")
	if err != nil {
		return nil, err
	}
	on, err := strconv.ParseBool(r.URL.Query().Get("on"))
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "bad_request", "on=%q: true or false is allowed", r.URL.Query().Get("on"))
	}
	return nil, s.noFacet(a, s.Runtime.SetAudit(r.Context(), a, on))
}

// readPairs reads a JSON object of texts.
func readPairs(r *http.Request) (map[string]string, error) {
	var pairs map[string]string
	err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(&pairs)
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return nil, Errorf(http.StatusRequestEntityTooLarge, "body_too_large", "the values are larger than %d bytes together, as they are sent", maxBody)
	}
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "bad_request", "the body must be a JSON object of strings: %v", err)
	}
	return pairs, nil
}

// number reads a parameter; absent is 0.
func number(r *http.Request, key string, lo, hi int) (int, error) {
	text := r.URL.Query().Get(key)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < lo || n > hi {
		return 0, Errorf(http.StatusBadRequest, "bad_request", "%s=%s: a number from %d to %d is allowed", key, text, lo, hi)
	}
	return n, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.Encode(v)
}
