package relay

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// Headers that concern one connection only (RFC 9110 §7.6.1) and never pass.
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// forwarded are the headers that only the gateway may set: what a client sends
// under these names is dropped.
var forwarded = map[string]bool{
	"X-Request-Id": true, "X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true,
	"X-Forwarded-Prefix": true, "Forwarded": true, "Traceparent": true, "Tracestate": true,
}

// reserved is the prefix of headers between the gateway and supervisors.
const reserved = "Fgw-"

// Request is what the gateway says of a request besides the request itself.
type Request struct {
	// Target is the escaped path and query that the facet sees; it begins with "/".
	Target string
	// Prefix is what was cut off the path before Target, escaped; the facet sees it as X-Forwarded-Prefix.
	Prefix string
	// Extra are headers that the gateway adds, one line each: X-Request-Id, X-Forwarded-….
	Extra []Header
	// Hold keeps the body until the facet asks for it.
	Hold bool
}

// Header is one header line.
type Header struct{ Name, Value string }

// connectionTokens are the headers that the Connection header names: hop-by-hop too.
func connectionTokens(h http.Header) map[string]bool {
	lines := h["Connection"]
	if len(lines) == 0 {
		return nil
	}
	named := map[string]bool{}
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if token = textproto.TrimString(token); token != "" {
				named[http.CanonicalHeaderKey(token)] = true
			}
		}
	}
	return named
}

// upgradeType is the protocol that a message asks to switch to, "" for none.
func upgradeType(h http.Header) string {
	if !connectionTokens(h)["Upgrade"] {
		return ""
	}
	return h.Get("Upgrade")
}

// appendHead appends the request's head as the facet gets it. length is the body's, -1 for a
// chunked one.
func appendHead(b []byte, r *http.Request, q *Request, length int64) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, q.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	named := connectionTokens(r.Header)
	for name, values := range r.Header {
		if hopByHop[name] || forwarded[name] || named[name] || name == "Host" || name == "Content-Length" || name == "Expect" || strings.HasPrefix(name, reserved) {
			continue
		}
		for _, v := range values {
			b = appendLine(b, name, v)
		}
	}
	for _, h := range q.Extra {
		b = appendLine(b, h.Name, h.Value)
	}
	if q.Prefix != "" {
		b = appendLine(b, "X-Forwarded-Prefix", q.Prefix)
	}
	if up := upgradeType(r.Header); up != "" {
		b = appendLine(b, "Connection", "Upgrade")
		b = appendLine(b, "Upgrade", up)
	}
	if accepts := r.Header["Te"]; len(accepts) > 0 && strings.Contains(strings.ToLower(strings.Join(accepts, ",")), "trailers") {
		b = append(b, "Te: trailers\r\n"...)
	}
	switch {
	case length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if len(r.Trailer) > 0 {
			names := make([]string, 0, len(r.Trailer))
			for name := range r.Trailer {
				names = append(names, name)
			}
			b = appendLine(b, "Trailer", strings.Join(names, ", "))
		}
	case length > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, length, 10)
		b = append(b, "\r\n"...)
	}
	if q.Hold && length != 0 {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	return append(b, "\r\n"...)
}

// appendLine appends one header line. Names and values come from net/http's parser, or
// from the gateway itself; a line break in one would end the head, so it is dropped all the same.
func appendLine(b []byte, name, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c == '\r' || c == '\n' || c == 0 {
			return b
		}
	}
	if strings.ContainsAny(name, "\r\n: \x00") {
		return b
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// copyHeader copies what may pass of a facet's answer.
func copyHeader(dst, src http.Header) {
	named := connectionTokens(src)
	for name, values := range src {
		if hopByHop[name] || named[name] || name == "X-Request-Id" || strings.HasPrefix(name, reserved) {
			continue
		}
		dst[name] = values
	}
}
