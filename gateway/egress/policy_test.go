package egress

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParsePolicyRefuses(t *testing.T) {
	for host, want := range map[string]string{
		"":                         "it is empty",
		":80":                      "it is empty",
		"*.":                       "it is empty",
		".":                        "it is empty",
		"https://api.example.com":  "without scheme",
		"api.example.com/v1":       "without scheme",
		"user@example.com":         "without scheme",
		"a b.example":              "without scheme",
		"10.0.0.0/8":               "a range of addresses",
		"api.*.com":                "stands alone",
		"*api.example.com":         "stands alone",
		"**":                       "stands alone",
		"*.10.0.0.1":               "no names below",
		"example.com:0":            "not between",
		"example.com:65536":        "not between",
		"example.com:https":        "not between",
		"example.com:":             "not between",
		"[::1":                     "brackets",
		"[10.0.0.1]":               "brackets",
		"[example.com]:80":         "brackets",
		"a..b":                     "empty label",
		".example.com":             "empty label",
		"-a.example":               "hyphen",
		"2130706433":               "a number",
		"0x7f.1":                   "a number",
		"127.1":                    "a number",
		"127.0.0.01":               "a number",
		"fe80::1%eth0":             "zone",
		"exa\x00mple.com":          "does not belong",
		"example。com":              "does not belong",
		"\xff.example":             "not UTF-8",
		strings.Repeat("a", 64):    "63 bytes",
		strings.Repeat("a.", 127):  "", // 253 bytes without its final dot
		strings.Repeat("ab.", 100): "253 bytes",
	} {
		_, err := ParsePolicy([]string{host})
		if want == "" && err == nil {
			continue
		}
		if err == nil || want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("ParsePolicy(%q): %v, want %q", host, err, want)
		}
	}
	if _, err := ParsePolicy(slices.Repeat([]string{"a.example"}, maxHosts+1)); err == nil {
		t.Error("any number of hosts")
	}
}

func TestPolicyMatch(t *testing.T) {
	for _, c := range []struct {
		hosts string // separated by spaces
		url   string
		want  match
	}{
		{"api.example.com", "https://api.example.com/", matchNamed},
		{"api.example.com", "http://api.example.com/", matchNamed},
		{"api.example.com", "https://API.Example.COM./", matchNamed},
		{"API.Example.com.", "https://api.example.com/", matchNamed},
		{"api.example.com", "http://api.example.com:443/", matchNamed},
		{"api.example.com", "https://api.example.com:8443/", noMatch},
		{"api.example.com:8443", "https://api.example.com:8443/", matchNamed},
		{"api.example.com:8443", "https://api.example.com/", noMatch},
		{"api.example.com", "https://example.com/", noMatch},
		{"api.example.com", "https://xapi.example.com/", noMatch},
		{"api.example.com", "https://a.api.example.com/", noMatch},
		{"api.example.com", "https://api.example.com.evil.test/", noMatch},
		{"*.example.com", "https://a.example.com/", matchNamed},
		{"*.example.com", "https://a.b.example.com/", matchNamed},
		{"*.example.com", "https://example.com/", noMatch},
		{"*.example.com", "https://evilexample.com/", noMatch},
		{"*.example.com:81", "http://a.example.com:81/", matchNamed},
		{"*.example.com:81", "http://a.example.com/", noMatch},
		{"*", "https://whatever.test/", matchPublic},
		{"*", "https://8.8.8.8/", matchPublic},
		{"*", "https://whatever.test:81/", noMatch},
		{"*:81", "https://whatever.test:81/", matchPublic},
		{"* db.test", "http://db.test/", matchNamed},
		{"db.test *", "http://db.test/", matchNamed},
		{"10.0.0.1", "http://10.0.0.1/", matchNamed},
		{"10.0.0.1", "http://[::ffff:10.0.0.1]/", matchNamed},
		{"::ffff:10.0.0.1", "http://10.0.0.1/", matchNamed},
		{"10.0.0.1", "http://10.0.0.2/", noMatch},
		{"2001:db8::1", "http://[2001:DB8:0::1]/", matchNamed},
		{"[2001:db8::1]", "http://[2001:db8::1]/", matchNamed},
		{"[2001:db8::1]:8080", "http://[2001:db8::1]:8080/", matchNamed},
		{"[2001:db8::1]:8080", "http://[2001:db8::1]/", noMatch},
		{"bücher.example", "https://BÜCHER.example/", matchNamed},
		{"bücher.example", "https://xn--bcher-kva.example/", matchNamed},
		{"xn--bcher-kva.example", "https://bücher.example/", matchNamed},
		{"localhost", "http://localhost/", matchNamed}, // its address is another question
		{"", "https://api.example.com/", noMatch},
	} {
		p, err := ParsePolicy(strings.Fields(c.hosts))
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		tg, err := parseTarget(u)
		if err != nil {
			t.Fatalf("%s: %v", c.url, err)
		}
		if got := p.match(tg); got != c.want {
			t.Errorf("%s, list %q: %d, want %d", c.url, c.hosts, got, c.want)
		}
	}
	var none *Policy
	if none.match(target{host: "a.example", port: 80}) != noMatch {
		t.Error("no policy allows something")
	}
}

func TestParseTargetRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"/path":                     "absolute form",
		"//host/path":               "absolute form",
		"ftp://example.com/":        "http and https only",
		"file:///etc/passwd":        "absolute form",
		"ws://example.com/":         "http and https only",
		"http://user@example.com/":  "user information",
		"http://a:b@example.com/":   "user information",
		"http://example.com:0/":     "port",
		"http://example.com:99999/": "port",
		"http://2130706433/":        "a number",
		"http://0x7f.1/":            "a number",
		"http://0x7f000001/":        "a number",
		"http://0177.0.0.1/":        "a number",
		"http://0177.0.0.01./":      "a number",
		"http://127.1/":             "a number",
		"http://127.0.0.1./":        "a number",
		"http://127.0.0.1.2/":       "a number",
		"http://1.2.3.256/":         "a number",
		"http://0x/":                "a number",
		"http://[fe80::1%25eth0]/":  "zone",
		"http://a..b/":              "empty label",
		"http://./":                 "empty",
		"http://:80/":               "empty",
		"http://ex%C2%ADample.com/": "does not belong",
		"http://127。0。0。1/":         "does not belong",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if _, err := parseTarget(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
	}
}

func TestTargetForms(t *testing.T) {
	for raw, want := range map[string]string{
		"http://Example.COM./x":       "example.com",
		"https://example.com:443/":    "example.com",
		"https://example.com:80/":     "example.com:80",
		"http://example.com:0080/":    "example.com",
		"http://[::FFFF:127.0.0.1]/":  "127.0.0.1",
		"http://[2001:db8::1]/":       "[2001:db8::1]",
		"https://[2001:db8::1]:8443/": "[2001:db8::1]:8443",
		"http://BÜCHER.example/":      "xn--bcher-kva.example",
		"http://１２７.0.0.x/":           "", // full-width digits make no address
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		tg, err := parseTarget(u)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if want == "" {
			if tg.addr.IsValid() {
				t.Errorf("%s is read as %s", raw, tg.addr)
			}
			continue
		}
		if got := tg.authority(); got != want {
			t.Errorf("%s: host %q, want %q", raw, got, want)
		}
	}
}

func TestPunycode(t *testing.T) {
	for in, want := range map[string]string{
		"bücher":                 "bcher-kva",
		"münchen":                "mnchen-3ya",
		"правда":                 "80aafi6cg",
		"例え":                     "r8jz45g",
		"ドメイン名例":                 "eckwd4c7cu47r2wf",
		"他们为什么不说中文":              "ihqwcrb4cv8a8dqg056pqjye",
		"pročprostěnemluvíčesky": "proprostnemluvesky-uyb24dma41a",
		"ليهمابتكلموشعربي؟":      "egbpdaj6bu4bxfgehfvwxn",
		"почемужеонинеговорятпорусски": "b1abfaaepdrnnbgefbadotcwatmq2g4l",
	} {
		if got := punycode([]rune(in)); got != want {
			t.Errorf("punycode(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"api.example.com", "BÜCHER.example.", "127.0.0.1", "::ffff:1.2.3.4", "0x7f.1", "a..b", "xn--", "\xff", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, addr, err := parseHost(s)
		if err != nil {
			return
		}
		if addr.IsValid() != (host == addr.String()) {
			t.Fatalf("%q: host %q, address %s", s, host, addr)
		}
		again, addr2, err := parseHost(host)
		if err != nil || again != host || addr2 != addr {
			t.Fatalf("%q is %q, which is %q (%v): not canonical", s, host, again, err)
		}
		if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/@?#\\%", r) }) {
			t.Fatalf("%q is %q: not a host", s, host)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{"api.example.com", "*.example.com:8443", "*", "*:81", "[2001:db8::1]:80", "10.0.0.1", "::1", ":", "[", "[]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePolicy([]string{s})
		if err != nil {
			return
		}
		// What was accepted allows nothing outside of it.
		if p.match(target{host: "unlisted.invalid", port: 7}) == matchNamed && !strings.Contains(strings.ToLower(s), "invalid") {
			t.Fatalf("%q names unlisted.invalid", s)
		}
	})
}
