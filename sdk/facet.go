package sdk

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sdk/internal/boot"
	"github.com/facetgateway/fgw/sdk/wire"
)

// Facet is what an instance of an app knows and has. Its methods may be called by many goroutines.
type Facet struct {
	start  *wire.Start
	lookup func(string) (string, bool)
	now    func() time.Time
	log    *slog.Logger
	db     *sql.DB
	kv     *KV

	outside *outside // nil outside a gateway
	egress  *egress  // nil outside a gateway
	starts  starts

	mu       sync.Mutex
	stops    []func(context.Context) // in the order they were given
	exposed  map[string]http.Handler
	services map[string]*http.Transport // by name
	ring     func(context.Context) error
}

// newFacet makes a facet.
func newFacet(c boot.Config) *Facet {
	f := &Facet{start: c.Start, lookup: c.Lookup, now: c.Now, log: slog.New(c.Log)}
	if f.now == nil {
		f.now = time.Now
	}
	f.db = openDB(c.SQL)
	f.kv = &KV{f.db}
	return f
}

// Namespace returns the name of the namespace that the facet lives in.
func (f *Facet) Namespace() string { return f.start.Namespace }

// Object returns the name of the object that the facet is part of: 1 to 256 bytes, of any kind.
func (f *Facet) Object() string { return f.start.Object }

// Name returns the facet's name within its object; it is empty in a supervisor.
func (f *Facet) Name() string { return f.start.Name }

// ID returns the facet's id, which no other facet has.
func (f *Facet) ID() string { return f.start.ID }

// Version returns the version of the app that runs, counted from 1; 0 where
// the code belongs to no app.
func (f *Facet) Version() int { return f.start.Version }

// DB returns the facet's own SQLite database. It is there from the start, pooled, and closed by the SDK.
//
// Columns come into an any as string (TEXT), []byte (BLOB), int64 (INTEGER), float64 (REAL), nil (NULL) and,
// where the column was declared DATE, DATETIME or TIMESTAMP, time.Time. Arguments may be of these types, any integer
// or boolean, time.Time (stored as text, in UTC) and whatever driver.Valuer gives.
//
// A transaction begins to write (BEGIN IMMEDIATE) unless TxOptions.ReadOnly says otherwise, and waits its turn for that with its first
// statement, or in BeginTx itself where the context has a deadline; isolation is
// always serializable. A plain read waits for nobody. Contexts cancel statements, and their deadlines hold. At most 16
// connections are open at once; a statement of the same connection may run while a result is open. A statement that
// reaches a limit fails with an error that matches ErrLimit, and the connection lives on. Errors are *SQLError.
// In a dynamic worker, which has no database, every call fails.
func (f *Facet) DB() *sql.DB { return f.db }

// KV returns the facet's key-value store, kept in the same database.
func (f *Facet) KV() *KV { return f.kv }

// Logger returns a logger for structured records. They carry the id of the request
// whose context is given to InfoContext and its like. It never blocks: records beyond what the
// gateway takes are dropped, counted, and told of.
func (f *Facet) Logger() *slog.Logger { return f.log }

// Now returns the time. In a test it is the time of the test's clock.
func (f *Facet) Now() time.Time { return f.now() }

// Env returns a setting given by the administrator or the supervisor, "" where it is not set.
// Outside a gateway it is the environment variable of that name.
func (f *Facet) Env(name string) string { return f.setting(f.start.Env, name) }

// Secret returns a secret given by the administrator or the supervisor, "" where it is not set.
// Outside a gateway it is the environment variable of that name.
func (f *Facet) Secret(name string) string { return f.setting(f.start.Secrets, name) }

func (f *Facet) setting(in map[string]string, name string) string {
	if v, ok := in[name]; ok || f.lookup == nil {
		return v
	}
	v, _ := f.lookup(name)
	return v
}

// Props decodes what the supervisor gave this instance as JSON into v, a pointer. Without props, v
// is left as it is.
func (f *Facet) Props(v any) error {
	if len(f.start.Props) == 0 {
		return nil
	}
	if err := json.Unmarshal(f.start.Props, v); err != nil {
		return fmt.Errorf("decode the props: %w", err)
	}
	return nil
}

// OnStop has stop called before an idle stop, a deploy or a shutdown, when no request is left. Its context ends when the
// instance is killed, a second later or so. It is not called before a kill or a crash: what must not be lost
// belongs into the database at once. Functions are called in the reverse order of their registration.
func (f *Facet) OnStop(stop func(ctx context.Context)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stops = append(f.stops, stop)
}

// stop runs the functions given to OnStop, until the context ends.
func (f *Facet) stop(ctx context.Context) {
	f.mu.Lock()
	stops := f.stops
	f.stops = nil
	f.mu.Unlock()
	for i := len(stops) - 1; i >= 0 && ctx.Err() == nil; i-- {
		f.stopOne(ctx, stops[i])
	}
}

func (f *Facet) stopOne(ctx context.Context, stop func(context.Context)) {
	defer func() {
		if p := recover(); p != nil {
			f.log.ErrorContext(ctx, "panic in OnStop", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	stop(ctx)
}
