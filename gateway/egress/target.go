package egress

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// target is where a request goes, in the one form in which it is compared, resolved, dialled
// and told to the server: what is judged is what is used.
type target struct {
	scheme string
	host   string     // a name in lower case and ASCII without a final dot, or an address as netip writes it
	addr   netip.Addr // valid where host is an address; never 4in6
	port   uint16
}

// String is for messages: a facet's own words, made canonical.
func (t target) String() string { return t.hostPort() }

func (t target) hostPort() string {
	return net.JoinHostPort(t.host, strconv.Itoa(int(t.port)))
}

// authority is the Host that the server is told: without the scheme's own port.
func (t target) authority() string {
	if t.port == defaultPort(t.scheme) {
		return strings.TrimSuffix(t.hostPort(), ":"+strconv.Itoa(int(t.port)))
	}
	return t.hostPort()
}

func defaultPort(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// parseTarget reads where a request's URL leads. It refuses whatever two readers could take for
// different hosts.
func parseTarget(u *url.URL) (target, error) {
	switch {
	case u.Scheme == "" || u.Host == "":
		return target{}, invalid("an outgoing request names its target in absolute form: http://host/path or https://host/path")
	case u.Scheme != "http" && u.Scheme != "https":
		return target{}, denied("scheme %.20q: egress speaks http and https only", u.Scheme)
	case u.User != nil:
		return target{}, denied("user information in the URL (user@host): send an Authorization header instead")
	case u.Opaque != "":
		return target{}, invalid("the target %.80q is no http URL", u.String())
	}
	t := target{scheme: u.Scheme, port: defaultPort(u.Scheme)}
	var err error
	if t.host, t.addr, err = parseHost(u.Hostname()); err != nil {
		return target{}, denied("host %.80q: %s", u.Hostname(), err)
	}
	if strings.HasPrefix(u.Host, "[") && !t.addr.IsValid() {
		return target{}, denied("host %.80q: not an IPv6 address", u.Host)
	}
	if s := u.Port(); s != "" {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return target{}, denied("port %.20q: not between 1 and 65535", s)
		}
		t.port = uint16(n)
	}
	return t, nil
}

// parseHostPort reads what hostPort wrote, as the transport hands it to the dialler.
func parseHostPort(s string) (target, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return target{}, err
	}
	var t target
	if t.host, t.addr, err = parseHost(host); err != nil {
		return target{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	t.port = uint16(n)
	return t, err
}
