package facet

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/sdk/wire"
)

// handover returns what serves a request that in hands over to a child of its own. The client's
// connection is joined to the child here: no byte of it passes through in's process.
func (in *instance) handover(q *relay.Request, o *relay.Options) func(http.ResponseWriter, *http.Request, string, http.Header) error {
	return func(w http.ResponseWriter, r *http.Request, head string, extra http.Header) error {
		var h wire.Handover
		raw, err := base64.StdEncoding.DecodeString(head)
		if err == nil {
			err = json.Unmarshal(raw, &h)
		}
		name, nameErr := h.Bytes()
		if err != nil || nameErr != nil || !validTarget(h.Method, h.Target) {
			in.kill(problem.FacetProtocol, "an unreadable handover")
			return problem.New(problem.FacetProtocol, "the supervisor's handover can't be read")
		}
		var n *node
		if h.Worker != nil {
			n = in.worker(&callConn{in: in, call: &wire.Call{ID: h.Worker.ID, IdleMS: h.Worker.IdleMS}})
		} else if n, err = in.ownChild(name); err != nil {
			return err
		}
		child := r.WithContext(r.Context())
		child.Method = h.Method
		if !h.Same {
			child.Header = canonical(h.Header)
		}
		// These say how the facet's own answer is framed.
		extra.Del("Content-Length")
		extra.Del("Date")
		to := &relay.Request{Target: h.Target, Prefix: q.Prefix + stripped(q.Target, h.Target), Extra: q.Extra}
		answer := o.Answer
		opts := &relay.Options{BodyLimit: o.BodyLimit, Answer: func(prefix string, head http.Header) {
			for name, values := range extra {
				head[name] = append(head[name], values...)
			}
			if answer != nil {
				answer(prefix, head)
			}
		}}
		return n.serve(w, child, &starter{parent: in, number: h.Start}, to, opts)
	}
}

// canonical spells the names of headers as net/http does: all that looks a name up, or keeps one from passing, relies on it.
func canonical(given map[string][]string) http.Header {
	h := http.Header{}
	for name, values := range given {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	return h
}

// validTarget checks the line that a supervisor wants its child to see.
func validTarget(method, target string) bool {
	if method == "" || len(method) > 32 || !strings.HasPrefix(target, "/") || len(target) > wire.MaxHeadBytes {
		return false
	}
	for _, c := range []byte(method) {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	for _, c := range []byte(target) {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// stripped is what a supervisor took off the front of a request's path before it handed it
// over: what lies before the child's path, if that is how the request's path ends.
func stripped(was, is string) string {
	was, _, _ = strings.Cut(was, "?")
	is, _, _ = strings.Cut(is, "?")
	before, ok := strings.CutSuffix(was, is)
	if !ok {
		return ""
	}
	return before
}
