// A poll: one question, one vote for each visitor, who may change it. The answers can be added to.
package main

import (
	"context"
	"crypto/rand"
	"html/template"
	"net/http"
	"strings"

	"github.com/facetgateway/fgw/sdk"
)

const question = "Where shall we go for lunch?"

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	_, err := f.DB().ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS answer (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
		CREATE TABLE IF NOT EXISTS vote (voter TEXT PRIMARY KEY, answer INTEGER NOT NULL REFERENCES answer (id));
		INSERT INTO answer (text) SELECT column1 FROM (VALUES ('The noodle bar'), ('Something green'), ('We cook here'))
			WHERE NOT EXISTS (SELECT 1 FROM answer)`)
	if err != nil {
		return nil, err
	}
	p := &poll{f}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.show)
	mux.HandleFunc("POST /vote", p.vote)
	mux.HandleFunc("POST /add", p.add)
	return http.NewCrossOriginProtection().Handler(mux), nil
}

type poll struct{ f *sdk.Facet }

type answer struct {
	ID    int64
	Text  string
	Votes int
	Share int // of a hundred
	Mine  bool
}

func (p *poll) show(w http.ResponseWriter, r *http.Request) {
	rows, err := p.f.DB().QueryContext(r.Context(), `
		SELECT id, text, count(voter), coalesce(max(voter = ?), 0) FROM answer LEFT JOIN vote ON answer = id GROUP BY id ORDER BY id`, voter(w, r))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer rows.Close()
	var answers []answer
	total := 0
	for rows.Next() {
		var a answer
		if err := rows.Scan(&a.ID, &a.Text, &a.Votes, &a.Mine); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		total += a.Votes
		answers = append(answers, a)
	}
	for i := range answers {
		answers[i].Share = 100 * answers[i].Votes / max(total, 1)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	page.Execute(w, map[string]any{"Question": question, "Answers": answers, "Total": total})
}

// voter tells visitors apart by a cookie, which only this app's pages get.
func voter(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie("voter"); err == nil && len(c.Value) <= 64 {
		return c.Value
	}
	id := rand.Text()
	http.SetCookie(w, &http.Cookie{Name: "voter", Value: id, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return id
}

func (p *poll) vote(w http.ResponseWriter, r *http.Request) {
	p.change(w, r, `INSERT INTO vote SELECT ?, id FROM answer WHERE id = ? ON CONFLICT DO UPDATE SET answer = excluded.answer`, voter(w, r), r.PostFormValue("answer"))
}

func (p *poll) add(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimSpace(strings.ToValidUTF8(r.PostFormValue("text"), ""))
	if text == "" || len(text) > 200 {
		http.Error(w, "An answer has 1 to 200 characters.", http.StatusBadRequest)
		return
	}
	p.change(w, r, `INSERT INTO answer (text) SELECT ? WHERE (SELECT count(*) FROM answer) < 50 ON CONFLICT DO NOTHING`, text)
}

func (p *poll) change(w http.ResponseWriter, r *http.Request, statement string, args ...any) {
	if _, err := p.f.DB().ExecContext(r.Context(), statement, args...); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Question}}</title>
<style>
:root { color-scheme: light dark; --ink: #33271f; --soft: #81715f; --paper: #fbf5ec; --card: #fff; --line: #eadfce; --bar: #f6d9a8; --accent: #a85b12 }
@media (prefers-color-scheme: dark) { :root { --ink: #f2e9dd; --soft: #ad9c88; --paper: #1b1612; --card: #261f19; --line: #3d3329; --bar: #6a4415; --accent: #f0b060 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: clamp(1.5rem, 6vw, 4rem) 1.25rem; max-width: 34rem; background: var(--paper); color: var(--ink); font: 1.0625rem/1.5 system-ui, sans-serif }
h1 { margin: 0 0 1.25rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em; text-wrap: balance }
form.vote { display: grid; gap: .6rem }
.vote button { position: relative; overflow: hidden; display: flex; justify-content: space-between; gap: 1rem; font: inherit; color: inherit; text-align: left; cursor: pointer; padding: .85rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 12px }
.vote button::before { content: ""; position: absolute; inset: 0 auto 0 0; width: var(--share); background: var(--bar) }
.vote span { position: relative; overflow-wrap: anywhere }
.vote [aria-pressed=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent) }
p { color: var(--soft) }
form.add { display: flex; gap: .5rem }
input { flex: 1; min-width: 0; font: inherit; color: inherit; background: none; border: 0; border-bottom: 1px solid var(--line); padding: .5rem .1rem }
.add button { font: inherit; border: 0; background: none; color: var(--accent); cursor: pointer }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
</style>
<h1>{{.Question}}</h1>
<form class="vote" method="post" action="/vote">{{range .Answers}}
<button name="answer" value="{{.ID}}" aria-pressed="{{.Mine}}" style="--share: {{.Share}}%"><span>{{.Text}}</span><span>{{.Votes}}</span></button>{{end}}
</form>
<p>{{if eq .Total 1}}One vote{{else}}{{.Total}} votes{{end}} so far. You can change yours.</p>
<form class="add" method="post" action="/add"><input name="text" aria-label="Another answer" placeholder="Another answer …" maxlength="200" required autocomplete="off"><button>Add it</button></form>
</html>
`))
