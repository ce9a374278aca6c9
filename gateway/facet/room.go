package facet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Streams that facets open take of the gateway's memory what those take that it opens: a window each. They have a budget of
// their own, so that facets which call out without end are refused, and no request of anyone's is.

// ownRoom is how many streams each facet may open whatever the others do, besides its log's, of which there is one. It bounds
// the memory by the number of facets that run.
const ownRoom = 4

// roomTime is how long a facet has to say what a stream is for that is refused, and to take the refusal.
const roomTime = 5 * time.Second

// rooms are one facet's share of the budget. Its methods are not called twice at a time.
type rooms struct {
	budget *relay.Budget
	taken  int
}

func (r *rooms) take() bool {
	if r.taken >= ownRoom && !r.budget.Take() {
		return false
	}
	r.taken++
	return true
}

func (r *rooms) give() {
	if r.taken--; r.taken >= ownRoom {
		r.budget.Give()
	}
}

var errNoStreams = &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: "facets hold as many streams open towards the gateway as its memory has room for; try again"}

// refuse tells the facet that there is no room for a stream which it opened. What it sends on it is thrown away but for the first few
// KB, by which it says what the stream is for.
func (in *instance) refuse(st *yamux.Stream, kind wire.StreamKind) {
	defer st.Close()
	if kind != wire.StreamOut { // a log's, of which something was lost already
		return
	}
	st.SetDeadline(time.Now().Add(roomTime))
	body, err := wire.ReadMessage(st)
	if err != nil {
		return
	}
	var c wire.Call
	if err := json.Unmarshal(body, &c); err != nil {
		in.kill(problem.FacetProtocol, "an unreadable call")
		return
	}
	told := wire.Problem{Code: errNoStreams.Code, Message: errNoStreams.Message}
	if !c.Exchange() {
		err = writeAnswer(st, &wire.Answer{Error: &told})
	} else {
		err = writeRefusal(st, &told)
	}
	if err != nil {
		in.m.Log.Debug("refuse a facet's stream", "facet", in.address(), "error", err)
	}
}

// writeRefusal answers the request that follows a call, before it is read.
func writeRefusal(st *yamux.Stream, p *wire.Problem) error {
	body, err := json.Marshal(map[string]*wire.Problem{"error": p})
	if err != nil {
		return err
	}
	var head strings.Builder
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", errNoStreams.Status(), http.StatusText(errNoStreams.Status()))
	fmt.Fprintf(&head, "%s: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", wire.HeaderError, p.Code, len(body))
	_, err = st.Write(append([]byte(head.String()), body...))
	return err
}
