// Package front is the gateway's HTTP side: it decides which facet a request is
// for and whether the request may reach it, hands it to the facet's instance, and
// shapes the answer so that pages of different apps can't reach each other.
//
// There are two forms of address. The path form, /NAMESPACE/OBJECT/FACET/…, is
// for programs: all facets would share one origin there, so a browser's navigation is sent
// to the facet's own origin, and what is answered all the same carries a sandbox
// policy and no cookies. The origin form, FACET--OBJECT--NAMESPACE.localhost, is for browsers.
package front

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/facet"
	"github.com/facetgateway/fgw/gateway/origin"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
)

// Namespaces is what the front needs of the registry.
type Namespaces interface {
	Namespace(name string) (*registry.Namespace, error)
}

// Origins gives the address of an origin that is named by a hash.
type Origins interface {
	Origin(ctx context.Context, label string) (address string, err error)
}

// Facets serves a request for a facet.
type Facets interface {
	Serve(w http.ResponseWriter, r *http.Request, t *facet.Target, q *relay.Request, o *relay.Options) error
}

// Config is what a Front works with.
type Config struct {
	Namespaces Namespaces
	Facets     Facets
	Origins    Origins
	BaseDomain string // besides localhost; "" for none
	Ready      func() bool
	Log        *slog.Logger
}

// Front is the HTTP handler of the gateway's listeners.
type Front struct{ Config }

// New returns a front.
func New(c Config) *Front { return &Front{c} }

// ServeHTTP answers one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID()
	w.Header().Set("X-Request-Id", id)
	if err := f.serve(w, r, id); err != nil {
		f.fail(w, r, id, err)
	}
	if r.ContentLength != 0 && r.Header.Get("Expect") != "" {
		linger(w, r)
	}
}

// lingerTime is how long a client that still sends its body may take to notice the answer: as long as net/http gives it.
const lingerTime = 500 * time.Millisecond

// linger reads on after an answer that came before its request's end. The connection is closed next, and a client that still sends
// would be told that it was reset, which many take for the whole of the answer. net/http does so by itself, but not where the client
// had asked for leave to send its body.
func linger(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if rc.Flush() != nil || rc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	defer rc.SetReadDeadline(time.Time{})
	io.Copy(io.Discard, r.Body)
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request, id string) error {
	kind, label := splitHost(r.Host, f.BaseDomain)
	if kind == hostBad {
		return &problem.Error{Code: problem.BadHost, Message: "this gateway does not answer for the host " + quoteHost(r.Host),
			Hint: "use localhost, an IP address, or a name under --base-domain"}
	}
	if r.Method == http.MethodOptions && r.URL.Path == "*" { // about the server, not an app
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if kind == hostOrigin {
		return f.serveOrigin(w, r, id, label)
	}
	if strings.HasPrefix(r.URL.Path, "/_fgw/") || r.URL.Path == "/_fgw" {
		return f.serveOwn(w, r)
	}
	return f.servePath(w, r, id)
}

// serveOwn answers what is the gateway's own.
func (f *Front) serveOwn(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Path {
	case "/_fgw/healthz":
	case "/_fgw/readyz":
		if !f.Ready() {
			return &problem.Error{Code: problem.Overloaded, Message: "the gateway is not ready"}
		}
	default:
		return problem.New(problem.FacetNotFound, "the gateway has nothing at %s", r.URL.Path)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
	return nil
}

// servePath serves /NAMESPACE/OBJECT/FACET/….
func (f *Front) servePath(w http.ResponseWriter, r *http.Request, id string) error {
	escaped := r.URL.EscapedPath()
	names, _, rest, err := cutPath(escaped, 1)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return &problem.Error{Code: problem.NamespaceNotFound, Message: "an address here is /NAMESPACE/OBJECT/FACET/path", Hint: "fgw namespaces ls shows what there is"}
	}
	ns, err := f.namespace(names[0])
	if err != nil {
		return err
	}
	if err := mayReach(r, ns); err != nil {
		return err
	}
	depth := 2 // object and facet
	if ns.Supervisor != "" {
		depth = 1
	}
	below, _, rest, err := cutPath(rest, depth)
	if err != nil {
		return err
	}
	if len(below) < depth {
		return &problem.Error{Code: problem.FacetNotFound, Message: "an address here is /NAMESPACE/OBJECT" + strings.Repeat("/FACET", depth-1) + "/path"}
	}
	t := &facet.Target{Namespace: ns, Object: below[0], Path: below[1:]}
	name := ""
	if depth == 2 {
		name = below[1]
	}
	prefix := escaped[:len(escaped)-len(rest)]
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		if done, err := f.browser(w, r, site, origin.Label(ns.Name, t.Object, name), rest); done || err != nil {
			return err
		}
	} else if foreignOrigin(r) {
		return errCrossSite
	}
	if rest == "" {
		// Without the slash a page's relative links would leave the app.
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			http.Redirect(w, r, prefix+"/"+query(r), http.StatusPermanentRedirect)
			return nil
		}
		rest = "/"
	}
	return f.relay(w, r, t, id, prefix, rest, "", shapeShared)
}

