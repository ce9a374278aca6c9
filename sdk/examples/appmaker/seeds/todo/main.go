// A to-do list: things to do, ticked off when they are done.
package main

import (
	"context"
	"html/template"
	"net/http"
	"strings"

	"github.com/facetgateway/fgw/sdk"
)

const heading = "To do"

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	_, err := f.DB().ExecContext(ctx, `CREATE TABLE IF NOT EXISTS item (
		id   INTEGER PRIMARY KEY,
		text TEXT NOT NULL,
		done INTEGER NOT NULL DEFAULT 0
	)`)
	if err != nil {
		return nil, err
	}
	l := &list{f}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", l.show)
	mux.HandleFunc("POST /add", l.change(`INSERT INTO item (text) SELECT trim(?) WHERE trim(?1) <> ''`, "text"))
	mux.HandleFunc("POST /tick", l.change(`UPDATE item SET done = NOT done WHERE id = ?`, "id"))
	mux.HandleFunc("POST /clear", l.change(`DELETE FROM item WHERE done`))
	return http.NewCrossOriginProtection().Handler(mux), nil
}

type list struct{ f *sdk.Facet }

type item struct {
	ID   int64
	Text string
	Done bool
}

func (l *list) show(w http.ResponseWriter, r *http.Request) {
	rows, err := l.f.DB().QueryContext(r.Context(), `SELECT id, text, done FROM item ORDER BY done, id`)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer rows.Close()
	var items []item
	left := 0
	for rows.Next() {
		var i item
		if err := rows.Scan(&i.ID, &i.Text, &i.Done); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if !i.Done {
			left++
		}
		items = append(items, i)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	page.Execute(w, map[string]any{"Heading": heading, "Items": items, "Left": left, "Done": len(items) - left})
}

// change answers a form: it runs one statement with the form's fields, and shows the list again.
func (l *list) change(statement string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
		var args []any
		for _, name := range fields {
			args = append(args, strings.ToValidUTF8(r.PostFormValue(name), ""))
		}
		if _, err := l.f.DB().ExecContext(r.Context(), statement, args...); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Heading}}</title>
<style>
:root { color-scheme: light dark; --ink: #22302b; --soft: #6a7a73; --paper: #eef3f0; --card: #fff; --line: #d5dfda; --accent: #1f7a5c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eeea; --soft: #93a59c; --paper: #141b18; --card: #1d2622; --line: #324039; --accent: #5cc79f } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: clamp(1.5rem, 6vw, 4rem) 1.25rem; max-width: 34rem; background: var(--paper); color: var(--ink); font: 1.0625rem/1.5 system-ui, sans-serif }
h1 { margin: 0 0 .25rem; font-size: 2rem; letter-spacing: -.02em }
p { margin: 0 0 1.5rem; color: var(--soft) }
form.add { display: flex; gap: .5rem; margin-bottom: 1.25rem }
input { flex: 1; min-width: 0; font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .65rem .85rem }
button { font: inherit; cursor: pointer; border: 0; border-radius: 10px; padding: .65rem 1.1rem; background: var(--accent); color: var(--card) }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
ul { list-style: none; margin: 0 0 1rem; padding: 0; background: var(--card); border: 1px solid var(--line); border-radius: 14px; overflow: hidden }
li + li { border-top: 1px solid var(--line) }
li button { display: flex; gap: .75rem; width: 100%; padding: .8rem 1rem; border-radius: 0; background: none; color: inherit; text-align: left; overflow-wrap: anywhere }
li button::before { content: ""; flex: none; width: 1.15rem; height: 1.15rem; margin-top: .2rem; border: 2px solid var(--soft); border-radius: 50% }
.done { color: var(--soft); text-decoration: line-through }
.done::before { border-color: var(--accent) !important; background: var(--accent) }
.clear { background: none; color: var(--soft); padding: 0; text-decoration: underline }
</style>
<h1>{{.Heading}}</h1>
<p>{{if .Left}}{{.Left}} left{{else if .Done}}All done.{{else}}Nothing yet.{{end}}</p>
<form class="add" method="post" action="/add">
<input name="text" aria-label="What is there to do?" placeholder="What is there to do?" maxlength="300" required autofocus autocomplete="off">
<button>Add</button>
</form>
{{with .Items}}<ul>{{range .}}
<li><form method="post" action="/tick"><input type="hidden" name="id" value="{{.ID}}"><button aria-pressed="{{.Done}}"{{if .Done}} class="done"{{end}}>{{.Text}}</button></form></li>{{end}}
</ul>{{end}}
{{if .Done}}<form method="post" action="/clear"><button class="clear">Remove what is done</button></form>{{end}}
</html>
`))
