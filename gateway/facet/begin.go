package facet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/sdk/wire"
)

// askTime is how long a start function may take to say how a child starts.
const askTime = 60 * time.Second

// ask calls the start function of a child and makes a spec of its answer.
func (s *starter) ask(ctx context.Context, n *node) (*Spec, error) {
	if s.stored != nil {
		spec := *s.stored
		spec.Object = s.parent.spec.objectBelow()
		var err error
		if spec.release, err = n.m.retain(n.objectID(), &spec); err != nil {
			return nil, err
		}
		if spec.Egress != nil {
			if spec.Egress, err = newOutlet(&spec.Egress.Grant); err != nil {
				spec.release()
				return nil, err
			}
		}
		return &spec, nil
	}
	p := s.parent
	opening, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	st, err := p.session.Open(opening, wire.StreamEvent)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case opening.Err() != nil:
		return nil, problem.New(problem.FacetTimeout, "its supervisor took no question of the gateway's within %s", askTime)
	case err != nil:
		return nil, problem.New(problem.FacetAborted, "its supervisor has ended")
	}
	defer st.Close()
	undo := context.AfterFunc(ctx, func() { st.SetDeadline(time.Now()) })
	defer undo()
	st.SetDeadline(time.Now().Add(askTime))
	r := gated{st, p.gate}
	if err := wire.WriteMessage(st, wire.Event{Event: wire.EventStart, Start: s.number}); err != nil {
		return nil, problem.New(problem.FacetAborted, "its supervisor has ended")
	}
	a, err := wire.ReadStartAnswer(r)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && isTimeout(err):
		return nil, problem.New(problem.FacetTimeout, "its supervisor's start function did not return within %s", askTime)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errStarterGone
	case err != nil:
		p.kill(problem.FacetProtocol, "an unreadable start answer: "+err.Error())
		return nil, problem.New(problem.FacetProtocol, "its supervisor's start answer can't be read")
	}
	if a.Error != nil {
		if a.Error.Code == codeStartGone {
			return nil, errStarterGone
		}
		return nil, &problem.Error{Code: problem.FacetStart, Message: "its supervisor's start function failed: " + clip(p.hide.hide(a.Error.Message)), Stack: p.hide.hide(a.Error.Stack)}
	}
	return p.spec.derive(ctx, n, a, r)
}

// codeStartGone is the error code with which a facet says that it has no such start function.
const codeStartGone = "start_gone"

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// gated reads from a facet through its output gate.
type gated struct {
	r    sender
	gate func() error
}

func (g gated) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	if gateErr := g.gate(); gateErr != nil {
		return 0, gateErr
	}
	return n, err
}

// maxGiven bounds props, env and secrets together.
const maxGiven = 1 << 20

// derive makes the spec of a child from its parent's and what the parent's start function
// answered; what it needs of the code follows on r.
func (up *Spec) derive(ctx context.Context, n *node, a *wire.StartAnswer, r gated) (*Spec, error) {
	if n.nameless && a.Children {
		return nil, problem.New(problem.BadRequest, "a dynamic worker has no name, and so no place for children: start it without Children, or as a child with a name")
	}
	given := len(a.Props)
	for _, m := range []map[string]string{a.Env, a.Secrets} {
		for k, v := range m {
			given += len(k) + len(v)
		}
	}
	if given > maxGiven {
		return nil, problem.New(problem.BadRequest, "props, env and secrets take %d bytes together; at most %d are allowed", given, maxGiven)
	}
	limits, err := deriveLimits(&up.Limits, &a.Limits)
	if err != nil {
		return nil, err
	}
	rows, err := deriveRows(up.Rows, a.Limits.Rows)
	if err != nil {
		return nil, err
	}
	out, err := newOutlet(a.Egress)
	if err != nil {
		return nil, err
	}
	code, err := n.m.code(ctx, n, &a.Code, r)
	if err != nil {
		return nil, err
	}
	spec := &Spec{Bundle: code.bundle, App: code.app, Version: code.version, release: code.release, Limits: *limits, Rows: rows, Object: up.objectBelow(), Services: a.Services, Egress: out}
	spec.Start = wire.Start{
		Namespace: n.key.namespace, Object: n.key.object, ID: a.ID,
		App: code.app, Version: code.version, Bundle: code.bundle,
		Props: a.Props, Env: a.Env, Secrets: a.Secrets,
		Egress: out != nil, Database: true, Children: a.Children,
		MaxStreams: wire.MaxOwnStreams, MaxSessions: wire.MaxSessions,
	}
	if a.Children {
		spec.Start.MaxStreams = wire.MaxOwnStreamsUp
	}
	for name := range a.Services {
		spec.Start.Services = append(spec.Start.Services, name)
	}
	return spec, nil
}

// A child that is not given a number of processes and threads has a quarter of its supervisor's at the most, and sixteen in any case,
// which is what a Go program needs with room. Of memory the kernel takes from whoever has the most, CPU time it shares; but
// threads that one child has taken its siblings lack, and a Go program that gets no thread ends.
const (
	partOfProcesses = 4
	leastProcesses  = 16
)

