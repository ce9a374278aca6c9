package facet

import (
	"errors"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/relay"
)

// Times that bound an instance's life.
const (
	// answerTime is how long a new process may take to say that it speaks the wire. A Go
	// program does so in 2 ms; a loaded machine may take a hundred times that.
	answerTime = 10 * time.Second
	// startTime is how long an app's start function may run: migrations of old data happen there.
	startTime = 60 * time.Second
	// stopTime is how long an instance has after the stop message (DESIGN §6).
	stopTime = time.Second
	// drainTime is how long an instance may finish its requests when a new version is deployed.
	drainTime = 30 * time.Second
	// killTime is how long the kernel may take to end a killed process before we say so.
	killTime = 5 * time.Second
	// outputTime is how long the output of a process that ended is read on: a descendant
	// could hold the pipe open, but its pid namespace died with it.
	outputTime = 200 * time.Millisecond
	// settled is how long an instance must live for earlier crashes to be forgotten.
	settled = 30 * time.Second
)

// Exit is how an instance ended.
type Exit struct {
	Reason string    `json:"reason"` // idle, deploy, abort, crash, memory, seccomp, start, protocol, timeout, storage
	Detail string    `json:"detail"`
	At     time.Time `json:"at"`
	// code is what requests in flight are told.
	code  string
	stack string
}

// problem is what the requests that an instance took with it are told.
func (e *Exit) problem() *problem.Error {
	return &problem.Error{Code: e.code, Message: e.Detail, Stack: e.stack}
}

// crashed reports whether the end counts as a failure of the facet's own.
func (e *Exit) crashed() bool {
	switch e.Reason {
	case "idle", "deploy", "abort", "shutdown":
		return false
	}
	return true
}

// freeCrashes is how many failures in a row are forgiven at once: a request that
// brings its facet down should cost the next one nothing but a start.
const freeCrashes = 3

// backoff is how long a facet rests after its n-th failure in a row: nothing for the first
// ones, then half a second, doubling to a minute.
func backoff(n int) time.Duration {
	if n <= freeCrashes {
		return 0
	}
	return min(time.Minute, 500*time.Millisecond<<min(n-freeCrashes-1, 10))
}

// crashLine picks the line of a Go program's output that says why it died.
func crashLine(output string) string {
	lines := strings.Split(strings.TrimRight(output, "\n"), "\n")
	for _, line := range lines {
		if isCause(line) {
			return clip(line)
		}
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if s := strings.TrimSpace(lines[i]); s != "" {
			return clip(s)
		}
	}
	return ""
}

// isCause tells the line with which the Go runtime begins to say why it ends the process.
func isCause(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "runtime: ")
}

// clip bounds a line that goes into a message.
func clip(s string) string {
	const most = 500
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// requestTimeOf says whose limit the time for a request is: its supervisor's word, or, where nobody above it asked for less, the namespace's.
func (in *instance) requestTimeOf() string {
	for i := in; i.starter != nil; i = i.starter.parent {
		if i.spec.Limits.RequestTimeout < i.starter.parent.spec.Limits.RequestTimeout {
			return "the limit that its supervisor set (Limits.RequestTime)"
		}
	}
	return "the request_timeout of namespace " + in.key.namespace
}

// explain says what an error of the relay's means for the caller. Where the facet itself
// is at fault it is ended first, and the answer waits until it is reaped, so that the caller is told how it ended.
func (in *instance) explain(err error, o *relay.Options) error {
	if h, ok := errors.AsType[*relay.HandedOver](err); ok {
		p, told := errors.AsType[*problem.Error](h.Err)
		if !told || p.Code != problem.FacetAborted || !in.dying() {
			return h.Err
		}
		err = h.Err // the child ended with its supervisor, of whose end there is more to say
	}
	switch {
	case errors.Is(err, relay.ErrClientGone):
		return err
	case errors.Is(err, relay.ErrBodyTooLarge):
		return &problem.Error{Code: problem.BodyTooLarge, Message: "the request's body is larger than " + sizeText(o.BodyLimit) + ", the namespace's limit (body)"}
	case errors.Is(err, relay.ErrBadBody):
		return &problem.Error{Code: problem.BadRequest, Message: "the request's body is malformed: its chunks are not framed as HTTP/1.1 frames them"}
	case errors.Is(err, relay.ErrOverloaded):
		return &problem.Error{Code: problem.Overloaded, Message: "the gateway holds as many open streams as it may", RetryAfter: time.Second}
	case errors.Is(err, relay.ErrHeadTimeout):
		return &problem.Error{Code: problem.FacetTimeout, Message: "the facet gave no answer within " + registry.FormatDuration(o.HeadTimeout) + ", " + in.requestTimeOf()}
	case errors.Is(err, relay.ErrProtocol):
		in.kill(problem.FacetProtocol, err.Error())
	case errors.Is(err, errSlowRegistry): // nothing is lost, and the next answer tries it again
		in.m.Log.Warn("an answer is withheld: the registry, which notes the facet's alarm, is slow", "facet", in.address())
		if errors.Is(err, relay.ErrCut) {
			return err
		}
		return &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: "the gateway's registry did not note the facet's alarm within " +
			noteTime.String() + ", and nothing that the facet says may leave before; the disk is busy"}
	case errors.Is(err, errNotNoted):
		in.m.Log.Error("note a facet's alarm", "facet", in.address(), "error", err)
		in.kill(problem.DiskFull, "the facet's alarm could not be stored in the registry; the gateway's log says why")
	case errors.Is(err, relay.ErrOutput):
		in.m.Log.Error("sync of a facet's data failed", "facet", in.address(), "error", err)
		in.kill(problem.DiskFull, "what the facet wrote could not be made durable")
	}
	cut := errors.Is(err, relay.ErrCut)
	if !in.dying() {
		if cut {
			return err
		}
		return problem.New(problem.FacetCrashed, "the facet's handler broke off without an answer: it panicked, or gave the connection up; its log says more")
	}
	select {
	case <-in.gone:
	case <-time.After(killTime):
		in.m.Log.Error("a facet that was killed is not gone", "facet", in.address())
	}
	if cut {
		return err
	}
	return in.ended().problem()
}
