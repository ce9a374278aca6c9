package facet

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

// acceptStreams takes the streams that the facet opens, until its wire is lost.
func (in *instance) acceptStreams() {
	logging := make(chan struct{}, 1) // at most one log stream
	for {
		st, err := in.mux.AcceptStream()
		if err != nil {
			return
		}
		// wire.Conn counts what the facet holds open; one that it has closed is held here until it is served.
		if n := in.mux.NumStreams(); n > wire.MaxStreams {
			in.kill(problem.FacetProtocol, fmt.Sprintf("%d streams are open, and %d may be", n, wire.MaxStreams))
			return
		}
		go func() {
			if in.bounds.Refused(st.StreamID()) {
				st.SetReadDeadline(time.Now().Add(roomTime))
			}
			kind, err := wire.ReadKind(st)
			if err != nil {
				st.Close()
				return
			}
			if in.bounds.Refused(st.StreamID()) && !(kind == wire.StreamLog && in.bounds.Admit(st.StreamID())) {
				in.refuse(st, kind)
				return
			}
			st.SetReadDeadline(time.Time{})
			if kind == wire.StreamOut {
				in.serveOut(st)
				return
			}
			defer st.Close()
			switch kind {
			case wire.StreamLog:
				select {
				case logging <- struct{}{}:
					in.readLog(st)
					<-logging
				default:
					in.kill(problem.FacetProtocol, "the facet opened a second log stream")
				}
			default:
				in.kill(problem.FacetProtocol, fmt.Sprintf("the facet opened a stream of kind %#x", byte(kind)))
			}
		}()
	}
}

// readLog takes the facet's structured records. The log itself bounds their rate: it
// drops and counts what is over it, and says when they should wait on the wire.
func (in *instance) readLog(st *yamux.Stream) {
	for {
		body, err := wire.ReadMessage(st)
		if errors.Is(err, wire.ErrTooLarge) {
			in.kill(problem.FacetProtocol, "its log stream: "+err.Error())
		}
		if err != nil {
			return
		}
		var r wire.LogRecord
		if err := json.Unmarshal(body, &r); err != nil {
			in.kill(problem.FacetProtocol, "an unreadable log record")
			return
		}
		begin := time.Now()
		line := in.hide.hide(logLine(&r, len(body)))
		rest(cost(begin), in.dead)
		rest(in.output.log.Append(logs.StreamLog, r.RequestID, line), in.dead)
	}
}
