// Package facettest runs an app in a test: its handler behind an HTTP server, with a SQLite database in memory,
// the very engine and rules that a gateway has, and a clock that the test turns. It needs no gateway and no privilege, only the
// program fgw, found as $FGW or on the PATH, which holds the database.
//
//	func TestNote(t *testing.T) {
//		s := facettest.New(t, start)
//		resp, err := s.Client.Get(s.URL + "/")
//		…
//		s.Advance(time.Hour)
//	}
package facettest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk"
	"github.com/facetgateway/fgw/sdk/internal/boot"
	"github.com/facetgateway/fgw/sdk/internal/sqldproc"
	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// stopTime is how long what the app does before it stops may take.
const stopTime = 5 * time.Second

// Server is an app that runs for a test. It ends with the test.
type Server struct {
	URL    string       // of the app, without a slash at the end: http://127.0.0.1:PORT
	Client *http.Client // closed with the server
	Facet  *sdk.Facet   // of the present instance

	t       testing.TB
	start   sdk.StartFunc
	config  boot.Config
	worker  *sqldproc.Proc
	clock   *clock
	http    *httptest.Server
	handler swap
	stop    func()
	ring    func(context.Context) (bool, error) // nil: no function for alarms
}

// Option changes what the app finds.
type Option func(*config)

type config struct {
	start *wire.Start
	now   time.Time
	err   error
}

// WithName sets who the instance is; the default is "test", "object", "app".
func WithName(namespace, object, name string) Option {
	return func(c *config) { c.start.Namespace, c.start.Object, c.start.Name = namespace, object, name }
}

// WithVersion sets the app's version, which is 1 by default.
func WithVersion(n int) Option { return func(c *config) { c.start.Version = n } }

// WithEnv gives the app a setting.
func WithEnv(name, value string) Option {
	return func(c *config) { c.start.Env[name] = value }
}

// WithSecret gives the app a secret.
func WithSecret(name, value string) Option {
	return func(c *config) { c.start.Secrets[name] = value }
}

// WithProps gives the app props: v as JSON.
func WithProps(v any) Option {
	return func(c *config) { c.start.Props, c.err = json.Marshal(v) }
}

// WithTime sets the clock, which otherwise shows 2026-01-01 12:00 UTC.
func WithTime(t time.Time) Option { return func(c *config) { c.now = t } }

// WithoutDatabase makes the app run as a dynamic worker does: every call of its database fails. It needs no program fgw.
func WithoutDatabase() Option { return func(c *config) { c.start.Database = false } }

// New starts the app. Where it does not start, the test ends, with the reason.
func New(t testing.TB, start sdk.StartFunc, opts ...Option) *Server {
	t.Helper()
	s, err := Start(t, start, opts...)
	if err != nil {
		t.Fatal(explain(err))
	}
	return s
}

// Start is New for a test of an app that may fail to start: the error is what start returned, or a
// *sdk.FacetError with the stack of a panic.
func Start(t testing.TB, start sdk.StartFunc, opts ...Option) (*Server, error) {
	t.Helper()
	c := config{
		start: &wire.Start{Namespace: "test", Object: "object", Name: "app", ID: "test", Version: 1, Env: map[string]string{}, Secrets: map[string]string{}, Database: true},
		now:   time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC),
	}
	for _, o := range opts {
		if o(&c); c.err != nil {
			t.Fatalf("facettest: %v", c.err)
		}
	}
	s := &Server{t: t, start: start, clock: &clock{now: c.now}}
	s.config = boot.Config{Start: c.start, Log: newLog(t.Output()), Now: s.clock.Now}
	if c.start.Database {
		s.openDatabase()
	}
	if err := s.boot(); err != nil {
		return nil, s.withWorker(err)
	}
	s.http = httptest.NewServer(&s.handler)
	s.URL, s.Client = s.http.URL, s.http.Client()
	t.Cleanup(func() {
		s.http.CloseClientConnections() // or an open stream of events would hold it up
		s.http.Close()
		s.stop()
	})
	return s, nil
}

// openDatabase starts the worker that holds the database.
func (s *Server) openDatabase() {
	s.t.Helper()
	var err error
	if s.worker, err = sqldproc.Start(""); err != nil {
		s.t.Fatalf("facettest: %v", err)
	}
	if s.config.SQL, err = client.New(s.worker.Channel, 0); err != nil {
		s.t.Fatalf("facettest: %v", err)
	}
	s.t.Cleanup(func() {
		s.config.SQL.Close()
		s.worker.Stop()
	})
}

// boot starts an instance.
func (s *Server) boot() error {
	ctx, cancel := context.WithCancel(context.Background())
	facet, instance, err := sdk.Boot(ctx, s.config, s.start)
	if err != nil {
		cancel()
		return err
	}
	s.Facet = facet
	s.handler.set(instance.Handler)
	s.ring = instance.RingDue
	s.stop = func() {
		bounded, done := context.WithTimeout(ctx, stopTime)
		defer done()
		instance.Stop(bounded)
		cancel()
		facet.DB().Close()
	}
	return nil
}

// withWorker adds what the worker said, where it has ended.
func (s *Server) withWorker(err error) error {
	if s.config.SQL != nil && s.config.SQL.Err() != nil {
		return errors.Join(err, s.worker.Why())
	}
	return err
}

// explain adds a panic's stack.
func explain(err error) string {
	text := "facettest: start: " + err.Error()
	if f, ok := errors.AsType[*sdk.FacetError](err); ok && f.Stack != "" {
		text += "\n\n" + f.Stack
	}
	return text
}

// Restart stops the instance as an idle stop does and starts another one on the same data: what
// it held in memory is gone.
func (s *Server) Restart() {
	s.t.Helper()
	s.handler.set(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "the app is being restarted", http.StatusServiceUnavailable)
	}))
	s.stop()
	if err := s.boot(); err != nil {
		s.t.Fatal(explain(s.withWorker(err)))
	}
}

// Now returns the time of the test's clock.
func (s *Server) Now() time.Time { return s.clock.Now() }

// Advance turns the clock forward. An alarm that is due on the way rings at its time. One that fails is told of in the
// test's log and stays: it rings again with the next Advance.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	until := s.clock.Now().Add(d)
	for s.ring != nil {
		at, err := s.Facet.Alarm().Get(s.t.Context())
		if err != nil || at.After(until) { // none, or none yet
			break
		}
		s.clock.moveTo(at)
		if _, err := s.ring(s.t.Context()); err != nil {
			s.t.Logf("facettest: the alarm failed: %v", err)
			break
		}
	}
	s.clock.moveTo(until)
}

// Get asks for a path, with its query, and returns the answer's status and body.
func (s *Server) Get(path string) (status int, body string) {
	s.t.Helper()
	return s.Do(http.MethodGet, path, "", nil)
}

// Do sends a request and returns the answer's status and body. A redirect is followed.
func (s *Server) Do(method, path, contentType string, body io.Reader) (status int, text string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, body)
	if err != nil {
		s.t.Fatalf("facettest: %v", err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		s.t.Fatalf("facettest: %v", err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, resp.Body); err != nil {
		s.t.Fatalf("facettest: read the answer of %s %s: %v", method, path, err)
	}
	return resp.StatusCode, b.String()
}
