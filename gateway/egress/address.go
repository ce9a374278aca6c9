package egress

import (
	"net/netip"
	"slices"
)

// class is a range of addresses that is not the public internet.
type class struct {
	prefix netip.Prefix
	what   string
	never  bool // no connection can be meant, so AllowAddrs doesn't open it
}

// classes are the special ranges (IANA's registries for IPv4 and IPv6, and what follows from
// them). The first that holds an address tells. For IPv6 the list is the other way round besides: only
// 2000::/3 is public at all.
var classes = []class{
	{prefix("0.0.0.0/8"), "this host (RFC 791)", true}, // Linux connects 0.0.0.0 to itself
	{prefix("127.0.0.0/8"), "loopback", false},
	{prefix("10.0.0.0/8"), "private (RFC 1918)", false},
	{prefix("172.16.0.0/12"), "private (RFC 1918)", false},
	{prefix("192.168.0.0/16"), "private (RFC 1918)", false},
	{prefix("100.64.0.0/10"), "shared by carriers (RFC 6598)", false},
	{prefix("169.254.0.0/16"), "link-local", false},
	{prefix("192.0.0.0/24"), "for protocols (RFC 6890)", false},
	{prefix("192.0.2.0/24"), "for documentation", false},
	{prefix("198.51.100.0/24"), "for documentation", false},
	{prefix("203.0.113.0/24"), "for documentation", false},
	{prefix("192.88.99.0/24"), "a 6to4 relay", false},
	{prefix("198.18.0.0/15"), "for benchmarks", false},
	{prefix("224.0.0.0/4"), "multicast", true},
	{prefix("255.255.255.255/32"), "broadcast", true},
	{prefix("240.0.0.0/4"), "reserved", true},

	{prefix("::/128"), "unspecified", true},
	{prefix("::1/128"), "loopback", false},
	{prefix("fe80::/10"), "link-local", false},
	{prefix("fc00::/7"), "private (unique local)", false},
	{prefix("fec0::/10"), "site-local", false},
	{prefix("ff00::/8"), "multicast", true},
	{prefix("64:ff9b:1::/48"), "a local translation to IPv4 (RFC 8215)", false},
	{prefix("2001::/32"), "a Teredo tunnel", false},
	{prefix("2001::/23"), "for protocols (RFC 2928)", false},
	{prefix("2001:db8::/32"), "for documentation", false},
	{prefix("3fff::/20"), "for documentation", false},
	{prefix("2002::/16"), "a 6to4 tunnel", false},
}

// metadata are the addresses at which clouds tell a machine its secrets. One of them looks public.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // most clouds
	netip.MustParseAddr("169.254.170.2"),   // AWS: a container's task
	netip.MustParseAddr("169.254.170.23"),  // AWS: a pod's identity
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd00:ec2::23"),
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

var (
	global6 = prefix("2000::/3")
	nat64   = prefix("64:ff9b::/96")
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// judge says why an address may not be connected to, "" where it may. named: the facet's policy
// names the host, so that the ranges in allow are open to it.
func judge(a netip.Addr, named bool, allow []netip.Prefix) string {
	if !a.IsValid() || a.Zone() != "" {
		return "no address of the internet"
	}
	a = a.Unmap()
	// A translator's address is judged as what it leads to: on a network with IPv6 alone, every
	// host that has only IPv4 resolves to one. Tunnels (6to4, Teredo) are out of use: refused whole.
	to := a
	if nat64.Contains(a) {
		b := a.As16()
		to = netip.AddrFrom4([4]byte(b[12:]))
	}
	listed := func(single bool) bool {
		return named && slices.ContainsFunc(allow, func(p netip.Prefix) bool {
			return (p.Contains(a) || p.Contains(to)) && (!single || p.IsSingleIP())
		})
	}
	if slices.Contains(metadata, to) {
		if listed(true) {
			return ""
		}
		return "a cloud's metadata service"
	}
	for _, c := range classes {
		if !c.prefix.Contains(to) {
			continue
		}
		if !c.never && listed(false) {
			return ""
		}
		return c.what
	}
	if to.Is6() && !global6.Contains(to) && !listed(false) {
		return "not a public address"
	}
	return ""
}

// canonicalPrefixes masks prefixes and writes those of IPv4-mapped addresses as IPv4's, which is
// how judge compares. An invalid one contains nothing and is dropped.
func canonicalPrefixes(in []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range in {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.IsValid() {
			out = append(out, p.Masked())
		}
	}
	return out
}