// deriveLimits are a child's limits: what is asked for, never above its parent's own. What bounds the sum of all children
// is not one child's by default, which then would leave nothing to its siblings.
func deriveLimits(own *registry.Limits, asked *wire.Limits) (*registry.Limits, error) {
	l, given, one := *own, *asked, registry.DefaultLimits()
	given.Memory = cmp.Or(given.Memory, min(own.Memory, one.Memory))
	given.CPUMilli = cmp.Or(given.CPUMilli, min(own.CPUMilli, one.CPUMilli))
	given.Processes = cmp.Or(given.Processes, int64(min(own.Processes, one.Processes, max(own.Processes/partOfProcesses, leastProcesses))))
	var err error
	take := func(name string, to *int64, v int64, show func(int64) string) {
		switch {
		case v == 0 || err != nil:
		case v < 0:
			err = problem.New(problem.BadRequest, "the limit %s is negative", name)
		case v > *to:
			err = &problem.Error{Code: problem.LimitAboveOwn, Message: fmt.Sprintf("the limit %s=%s is above the supervisor's own, %s", name, show(v), show(*to))}
		default:
			*to = v
		}
	}
	plain := func(n int64) string { return fmt.Sprint(n) }
	span := func(n int64) string { return time.Duration(n).String() }
	take("memory", &l.Memory, given.Memory, sizeText)
	take("storage", &l.Storage, given.Storage, sizeText)
	take("cpu", &l.CPUMilli, given.CPUMilli, registry.FormatCPU)
	processes, inFlight := int64(l.Processes), int64(l.InFlight)
	take("processes", &processes, given.Processes, plain)
	take("in_flight", &inFlight, given.InFlight, plain)
	l.Processes, l.InFlight = int(processes), int(inFlight)
	statement, request := int64(l.StatementTimeout), int64(l.RequestTimeout)
	take("statement_timeout", &statement, given.StatementMS*int64(time.Millisecond), span)
	take("request_timeout", &request, given.RequestMS*int64(time.Millisecond), span)
	l.StatementTimeout, l.RequestTimeout = time.Duration(statement), time.Duration(request)
	if asked.Memory > 0 && asked.Memory < minMemory && err == nil {
		err = problem.New(problem.BadRequest, "the limit memory=%s is below %s, which a Go program needs to start", sizeText(asked.Memory), sizeText(minMemory))
	}
	if asked.Processes > 0 && asked.Processes < minProcesses && err == nil {
		err = problem.New(problem.BadRequest, "the limit processes=%d is below %d, which a Go program needs for its threads", asked.Processes, minProcesses)
	}
	return &l, err
}

// deriveRows is a child's limit of rows, 0 for none.
func deriveRows(own, given int64) (int64, error) {
	switch {
	case given == 0:
		return own, nil
	case given < 0:
		return 0, problem.New(problem.BadRequest, "the limit rows is negative")
	case own > 0 && given > own:
		return 0, &problem.Error{Code: problem.LimitAboveOwn, Message: fmt.Sprintf("the limit rows=%d is above the supervisor's own, %d", given, own)}
	}
	return given, nil
}

// minMemory is the least memory that a Go program starts in, with room for a request.
const minMemory = 16 << 20

// minProcesses is the least that namespaces may have, too: with fewer a Go program ends now and then for want of a thread.
const minProcesses = 8

// code turns what a start function named into a bundle, for the facet n.
func (m *Manager) code(ctx context.Context, n *node, c *wire.Code, r gated) (*taken, error) {
	switch c.Kind {
	case wire.CodeApp:
		var v *registry.Version
		var err error
		if c.Version == 0 {
			v, err = m.Registry.VersionFor(n.key.namespace, c.App, n.key.object)
		} else {
			v, err = m.Registry.VersionOf(ctx, n.key.namespace, c.App, c.Version)
		}
		if err != nil {
			which := "" // the newest
			if c.Version != 0 {
				which = fmt.Sprintf(" of version %d", c.Version)
			}
			return nil, problem.New(problem.AppNotFound, "namespace %s has no app %q%s", n.key.namespace, c.App, which)
		}
		release, err := m.retain("", &Spec{Bundle: v.Bundle, App: v.App})
		return &taken{v.Bundle, v.App, v.Version, release}, err
	case wire.CodeExecutable:
		return m.putExecutable(ctx, n, c, r)
	case wire.CodeSource:
		hash, found, err := m.buildSource(ctx, n.key, c, r)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			return nil, &problem.Error{Code: problem.BuildFailed, Message: "the source does not build: " + diagnosticsText(found)}
		}
		bytes, err := m.Bundles.Pin(hash)
		if errors.Is(err, bundle.ErrNotFound) {
			return nil, &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: "what was built of the source was removed in the same moment, to make room; try again"}
		}
		if err != nil {
			return nil, err
		}
		return m.accept(n.objectID(), hash, bytes)
	}
	return nil, problem.New(problem.BadRequest, "the start function gave no code")
}

// maxShown is how many diagnostics an error's message shows.
const maxShown = 10

func diagnosticsText(found []wire.Diagnostic) string {
	s := ""
	for i, d := range found {
		if i == maxShown {
			return s + fmt.Sprintf("\nand %d more", len(found)-i)
		}
		if i > 0 {
			s += "\n"
		}
		if d.File != "" {
			s += fmt.Sprintf("%s:%d:%d: ", d.File, d.Line, d.Column)
		}
		s += d.Message
	}
	return s
}
