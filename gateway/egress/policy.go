package egress

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// maxHosts bounds an allow-list: it is looked through at each request.
const maxHosts = 256

// Policy is what one facet may reach. Its connections are kept in it (see transport), so each
// instance of a facet gets a policy of its own, from ParsePolicy. A nil policy allows nothing.
type Policy struct {
	// Hosts is the allow-list as the supervisor gave it.
	Hosts []string

	rules []rule
	conns atomic.Int64 // connections, open or being opened

	mu   sync.Mutex
	pool *http.Transport // guarded by mu; nil until the first request
}

// rule is one entry of an allow-list.
type rule struct {
	kind ruleKind
	host string     // a name; of a suffix ".example.com"
	addr netip.Addr // of an address
	port uint16     // 0: 80 and 443
}

type ruleKind int

const (
	ruleName ruleKind = iota
	ruleSuffix
	ruleAddr
	ruleAny
)

// match is how a policy allows a target.
type match int

const (
	noMatch match = iota
	// matchPublic is "*": whatever is public. It does not reach the ranges that the administrator
	// opened: a facet gets to a private service by a supervisor that named it, not by one that
	// meant the web.
	matchPublic
	// matchNamed is an entry that names the host or its domain.
	matchNamed
)

// ParsePolicy reads an allow-list. An entry is a name ("api.example.com"), all names below one
// ("*.example.com", without example.com itself), an address ("192.0.2.7", "2001:db8::7") or "*" for
// every public host, each with ":port" where it is not for 80 and 443 (an IPv6 address then
// in brackets). Addresses obey the same rules as those that a name resolves to.
func ParsePolicy(hosts []string) (*Policy, error) {
	if len(hosts) > maxHosts {
		return nil, fmt.Errorf("egress: %d hosts (at most %d)", len(hosts), maxHosts)
	}
	p := &Policy{Hosts: slices.Clone(hosts)}
	for _, h := range hosts {
		r, err := parseRule(h)
		if err != nil {
			return nil, fmt.Errorf("egress host %.80q: %w", h, err)
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

func parseRule(s string) (rule, error) {
	if strings.Contains(s, "://") || strings.ContainsAny(s, "/?#@ ") {
		if _, err := netip.ParsePrefix(s); err == nil {
			return rule{}, fmt.Errorf("a range of addresses: list hosts by name, or single addresses")
		}
		return rule{}, fmt.Errorf("give the host alone, without scheme, user or path")
	}
	var r rule
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && (strings.Count(s, ":") == 1 || s[0] == '[' && s[i-1] == ']') {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || n == 0 {
			return rule{}, fmt.Errorf("port %q is not between 1 and 65535", s[i+1:])
		}
		host, r.port = s[:i], uint16(n)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if addr, err := netip.ParseAddr(inner); !ok || err != nil || !addr.Is6() {
			return rule{}, fmt.Errorf("brackets are for an IPv6 address")
		}
		host = inner
	}
	if host == "*" {
		r.kind = ruleAny
		return r, nil
	}
	domain, wild := strings.CutPrefix(host, "*.")
	if strings.Contains(domain, "*") {
		return rule{}, fmt.Errorf(`"*" stands alone or for the whole beginning, as in "*.example.com"`)
	}
	name, addr, err := parseHost(domain)
	switch {
	case err != nil:
		return rule{}, err
	case addr.IsValid() && wild:
		return rule{}, fmt.Errorf("an address has no names below it")
	case addr.IsValid():
		r.kind, r.addr = ruleAddr, addr
	case wild:
		r.kind, r.host = ruleSuffix, "."+name
	default:
		r.host = name
	}
	return r, nil
}

// match reports how the policy allows t. It resolves nothing.
func (p *Policy) match(t target) match {
	if p == nil {
		return noMatch
	}
	best := noMatch
	for _, r := range p.rules {
		best = max(best, r.match(t))
	}
	return best
}

func (r rule) match(t target) match {
	if r.port != t.port && (r.port != 0 || t.port != 80 && t.port != 443) {
		return noMatch
	}
	named := false
	switch r.kind {
	case ruleAny:
		return matchPublic
	case ruleAddr:
		named = t.addr == r.addr
	case ruleName:
		named = !t.addr.IsValid() && t.host == r.host
	case ruleSuffix:
		named = !t.addr.IsValid() && len(t.host) > len(r.host) && strings.HasSuffix(t.host, r.host)
	}
	if named {
		return matchNamed
	}
	return noMatch
}
