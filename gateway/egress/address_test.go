package egress

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

func TestJudge(t *testing.T) {
	lan := canonicalPrefixes([]netip.Prefix{prefix("10.1.0.0/16"), prefix("fd12::/16"), prefix("169.254.0.0/16"), prefix("::ffff:172.16.0.0/108")})
	opened := []netip.Prefix{prefix("169.254.169.254/32"), prefix("168.63.129.16/32"), prefix("0.0.0.0/0"), prefix("::/0")}
	for _, c := range []struct {
		addr  string
		named bool
		allow []netip.Prefix
		ok    bool
	}{
		{addr: "1.1.1.1", ok: true},
		{addr: "8.8.8.8", ok: true},
		{addr: "100.63.255.255", ok: true},
		{addr: "100.128.0.0", ok: true},
		{addr: "172.15.255.255", ok: true},
		{addr: "172.32.0.0", ok: true},
		{addr: "223.255.255.255", ok: true},
		{addr: "2606:4700::1111", ok: true},
		{addr: "2a00:1450::1", ok: true},
		{addr: "64:ff9b::101:101", ok: true}, // NAT64 of 1.1.1.1
		{addr: "::ffff:1.1.1.1", ok: true},

		{addr: "0.0.0.0"}, {addr: "0.1.2.3"},
		{addr: "10.0.0.1"}, {addr: "10.255.255.255"},
		{addr: "100.64.0.1"}, {addr: "100.127.255.255"},
		{addr: "127.0.0.1"}, {addr: "127.255.255.255"},
		{addr: "169.254.1.1"}, {addr: "169.254.169.254"}, {addr: "169.254.170.2"},
		{addr: "168.63.129.16"}, {addr: "100.100.100.200"},
		{addr: "172.16.0.1"}, {addr: "172.31.255.255"},
		{addr: "192.0.0.1"}, {addr: "192.0.0.192"}, {addr: "192.0.2.1"}, {addr: "192.88.99.1"}, {addr: "192.168.0.1"},
		{addr: "198.18.0.1"}, {addr: "198.19.255.255"}, {addr: "198.51.100.7"}, {addr: "203.0.113.7"},
		{addr: "224.0.0.1"}, {addr: "239.1.1.1"}, {addr: "240.0.0.1"}, {addr: "255.255.255.255"},
		{addr: "::"}, {addr: "::1"}, {addr: "::2"},
		{addr: "::127.0.0.1"}, // IPv4-compatible, long obsolete
		{addr: "::ffff:127.0.0.1"}, {addr: "::ffff:10.0.0.1"}, {addr: "::ffff:0:127.0.0.1"},
		{addr: "64:ff9b::7f00:1"}, {addr: "64:ff9b::a9fe:a9fe"}, {addr: "64:ff9b::a00:1"}, {addr: "64:ff9b:1::101:101"},
		{addr: "100::1"}, {addr: "5f00::1"}, {addr: "4000::1"},
		{addr: "2001::1"}, {addr: "2001:2::1"}, {addr: "2001:10::1"}, {addr: "2001:20::1"}, {addr: "2001:db8::1"},
		{addr: "2002:7f00:1::1"}, {addr: "2002:101:101::1"}, {addr: "3fff::1"},
		{addr: "fc00::1"}, {addr: "fd00:ec2::254"}, {addr: "fd20:ce::254"}, {addr: "fe80::1"}, {addr: "fe80::1%eth0"}, {addr: "fec0::1"}, {addr: "ff02::1"},

		{addr: "10.1.2.3", named: true, allow: lan, ok: true},
		{addr: "::ffff:10.1.2.3", named: true, allow: lan, ok: true},
		{addr: "64:ff9b::a01:203", named: true, allow: lan, ok: true},
		{addr: "172.17.0.1", named: true, allow: lan, ok: true},
		{addr: "fd12::1", named: true, allow: lan, ok: true},
		{addr: "169.254.1.1", named: true, allow: lan, ok: true},
		{addr: "10.1.2.3", allow: lan}, // a host that the policy doesn't name
		{addr: "10.2.0.1", named: true, allow: lan},
		{addr: "127.0.0.1", named: true, allow: lan},
		{addr: "169.254.169.254", named: true, allow: lan}, // by a wide prefix
		{addr: "169.254.169.254", named: true, allow: opened, ok: true},
		{addr: "::ffff:169.254.169.254", named: true, allow: opened, ok: true},
		{addr: "169.254.169.254", allow: opened},
		{addr: "168.63.129.16", named: true, allow: opened, ok: true},
		{addr: "fd00:ec2::254", named: true, allow: opened},
		{addr: "192.168.1.1", named: true, allow: opened, ok: true},
		{addr: "0.0.0.0", named: true, allow: opened},
		{addr: "::", named: true, allow: opened},
		{addr: "ff02::1", named: true, allow: opened},
		{addr: "224.0.0.1", named: true, allow: opened},
		{addr: "4000::1", named: true, allow: opened, ok: true},
	} {
		if why := judge(netip.MustParseAddr(c.addr), c.named, c.allow); (why == "") != c.ok {
			t.Errorf("judge(%s, named %v, %v) = %q", c.addr, c.named, c.allow, why)
		}
	}
	if judge(netip.Addr{}, true, opened) == "" {
		t.Error("no address at all is allowed")
	}
}

// special is what netip knows of addresses that aren't the public internet.
func special(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast() ||
		a.IsMulticast() || a.IsUnspecified() || !a.IsGlobalUnicast()
}

func FuzzJudge(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::", "8.8.8.8", "2606:4700::"} {
		f.Add(netip.MustParseAddr(s).AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		why := judge(a, false, nil)
		if special(a) && why == "" {
			t.Fatalf("%s is special, and allowed", a)
		}
		if why != judge(a.Unmap(), true, nil) {
			t.Fatalf("%s is judged otherwise in its other form", a)
		}
		if a.Is4() {
			var mapped, translated [16]byte
			mapped[10], mapped[11] = 0xff, 0xff
			copy(mapped[12:], b)
			copy(translated[:], []byte{0, 0x64, 0xff, 0x9b})
			copy(translated[12:], b)
			for _, form := range [][16]byte{mapped, translated} {
				if got := judge(netip.AddrFrom16(form), false, nil); got != why {
					t.Fatalf("%s: %q, but %s: %q", a, why, netip.AddrFrom16(form), got)
				}
			}
		}
	})
}

func TestIsThisMachine(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() {
			continue // link-local needs a zone, which judge refuses before
		}
		if !isThisMachine(context.Background(), p.Addr()) {
			t.Errorf("%s is an address of this machine, and isn't known as one", p.Addr())
		}
	}
	// Its packets would leave the machine; a datagram socket that is connected sends none.
	if isThisMachine(context.Background(), netip.MustParseAddr("198.51.100.77")) {
		t.Error("198.51.100.77 is taken for this machine")
	}
}

func BenchmarkJudge(b *testing.B) {
	a := netip.MustParseAddr("2606:4700::1111")
	for b.Loop() {
		if judge(a, false, nil) != "" {
			b.Fatal("refused")
		}
	}
}
