package sdk_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/facetgateway/fgw/sdk"
)

// A whole app: a counter that survives everything.
func ExampleServe() {
	start := func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		_, err := f.DB().ExecContext(ctx, `CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL);
			INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter)`)
		if err != nil {
			return nil, fmt.Errorf("create the counter: %w", err)
		}
		mux := http.NewServeMux()
		mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
			var n int
			if err := f.DB().QueryRowContext(r.Context(), `UPDATE counter SET n = n + 1 RETURNING n`).Scan(&n); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, n)
		})
		return mux, nil
	}
	sdk.Serve(start)
}

var (
	f   *sdk.Facet
	ctx context.Context
)

func ExampleFacet_DB() {
	tx, err := f.DB().BeginTx(ctx, nil) // to write; others wait for their turn
	if err != nil {
		return
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE account SET balance = balance - ? WHERE id = ?`, 10, 1); err != nil {
		return
	}
	if err := tx.Commit(); err != nil {
		return
	}
	rows, err := f.DB().QueryContext(ctx, `SELECT id, balance FROM account`) // waits for nobody
	if err != nil {
		return
	}
	defer rows.Close()
	for rows.Next() {
		var id, balance int
		if err := rows.Scan(&id, &balance); err != nil {
			return
		}
	}
}

func ExampleSQLError() {
	_, err := f.DB().ExecContext(ctx, `INSERT INTO account (id) VALUES (1)`)
	var e *sdk.SQLError
	switch {
	case errors.Is(err, sdk.ErrLimit):
		fmt.Println("too much, too long or too large:", err)
	case errors.As(err, &e) && e.Code == "constraint":
		fmt.Println("there is one already")
	}
}

func ExampleFacetError() {
	err := f.Props(new(int))
	var e *sdk.FacetError
	if errors.As(err, &e) && e.Code == "facet_crashed" {
		fmt.Println(e.Message, e.Stack)
	}
}

func ExampleKV() {
	if err := f.KV().Put(ctx, "theme", []byte("dark")); err != nil {
		return
	}
	theme, err := f.KV().Get(ctx, "theme")
	if errors.Is(err, sdk.ErrNotFound) {
		theme = []byte("light")
	}
	fmt.Printf("%s\n", theme)
}

func ExampleKV_Tx() {
	tx, err := f.DB().BeginTx(ctx, nil)
	if err != nil {
		return
	}
	defer tx.Rollback()
	tx.ExecContext(ctx, `INSERT INTO note (text) VALUES (?)`, "hello")
	f.KV().Tx(tx).Put(ctx, "last", []byte("hello")) // kept or undone with the note
	tx.Commit()
}

func ExampleKV_List() {
	var err error
	for key, value := range f.KV().List(ctx, "user/", &err) {
		fmt.Println(key, len(value))
	}
	if err != nil {
		fmt.Println("not all of them:", err)
	}
}

func ExampleFacet_Logger() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		f.Logger().InfoContext(r.Context(), "page shown", "path", r.URL.Path) // carries the request's id
	})
}

func ExampleFacet_Env() {
	if f.Env("MODE") == "demo" {
		fmt.Println("settings are read-only")
	}
}

func ExampleFacet_Secret() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, key, _ := r.BasicAuth(); key == "" || key != f.Secret("ADMIN_KEY") {
			http.Error(w, "the key is missing or wrong", http.StatusUnauthorized)
		}
	})
}

func ExampleFacet_Props() {
	props := struct {
		Owner string
		Limit int
	}{Limit: 100} // what holds where the supervisor says nothing
	if err := f.Props(&props); err != nil {
		return
	}
	fmt.Println(props.Owner, props.Limit)
}

func ExampleFacet_OnStop() {
	var visits atomic.Int64
	f.OnStop(func(ctx context.Context) {
		f.DB().ExecContext(ctx, `INSERT INTO visits VALUES (?)`, visits.Load()) // what may also be lost
	})
}

func ExampleFacet_Now() {
	f.DB().ExecContext(ctx, `INSERT INTO note (text, created) VALUES (?, ?)`, "hello", f.Now())
}

func ExampleFacet_DB_readOnly() {
	tx, err := f.DB().BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one view of the data, while others write
	if err != nil {
		return
	}
	defer tx.Rollback()
}
