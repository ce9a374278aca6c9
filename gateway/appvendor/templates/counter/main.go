// A counter: one page, one table. Something small to start from.
package main

import (
	"context"
	"html/template"
	"net/http"

	"github.com/facetgateway/fgw/sdk"
)

func main() { sdk.Serve(start) }

// start runs once per instance, before the first request.
func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	if _, err := f.DB().ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL);
		INSERT OR IGNORE INTO counter VALUES (1, 0)`); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		var n int64
		if err := f.DB().QueryRowContext(r.Context(), `SELECT n FROM counter`).Scan(&n); err != nil {
			fail(f, w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		page.Execute(w, n)
	})
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		if _, err := f.DB().ExecContext(r.Context(), `UPDATE counter SET n = n + 1`); err != nil {
			fail(f, w, r, err)
			return
		}
		http.Redirect(w, r, "./", http.StatusSeeOther)
	})
	return mux, nil
}

func fail(f *sdk.Facet, w http.ResponseWriter, r *http.Request, err error) {
	f.Logger().ErrorContext(r.Context(), "request failed", "error", err)
	http.Error(w, "something went wrong", http.StatusInternalServerError)
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Counter</title>
<style>
	:root { color-scheme: light dark; font: 1.1rem/1.5 system-ui, sans-serif }
	body { display: grid; place-items: center; min-height: 90vh; margin: 0 }
	main { text-align: center }
	output { display: block; font-size: 5rem; font-variant-numeric: tabular-nums }
	button { font: inherit; padding: .5em 1.5em; border-radius: 2em; border: 1px solid; cursor: pointer }
</style>
<main>
	<h1>Counter</h1>
	<output>{{.}}</output>
	<form method="post" action="./"><button autofocus>Count</button></form>
</main>
</html>
`))
