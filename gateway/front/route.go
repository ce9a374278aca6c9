package front

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/problem"
)

// hostKind says what the Host header of a request means.
type hostKind int

const (
	hostBad    hostKind = iota // neither ours nor an address: a rebinding attack, or a missing --base-domain
	hostPath                   // the path names the facet
	hostOrigin                 // the host's first label does
)

// splitHost sorts a Host header. A page elsewhere can point a name of its own at this
// machine (DNS rebinding): so only IP literals, localhost, and names under
// localhost or the base domain are answered.
func splitHost(host, baseDomain string) (kind hostKind, label string) {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	literal := strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(literal); err == nil {
		return hostPath, ""
	}
	for _, domain := range []string{"localhost", strings.ToLower(baseDomain)} {
		if domain == "" {
			continue
		}
		if name == domain {
			return hostPath, ""
		}
		if sub, ok := strings.CutSuffix(name, "."+domain); ok && sub != "" {
			if strings.Contains(sub, ".") {
				return hostBad, ""
			}
			return hostOrigin, sub
		}
	}
	return hostBad, ""
}

// cutPath takes the first n parts off an escaped path: their names, the prefix that they
// make (escaped as it came), and the rest, which begins with "/" or is empty.
func cutPath(escaped string, n int) (names []string, prefix, rest string, err error) {
	rest = escaped
	for range n {
		if !strings.HasPrefix(rest, "/") || rest == "/" {
			break
		}
		part := rest[1:]
		if i := strings.IndexByte(part, '/'); i >= 0 {
			part = part[:i]
		}
		name, err := url.PathUnescape(part)
		if err != nil {
			return nil, "", "", problem.New(problem.BadName, "the path has a bad percent-encoding: %s", part)
		}
		if name == "." || name == ".." {
			return nil, "", "", problem.New(problem.BadName, "a part of the path is %q, which clients rewrite: no object or facet can be reached under it", name)
		}
		if err := address.CheckPart(name); err != nil {
			return nil, "", "", problem.New(problem.BadName, "%v", err)
		}
		names = append(names, name)
		rest = rest[1+len(part):]
	}
	return names, escaped[:len(escaped)-len(rest)], rest, nil
}
