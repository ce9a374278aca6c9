package egress

import (
	"net/http"
	"net/textproto"
	"strings"
)

// hopByHop are the headers that concern one connection only (RFC 9110 §7.6.1).
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Http2-Settings": true,
}

// inbound are headers by which the gateway tells a facet about its own request. A facet that
// copies a request's headers to an outgoing one would tell the world who its client is.
var inbound = map[string]bool{"Forwarded": true, "Traceparent": true, "Tracestate": true}

// inboundPrefixes likewise; the second is the language between the gateway and facets.
var inboundPrefixes = []string{"X-Forwarded-", "Fgw-"}

func isInbound(name string) bool {
	if inbound[name] {
		return true
	}
	for _, p := range inboundPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// connectionTokens are the headers that Connection names: hop-by-hop too.
func connectionTokens(h http.Header) map[string]bool {
	named := map[string]bool{}
	for _, line := range h["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			if token = textproto.TrimString(token); token != "" {
				named[textproto.CanonicalMIMEHeaderKey(token)] = true
			}
		}
	}
	return named
}

// upgradeWanted is the protocol that a request insists on, "" for none. An offer of HTTP/2 without TLS
// ("h2c", as some clients send with every request) may be passed over (RFC 9110 §7.8), and is.
func upgradeWanted(h http.Header) string {
	up := h.Get("Upgrade")
	if !connectionTokens(h)["Upgrade"] || strings.EqualFold(up, "h2c") {
		return ""
	}
	return up
}

// outgoingHeader is what of a facet's request goes out.
func outgoingHeader(in http.Header) http.Header {
	named := connectionTokens(in)
	out := make(http.Header, len(in)+1)
	for name, values := range in {
		if !hopByHop[name] && !named[name] && !isInbound(name) && name != "Host" && name != "Content-Length" {
			out[name] = values
		}
	}
	if strings.Contains(strings.ToLower(strings.Join(in["Te"], ",")), "trailers") {
		out["Te"] = []string{"trailers"}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // else net/http names itself
	}
	return out
}

// copyAnswer copies what comes back. A server can't say Fgw-Error: that is the gateway's word.
func copyAnswer(dst, src http.Header) {
	named := connectionTokens(src)
	for name, values := range src {
		if !hopByHop[name] && !named[name] && !strings.HasPrefix(name, "Fgw-") {
			dst[name] = values
		}
	}
	for _, name := range []string{"Content-Type", "Date"} {
		if _, ok := dst[name]; !ok {
			dst[name] = nil // else net/http's server adds its own
		}
	}
}

// size is the bytes of a header in HTTP/1.1.
func size(h http.Header) int64 {
	const between = len(": \r\n")
	var n int64
	for name, values := range h {
		for _, v := range values {
			n += int64(len(name) + len(v) + between)
		}
	}
	return n
}