// browser answers a browser's request to the path form: a navigation goes to the app's own
// origin; what comes from another site is refused.
func (f *Front) browser(w http.ResponseWriter, r *http.Request, site, label, rest string) (done bool, err error) {
	foreign := site == "cross-site" || site == "same-site"
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if r.Header.Get("Sec-Fetch-Mode") == "navigate" && (safe || !foreign) {
		if rest == "" {
			rest = "/"
		}
		domain, port := "localhost", ""
		if f.BaseDomain != "" {
			domain = f.BaseDomain
		}
		if _, p, err := net.SplitHostPort(r.Host); err == nil {
			port = ":" + p
		}
		w.Header().Set("Location", scheme(r)+"://"+label+"."+domain+port+rest+query(r))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true, nil
	}
	if foreign {
		return false, errCrossSite
	}
	return false, nil
}

var errCrossSite = problem.New(problem.CrossSite, "a page of another site may not call the path form of an address; use the app's own origin")

// foreignOrigin reports whether a page of another origin makes the request, as far as a browser says so that sends no Sec-Fetch-Site:
// an old one, and any other where the gateway is reached by plain HTTP under a name that is not localhost. What is no browser
// sends no Origin.
func foreignOrigin(r *http.Request) bool {
	for _, o := range r.Header["Origin"] {
		scheme, host, ok := strings.Cut(o, "://") // "null" has neither
		port := ":80"
		if scheme == "https" {
			port = ":443"
		}
		// An origin leaves its scheme's port out; a Host may name it.
		if !ok || !strings.EqualFold(strings.TrimSuffix(host, port), strings.TrimSuffix(r.Host, port)) {
			return true
		}
	}
	return false
}

// serveOrigin serves a request on an app's own origin.
func (f *Front) serveOrigin(w http.ResponseWriter, r *http.Request, id, label string) error {
	namespace, object, name, ok := origin.Parse(label)
	if !ok && strings.HasPrefix(label, origin.HashPrefix) {
		if text, err := f.Origins.Origin(r.Context(), label); err == nil {
			if a, err := address.Parse(text); err == nil {
				namespace, object, name, ok = a.Namespace, a.Object, a.Facet(), true
			}
		}
	}
	if !ok {
		return &problem.Error{Code: problem.FacetNotFound, Message: "no app has the origin " + label,
			Hint: "an origin is FACET--OBJECT--NAMESPACE.localhost; one made of a hash exists once its object does"}
	}
	ns, err := f.namespace(namespace)
	if err != nil {
		return err
	}
	if err := mayReach(r, ns); err != nil {
		return err
	}
	t := &facet.Target{Namespace: ns, Object: object}
	child := ""
	switch {
	case ns.Supervisor != "":
		child = name // the supervisor sees every request first, and decides
	case name == "":
		return problem.New(problem.FacetNotFound, "namespace %s has no supervisor of its own: an origin there is FACET--OBJECT--NAMESPACE", ns.Name)
	default:
		t.Path = []string{name}
	}
	rest := r.URL.EscapedPath()
	if !strings.HasPrefix(rest, "/") {
		rest = "/"
	}
	return f.relay(w, r, t, id, "", rest, child, shapeOwn)
}

// relay hands the request over to its facet.
func (f *Front) relay(w http.ResponseWriter, r *http.Request, t *facet.Target, id, prefix, rest, child string, answer func(http.Header)) error {
	q := &relay.Request{Target: rest + query(r), Prefix: prefix, Extra: extra(r, id, child)}
	o := &relay.Options{HeadTimeout: t.Namespace.Limits.RequestTimeout, BodyLimit: t.Namespace.Limits.Body}
	o.Answer = func(prefix string, h http.Header) {
		prefixLocation(h, prefix)
		answer(h)
	}
	return f.Facets.Serve(w, r, t, q, o)
}

func (f *Front) namespace(name string) (*registry.Namespace, error) {
	ns, err := f.Namespaces.Namespace(name)
	if err != nil {
		p := problem.New(problem.NamespaceNotFound, "there is no namespace %s", name)
		if address.CheckName(name) == nil { // /favicon.ico is no namespace that could be made
			p.Hint = "fgw namespaces create " + name
		}
		return nil, p
	}
	return ns, nil
}

// mayReach applies the namespace's access policy: a listener that is not loopback
// serves only what is public.
func mayReach(r *http.Request, ns *registry.Namespace) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if ns.Access == "public" || loopback(local) {
		return nil
	}
	only := " is served on this machine's loopback address only"
	if ns.Access == registry.AccessToken {
		only += ": it asks for tokens, which there are none of yet"
	}
	return &problem.Error{Code: problem.AccessDenied, Message: "namespace " + ns.Name + only,
		Hint: "fgw namespaces set " + ns.Name + " access=public"}
}

func loopback(a net.Addr) bool {
	if a == nil {
		return false
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// fail tells the client what went wrong, where that can still be told.
func (f *Front) fail(w http.ResponseWriter, r *http.Request, id string, err error) {
	switch {
	case errors.Is(err, relay.ErrClientGone):
		panic(http.ErrAbortHandler)
	case errors.Is(err, relay.ErrCut):
		f.Log.Debug("answer broke off", "request_id", id, "error", err)
		panic(http.ErrAbortHandler) // so that the client sees that the answer is not whole
	}
	p := problem.As(err)
	if p.Code == problem.Internal {
		f.Log.Error("request failed", "request_id", id, "error", err)
	}
	WriteProblem(w, id, p)
}

// newRequestID makes an id that no other request has. It is no secret, so the runtime's generator will do, which costs
// a hundredth of a call to the kernel's.
func newRequestID() string {
	var b [12]byte
	random(b[:])
	return hex.EncodeToString(b[:])
}

// random fills b, whose length is a multiple of four.
func random(b []byte) {
	for len(b) > 0 {
		binary.BigEndian.PutUint32(b, rand.Uint32())
		b = b[4:]
	}
}
