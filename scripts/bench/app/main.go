// Command app is what the benchmarks measure: one small app for every row, so that each side of a comparison runs
// the same code. Inside a gateway it is a facet, or the supervisor of one; outside of it, the variable BENCH_FLOOR makes it one of
// the things that a facet is compared with.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/facetgateway/fgw/sdk"
)

func main() {
	switch floor := os.Getenv("BENCH_FLOOR"); {
	case floor == "":
		sdk.Serve(start)
	case floor == "answer":
		answer(os.NewFile(3, "socket"))
	default:
		serve(floor)
	}
}

// answer is the least that a process can do after it was started: one byte in, one byte out.
func answer(socket *os.File) {
	var b [1]byte
	if _, err := socket.Read(b[:]); err == nil {
		socket.Write(b[:])
	}
}

// serve serves hello without a gateway at "unix PATH" or "tcp ADDR", and says where.
func serve(at string) {
	network, addr, _ := strings.Cut(at, " ")
	l, err := net.Listen(network, addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	http.Serve(l, http.HandlerFunc(hello))
}

func hello(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\n") }

// start makes a supervisor where it runs as one. The app called "table" makes a table before it answers, as most apps do.
func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	if f.Name() == "" {
		return supervisor(f), nil
	}
	if f.Name() == "table" {
		if err := makeTable(ctx, f.DB()); err != nil {
			return nil, err
		}
	}
	d := &data{db: f.DB()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", hello)
	mux.HandleFunc("GET /increment", d.increment)
	mux.HandleFunc("GET /transaction", d.transaction)
	mux.HandleFunc("GET /reads", d.reads)
	mux.HandleFunc("GET /bomb/{kind}", bomb(f))
	return mux, nil
}

// supervisor hands each request over to its child. POST /edit gives the child new code first.
func supervisor(f *sdk.Facet) http.Handler {
	var mu sync.Mutex
	var source string
	child := f.Facets().Get("app", func(context.Context) (*sdk.Start, error) {
		return &sdk.Start{Code: sdk.App("app", 0)}, nil
	})
	edited := f.Facets().Get("edited", func(context.Context) (*sdk.Start, error) {
		mu.Lock()
		defer mu.Unlock()
		return &sdk.Start{Code: sdk.Source(map[string]string{"main.go": source})}, nil
	})
	mux := http.NewServeMux()
	mux.Handle("/", child)
	mux.HandleFunc("POST /edit", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err == nil {
			mu.Lock()
			source = string(text)
			mu.Unlock()
			err = f.Facets().Abort(r.Context(), "edited", "new code")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.Handle("GET /edited", edited)
	return mux
}

func makeTable(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);
		INSERT OR IGNORE INTO counter VALUES (1, 0)`)
	return err
}
