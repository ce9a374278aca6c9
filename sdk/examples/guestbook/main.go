// Guestbook is a page on which visitors leave a few words. It shows what most small apps need: a table, a form that
// checks what it is given, a page that works without scripts, and errors that explain.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/facetgateway/fgw/sdk"
)

const (
	maxName    = 60  // characters
	maxMessage = 800 // characters
	pageSize   = 20  // entries
	maxForm    = 16 << 10
)

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	_, err := f.DB().ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS entry (
			id      INTEGER PRIMARY KEY AUTOINCREMENT,
			name    TEXT NOT NULL,
			message TEXT NOT NULL,
			created DATETIME NOT NULL
		)`)
	if err != nil {
		return nil, fmt.Errorf("create the table: %w", err)
	}
	b := &book{f}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", b.read)
	mux.HandleFunc("POST /{$}", b.sign)
	return http.NewCrossOriginProtection().Handler(mux), nil
}

type book struct{ f *sdk.Facet }

type entry struct {
	ID            int64
	Name, Message string
	Created       time.Time
	Ago           string
	Initial       string
	Hue           uint32
}

// page is what the template shows.
type page struct {
	Entries             []entry
	Total               int
	Older               int64 // entries before this id are on the next page; 0 = none
	First               bool  // the newest entries are shown
	Name, Message       string
	Problem, Field      string // what was wrong with the form, and which field
	MaxName, MaxMessage int
}

func (b *book) read(w http.ResponseWriter, r *http.Request) {
	b.show(w, r, http.StatusOK, page{})
}

func (b *book) sign(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read: it may be too long.", http.StatusBadRequest)
		return
	}
	p := page{Name: clean(r.PostFormValue("name")), Message: clean(r.PostFormValue("message"))}
	if p.Field, p.Problem = check(p.Name, p.Message); p.Problem != "" {
		b.show(w, r, http.StatusUnprocessableEntity, p)
		return
	}
	_, err := b.f.DB().ExecContext(r.Context(), `INSERT INTO entry (name, message, created) VALUES (?, ?, ?)`, p.Name, p.Message, b.f.Now())
	if errors.Is(err, sdk.ErrLimit) {
		p.Problem = "The guestbook is full: nothing more can be stored."
		b.show(w, r, http.StatusInsufficientStorage, p)
		return
	}
	if err != nil {
		b.fail(w, r, "store an entry", err)
		return
	}
	http.Redirect(w, r, "./", http.StatusSeeOther)
}

// clean removes what nobody meant to write: spaces around, control characters, bytes that are no text.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\r\n", "\n")
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' {
			return -1
		}
		return c
	}, s))
}

// check returns the field that is wrong and what is wrong with it.
func check(name, message string) (field, problem string) {
	switch {
	case name == "":
		return "name", "Please tell us your name."
	case utf8.RuneCountInString(name) > maxName:
		return "name", fmt.Sprintf("That name is longer than %d characters.", maxName)
	case strings.ContainsRune(name, '\n'):
		return "name", "A name is one line."
	case message == "":
		return "message", "Please write a few words."
	case utf8.RuneCountInString(message) > maxMessage:
		return "message", fmt.Sprintf("That is longer than %d characters: please shorten it.", maxMessage)
	}
	return "", ""
}

func (b *book) show(w http.ResponseWriter, r *http.Request, status int, p page) {
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64)
	if err := b.fill(r.Context(), &p, before); err != nil {
		b.fail(w, r, "read the entries", err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'")
	h.Set("Cache-Control", "no-cache")
	w.WriteHeader(status)
	if err := view.Execute(w, p); err != nil {
		b.f.Logger().WarnContext(r.Context(), "the page was not sent whole", "error", err)
	}
}

// fill reads one page of entries, those before an id, or the newest ones.
func (b *book) fill(ctx context.Context, p *page, before int64) error {
	p.First, p.MaxName, p.MaxMessage = before <= 0, maxName, maxMessage
	if p.First {
		before = 1<<63 - 1
	}
	tx, err := b.f.DB().BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // count and list belong together
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM entry`).Scan(&p.Total); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT id, name, message, created FROM entry WHERE id < ? ORDER BY id DESC LIMIT ?`, before, pageSize+1)
	if err != nil {
		return err
	}
	defer rows.Close()
	now := b.f.Now()
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.ID, &e.Name, &e.Message, &e.Created); err != nil {
			return err
		}
		if len(p.Entries) == pageSize {
			p.Older = p.Entries[pageSize-1].ID
			break
		}
		e.Ago, e.Initial, e.Hue = ago(now.Sub(e.Created)), initial(e.Name), hue(e.Name)
		p.Entries = append(p.Entries, e)
	}
	return rows.Err()
}

func (b *book) fail(w http.ResponseWriter, r *http.Request, what string, err error) {
	b.f.Logger().ErrorContext(r.Context(), what, "error", err)
	http.Error(w, "Something went wrong here. Please try again.", http.StatusInternalServerError)
}

// ago says how long ago something was.
func ago(d time.Duration) string {
	count := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit + " ago"
		}
		return fmt.Sprintf("%d %ss ago", n, unit)
	}
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return count(d/time.Minute, "minute")
	case d < day:
		return count(d/time.Hour, "hour")
	case d < 30*day:
		return count(d/day, "day")
	case d < 365*day:
		return count(d/(30*day), "month")
	}
	return count(d/(365*day), "year")
}

func initial(name string) string {
	c, _ := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(c))
}

// hue gives each name a colour of its own.
func hue(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(strings.ToLower(name)))
	return h.Sum32() % 360
}

var view = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guestbook</title>
<style>
:root { color-scheme: light dark; --paper: #fbf7ef; --card: #fffdf8; --ink: #2c2620; --soft: #6d6257; --line: #e4dacb; --accent: #9b3d1f; --on-accent: #fff; --bad: #a3141b }
@media (prefers-color-scheme: dark) { :root { --paper: #1d1a17; --card: #272320; --ink: #f1eae0; --soft: #b3a798; --line: #3f3832; --accent: #f0926c; --on-accent: #2a120a; --bad: #ff9c97 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.55 Georgia, "Iowan Old Style", "Times New Roman", serif }
main, header { max-width: 42rem; margin: 0 auto; padding: 0 1.25rem }
header { padding-top: clamp(2rem, 8vw, 4.5rem); text-align: center }
h1 { font-size: clamp(2.2rem, 8vw, 3.4rem); font-weight: 500; letter-spacing: -.02em; line-height: 1.1; margin: 0 }
header p { color: var(--soft); font-style: italic; margin: .5rem 0 2rem }
form, .entry { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.25rem }
form { box-shadow: 0 8px 30px rgb(60 30 10 / .07); display: grid; gap: .9rem; margin-bottom: 2.5rem }
label { display: block; font-size: .9rem; color: var(--soft); margin-bottom: .25rem }
input, textarea { width: 100%; font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 9px; padding: .6rem .75rem }
textarea { min-height: 6rem; resize: vertical }
input[aria-invalid], textarea[aria-invalid] { border-color: var(--bad) }
button { justify-self: start; font: inherit; color: var(--on-accent); background: var(--accent); border: 0; border-radius: 99px; padding: .6rem 1.5rem; cursor: pointer }
button:hover { filter: brightness(1.08) }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
.problem { color: var(--bad); margin: 0 }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem }
.entry { display: grid; grid-template-columns: auto 1fr; gap: .2rem .9rem }
.face { grid-row: span 2; width: 2.6rem; height: 2.6rem; border-radius: 50%; display: grid; place-items: center; font-size: 1.15rem; color: #fff; background: hsl(var(--hue) 42% 40%) }
.by { display: flex; flex-wrap: wrap; gap: 0 .6rem; align-items: baseline; margin: 0 }
.by strong { overflow-wrap: anywhere }
time { color: var(--soft); font-size: .875rem }
.said { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }
.none, nav { text-align: center; color: var(--soft); padding: 1rem 0 }
footer { height: 3rem }
a { color: var(--accent) }
</style>
</head>
<body>
<header>
<h1>Guestbook</h1>
<p>{{if eq .Total 0}}The first page is still empty.{{else if eq .Total 1}}One visitor has signed.{{else}}{{.Total}} visitors have signed.{{end}}</p>
</header>
<main>
<form method="post" action="./" novalidate>
{{if .Problem}}<p class="problem" id="problem" role="alert">{{.Problem}}</p>{{end}}
<div><label for="name">Your name</label>
<input id="name" name="name" maxlength="{{.MaxName}}" autocomplete="name" required value="{{.Name}}"{{if eq .Field "name"}} aria-invalid="true" aria-describedby="problem" autofocus{{end}}></div>
<div><label for="message">A few words</label>
<textarea id="message" name="message" maxlength="{{.MaxMessage}}" required{{if eq .Field "message"}} aria-invalid="true" aria-describedby="problem" autofocus{{end}}>{{.Message}}</textarea></div>
<button>Sign the book</button>
</form>
<section aria-label="Entries">
{{if .Entries}}<ol>
{{range .Entries}}<li class="entry" id="entry-{{.ID}}"><span class="face" style="--hue: {{.Hue}}" aria-hidden="true">{{.Initial}}</span>
<p class="by"><strong>{{.Name}}</strong> <time datetime="{{.Created.Format "2006-01-02T15:04:05Z07:00"}}" title="{{.Created.Format "2 January 2006, 15:04 MST"}}">{{.Ago}}</time></p>
<p class="said">{{.Message}}</p></li>
{{end}}</ol>{{else}}<p class="none">{{if .First}}Nobody has signed yet. Be the first!{{else}}There is nothing older.{{end}}</p>{{end}}
</section>
{{if or .Older (not .First)}}<nav aria-label="Pages">{{if not .First}}<a href="./">Newest</a>{{end}}{{if and .Older (not .First)}} · {{end}}{{if .Older}}<a href="?before={{.Older}}">Older entries</a>{{end}}</nav>{{end}}
</main>
<footer></footer>
</body>
</html>
`))
