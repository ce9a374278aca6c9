// Command troupe is an app for end-to-end tests of supervisors. As the root of an object it
// directs: paths that begin with ~ tell it what its children are and what is to be done with them.
// As a child it plays, and where it may have children it directs, too. So a tree of any depth is
// one program, and what a test wants of it stands in the test.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

// edition is set by the linker, so that two bundles differ.
var edition string

// shared is what facets of the same code would have in common if they shared a process.
var shared atomic.Int64

func main() { sdk.Serve(start) }

// player is one instance.
type player struct {
	f    *sdk.Facet
	born string // differs from instance to instance
	mem  atomic.Int64

	mu     sync.Mutex
	starts map[string]int           // how often the start function of a child ran; guarded by mu
	doors  map[string]chan struct{} // guarded by mu
	exe    []byte                   // an executable for children; guarded by mu
	kept   [][]byte                 // memory that it keeps; guarded by mu
}

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	p := &player{f: f, born: strconv.FormatInt(time.Now().UnixNano(), 36), starts: map[string]int{}, doors: map[string]chan struct{}{}}
	if err := p.behave(ctx); err != nil {
		return nil, err
	}
	f.Expose("desk", http.HandlerFunc(p.desk))
	f.OnAlarm(p.ring)
	mux := http.NewServeMux()
	p.acts(mux)
	p.data(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) > 1 && r.URL.Path[1] == '~' {
			p.direct(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// schema is made by the first start.
const schema = `CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
CREATE TABLE IF NOT EXISTS rang (at INTEGER NOT NULL)`

// behave does in start what the setting BEHAVE says.
func (p *player) behave(ctx context.Context) error {
	switch how := p.f.Env("BEHAVE"); how {
	case "stateless": // a dynamic worker has no database
		return nil
	case "fail":
		return errors.New("the theatre is closed")
	case "leak":
		return errors.New("no entry with " + p.f.Secret("KEY"))
	case "panic":
		panic("the curtain fell down")
	case "exit":
		fmt.Println("no performance today")
		os.Exit(3)
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "spin":
		for { // uses its core up and says nothing
		}
	case "fork":
		for {
			if _, err := os.StartProcess("/bin/sh", []string{"sh"}, &os.ProcAttr{}); err != nil {
				return fmt.Errorf("fork: %w", err)
			}
		}
	case "spoil": // a migration that fails half way
		tx, err := p.f.DB().BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, `DELETE FROM counter; ALTER TABLE counter ADD COLUMN colour TEXT`); err != nil {
			return err
		}
		return errors.New("the migration met a row that it does not know")
	case "ask": // calls a service before it is ready
		said, err := p.call(ctx, "desk", p.f.Env("ASK"))
		if err != nil {
			return err
		}
		fmt.Println("in start it was told:", said)
	}
	_, err := p.f.DB().ExecContext(ctx, schema)
	return err
}

// ring is the alarm's function. It fails as often as the setting "fails" in its store says.
func (p *player) ring(ctx context.Context) error {
	if _, err := p.f.DB().ExecContext(ctx, `INSERT INTO rang VALUES (?)`, time.Now().UnixMilli()); err != nil {
		return err
	}
	left, err := p.f.KV().Get(ctx, "fails")
	if errors.Is(err, sdk.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(string(left))
	if n == 0 {
		return nil
	}
	if err := p.f.KV().Put(ctx, "fails", []byte(strconv.Itoa(n-1))); err != nil {
		return err
	}
	if n%2 == 0 {
		panic("the alarm clock fell down")
	}
	return errors.New("too tired to get up")
}

// door is a channel that closes when the door is opened: tests decide by it what happens first.
func (p *player) door(name string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.doors[name]
	if c == nil {
		c = make(chan struct{})
		p.doors[name] = c
	}
	return c
}

// open opens a door, once.
func (p *player) open(name string) {
	c := p.door(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// fault is an error as tests read it.
type fault struct{ Code, Message, Stack string }

func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Message: err.Error()}
	if fe, ok := errors.AsType[*sdk.FacetError](err); ok {
		f.Code, f.Message, f.Stack = fe.Code, fe.Message, fe.Stack
	}
	if errors.Is(err, sdk.ErrNoEgress) {
		f.Code = "no_egress"
	}
	return f
}

// answer writes a value, or with status 409 the error.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		v = faultOf(err)
	}
	json.NewEncoder(w).Encode(v)
}

// rows reads a result as JSON can hold it.
func rows(rs *sql.Rows, err error) ([][]any, error) {
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	columns, err := rs.Columns()
	if err != nil {
		return nil, err
	}
	all := [][]any{}
	for rs.Next() {
		row := make([]any, len(columns))
		to := make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		if err := rs.Scan(to...); err != nil {
			return all, err
		}
		all = append(all, row)
	}
	return all, rs.Err()
}
