package front

import (
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/sdk/wire"
)

// extra are the headers that the gateway adds to a request.
func extra(r *http.Request, id, child string) []relay.Header {
	h := make([]relay.Header, 0, 8)
	parent, state := trace(r)
	h = append(h, relay.Header{Name: "X-Request-Id", Value: id}, relay.Header{Name: "Traceparent", Value: parent})
	if state != "" {
		h = append(h, relay.Header{Name: "Tracestate", Value: state})
	}
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		h = append(h, relay.Header{Name: "X-Forwarded-For", Value: ip})
	}
	h = append(h, relay.Header{Name: "X-Forwarded-Host", Value: r.Host}, relay.Header{Name: "X-Forwarded-Proto", Value: scheme(r)})
	if child != "" {
		h = append(h, relay.Header{Name: wire.HeaderChild, Value: child})
	}
	return h
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

func query(r *http.Request) string {
	if r.URL.RawQuery == "" && !r.URL.ForceQuery {
		return ""
	}
	return "?" + r.URL.RawQuery
}

// trace continues the client's trace, or begins one (W3C Trace Context, version 00). The state belongs to the client's: it may
// come on several lines, and does not go with a trace that begins here.
func trace(r *http.Request) (parent, state string) {
	if given := r.Header["Traceparent"]; len(given) == 1 && validTrace(given[0]) {
		return given[0], strings.Join(r.Header["Tracestate"], ",")
	}
	var b [24]byte
	random(b[:])
	return "00-" + hex.EncodeToString(b[:16]) + "-" + hex.EncodeToString(b[16:]) + "-01", ""
}

func validTrace(s string) bool {
	if len(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i != 2 && i != 35 && i != 52 && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

// prefixLocation puts what was cut off the path before a Location that is absolute within
// the app; otherwise every redirect would leave it.
func prefixLocation(h http.Header, prefix string) {
	if prefix == "" {
		return
	}
	for _, name := range []string{"Location", "Content-Location"} {
		if to := h.Get(name); strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") && !strings.HasPrefix(to, "/\\") {
			h.Set(name, prefix+to)
		}
	}
}

// originWide are headers that a browser applies to all of an origin, or for longer than the answer: on the shared
// origin one app would clear its neighbours' data, or send their requests and error reports elsewhere.
var originWide = []string{"Set-Cookie", "Clear-Site-Data", "Strict-Transport-Security", "Nel", "Report-To", "Alt-Svc"}

// shapeShared shapes an answer on the origin that all apps share.
func shapeShared(h http.Header) {
	for _, name := range originWide {
		h.Del(name)
	}
	h.Add("Content-Security-Policy", "sandbox")
}

// shapeOwn shapes an answer on an app's own origin. Nothing that a browser applies to the host and what is below it reaches a
// neighbour, since no app's host is below another's; only cookies belong to the domain that all of them share.
func shapeOwn(h http.Header) {
	stripDomains(h)
	keepCookies(h)
}

// keepCookies takes off Clear-Site-Data what would clear the cookies of the apps' common domain: "cookies", and "*", which is everything.
func keepCookies(h http.Header) {
	lines := h["Clear-Site-Data"]
	if len(lines) == 0 {
		return
	}
	var kept []string
	for kind := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if kind = strings.TrimSpace(kind); slices.Contains([]string{`"cache"`, `"storage"`, `"executionContexts"`}, kind) {
			kept = append(kept, kind)
		}
	}
	h.Del("Clear-Site-Data")
	if len(kept) > 0 {
		h.Set("Clear-Site-Data", strings.Join(kept, ", "))
	}
}

// stripDomains takes the Domain attribute off cookies: an app sets cookies for its own
// origin only, never for its neighbours' common domain.
func stripDomains(h http.Header) {
	lines := h["Set-Cookie"]
	for i, line := range lines {
		parts := strings.Split(line, ";")
		kept := parts[:1]
		for _, p := range parts[1:] {
			name, _, _ := strings.Cut(p, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "domain") {
				kept = append(kept, p)
			}
		}
		lines[i] = strings.Join(kept, ";")
	}
}

// WriteProblem writes a problem as the JSON that all of the gateway's errors have.
func WriteProblem(w http.ResponseWriter, id string, p *problem.Error) {
	type body struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Hint      string `json:"hint,omitempty"`
		RequestID string `json:"request_id"`
	}
	h := w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if s := p.RetrySeconds(); s > 0 {
		h.Set("Retry-After", strconv.Itoa(s))
	}
	w.WriteHeader(p.Status())
	json.NewEncoder(w).Encode(map[string]body{"error": {p.Code, p.Message, p.Hint, id}})
}

func quoteHost(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return strconv.Quote(s)
}
