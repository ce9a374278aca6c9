package main

import (
	"net"
	"net/http"
	"regexp"
	"strings"
)

// appName is what fits in an origin: a label that says its app's name.
var appName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// maxLabel is the length of a DNS label.
const maxLabel = 63

// checkName says why an app can't be called so. The gateway has an origin for any name, "h--" and a hash where the name does not
// fit; but only the gateway can tell it, and only once the app has run. So the studio takes names whose address it can say.
func (s *studio) checkName(name string) error {
	if !appName.MatchString(name) || strings.Contains(name, "--") {
		return badRequest("a name is made of a-z, 0-9 and single hyphens between them, 40 at most")
	}
	if !appName.MatchString(s.f.Object()) || strings.Contains(s.f.Object(), "--") {
		return badRequest("this studio is called %q, which does not fit in the address of an app; open one with a name of a-z, 0-9 and hyphens", s.f.Object())
	}
	if label := name + "--" + s.label(); len(label) > maxLabel {
		return badRequest("the name is too long: %s has %d characters, an address has %d at most", label, len(label), maxLabel)
	}
	if name == "h" {
		return badRequest("an app can't be called h: h-- is how the addresses begin that the gateway makes up")
	}
	return nil
}

// label is the first label of the studio's own origin.
func (s *studio) label() string { return s.f.Object() + "--" + s.f.Namespace() }

// origin is the address of an app as the one who asks reaches it: below the domain, and at the port, that the request
// came to.
func (s *studio) origin(r *http.Request, name string) string {
	host := "localhost"
	if below, ok := strings.CutPrefix(strings.ToLower(r.Host), s.label()+"."); ok {
		host = below
	} else if _, port, err := net.SplitHostPort(r.Host); err == nil {
		host = net.JoinHostPort(host, port) // the path form, by a program
	}
	return scheme(r) + "://" + name + "--" + s.label() + "." + host
}

func scheme(r *http.Request) string {
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https"
	}
	return "http"
}
