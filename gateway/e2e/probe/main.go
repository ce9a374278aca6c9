// Command probe is an app for end-to-end tests: it shows what a handler sees,
// and does on request what apps do, the unwise included. The name of the object
// decides how it starts.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

// edition is set by the linker, so that two bundles differ.
var edition string

func main() { sdk.Serve(start) }

// probe is one instance.
type probe struct {
	f     *sdk.Facet
	born  string // differs from instance to instance
	gone  atomic.Int64
	doors doors
}

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	switch {
	case f.Object() == "start-error":
		return nil, errors.New("the shop is closed on Sundays")
	case f.Object() == "start-panic":
		panic("the shelf fell down")
	case f.Object() == "start-hang":
		<-ctx.Done()
		return nil, ctx.Err()
	case strings.HasPrefix(f.Object(), "start-exit"):
		fmt.Println("not today")
		os.Exit(3)
	}
	if err := migrate(ctx, f); err != nil {
		return nil, err
	}
	p := &probe{f: f, born: strconv.FormatInt(time.Now().UnixNano(), 36), doors: newDoors()}
	f.OnStop(func(ctx context.Context) {
		f.DB().ExecContext(ctx, `INSERT INTO stop (born) VALUES (?)`, p.born)
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })
	mux.HandleFunc("/whoami", p.whoami)
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { fmt.Println("so long"); os.Exit(7) })
	mux.HandleFunc("/panic", func(_ http.ResponseWriter, r *http.Request) {
		go panic("a goroutine of its own")
		<-r.Context().Done()
	})
	p.data(mux)
	p.streams(mux)
	return mux, nil
}

// whoami tells what the handler sees.
func (p *probe) whoami(w http.ResponseWriter, r *http.Request) {
	answer(w, map[string]any{
		"namespace": p.f.Namespace(), "object": []byte(p.f.Object()), "facet": p.f.Name(), "version": p.f.Version(),
		"edition": edition, "born": p.born, "method": r.Method, "path": r.URL.EscapedPath(), "query": r.URL.RawQuery,
		"host": r.Host, "headers": r.Header,
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// failed tells an error and its code.
func failed(w http.ResponseWriter, err error) {
	var e *sdk.FacetError
	code := ""
	if errors.As(err, &e) {
		code = e.Code
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	json.NewEncoder(w).Encode(map[string]any{"app_code": code, "app_error": err.Error(), "limit": errors.Is(err, sdk.ErrLimit)})
}
