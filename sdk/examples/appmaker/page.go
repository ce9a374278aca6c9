package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

// seed is a little app to start from.
type seed struct{ Name, Title, About, Source string }

var seeds = []seed{
	{Name: "todo", Title: "To-do list", About: "A page with a form and a table behind it."},
	{Name: "mosaic", Title: "Mosaic", About: "Many draw at once and see each other live."},
	{Name: "poll", Title: "Poll", About: "One question, one vote for each visitor."},
}

func (s seed) source() (string, error) {
	text, err := files.ReadFile(path.Join("seeds", s.Name, "main.go"))
	return string(text), err
}

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"size":  size,
	"ago":   ago,
	"cpu":   func(s float64) string { return strconv.FormatFloat(s, 'f', 2, 64) + " s" },
	"lines": func(text string) []struct{} { return make([]struct{}, 1+strings.Count(text, "\n")) },
	"inc":   func(n int) int { return n + 1 },
	"join":  strings.Join,
	"count": func(n int64, one, more string) string {
		if n == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%d %s", n, more)
	},
}).ParseFS(files, "page/*.html"))

// listPage is the studio's first page.
type listPage struct {
	Studio, Origin     string
	Apps               []listedApp
	Number             int64 // of apps
	Seeds              []seed
	Problem            string // what was wrong with the form
	Name, From, Source string // what the form holds
}

type listedApp struct {
	*app
	URL   string
	Facet sdk.FacetInfo
}

func (s *studio) showList(w http.ResponseWriter, r *http.Request) {
	s.renderList(w, r, http.StatusOK, &listPage{From: seeds[0].Name})
}

func (s *studio) renderList(w http.ResponseWriter, r *http.Request, status int, p *listPage) {
	apps, err := s.list(r.Context(), `NOT deleting`)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	facets, err := s.f.Facets().List(r.Context())
	if err != nil && len(apps) > 0 {
		s.fail(w, r, err)
		return
	}
	for _, a := range apps {
		l := listedApp{app: a, URL: s.origin(r, a.Name) + "/", Facet: sdk.FacetInfo{State: "stopped"}}
		if i := slices.IndexFunc(facets, func(f sdk.FacetInfo) bool { return f.Name == a.Name }); i >= 0 {
			l.Facet = facets[i]
		}
		p.Apps = append(p.Apps, l)
	}
	p.Studio, p.Number, p.Seeds = s.f.Object(), int64(len(p.Apps)), seeds
	p.Origin = scheme(r) + "://" + r.Host
	s.render(w, r, status, "list.html", "", p)
}

// create makes an app of the form on the first page.
func (s *studio) create(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r) {
		return
	}
	p := &listPage{Name: strings.TrimSpace(r.PostFormValue("name")), From: r.PostFormValue("from"), Source: textOf(r, "source")}
	source, err := p.Source, error(nil)
	if i := slices.IndexFunc(seeds, func(s seed) bool { return s.Name == p.From }); i >= 0 {
		source, err = seeds[i].source()
	}
	if err == nil && s.has(p.Name) {
		err = badRequest("there is an app %q already", p.Name)
	}
	if err == nil {
		_, err = s.save(r.Context(), p.Name, source, 0)
	}
	if err != nil {
		p.Problem = err.Error()
		s.renderList(w, r, status(err), p)
		return
	}
	http.Redirect(w, r, "/apps/"+p.Name, http.StatusSeeOther)
}

// appPage is the page of one app.
type appPage struct {
	*app
	URL, Origin, Address string
	Usage                *sdk.FacetUsage
	Versions             []version
	Text                 string // what the editor holds
	Problem              string
	Saved                bool
	Memory, Storage      []choice
	RequestTime          []choice
}

func (s *studio) showApp(w http.ResponseWriter, r *http.Request) {
	s.renderApp(w, r, http.StatusOK, r.PathValue("name"), &appPage{Saved: r.URL.Query().Has("saved")})
}

// renderApp shows an app; where something went wrong, with what was written in the editor.
func (s *studio) renderApp(w http.ResponseWriter, r *http.Request, status int, name string, p *appPage) {
	var err error
	if p.app, err = s.app(r.Context(), name); err != nil {
		s.fail(w, r, err)
		return
	}
	if p.Usage, err = s.usage(r.Context(), name); err != nil {
		s.fail(w, r, err)
		return
	}
	if p.Versions, err = s.versions(r.Context(), name); err != nil {
		s.fail(w, r, err)
		return
	}
	if p.Text == "" {
		p.Text = p.Shown()
	}
	p.Origin = s.origin(r, name)
	p.URL, p.Address = p.Origin+"/", s.f.Namespace()+"/"+s.f.Object()+"/"+name
	own := s.f.Limits()
	p.Memory = choices(p.Settings.Memory, own.Memory, size, 32<<20, 64<<20, 128<<20, 512<<20)
	p.Memory[0].Text = "as usual, " + size(min(usualMemory, cmp.Or(own.Memory, usualMemory)))
	p.Storage = choices(p.Settings.Storage, own.Storage, size, 1<<20, 16<<20, 128<<20, 1<<30)
	p.RequestTime = choices(p.Settings.RequestTime, own.RequestTime.Milliseconds(), span, 1000, 5000, 20_000, 60_000)
	s.render(w, r, status, "app.html", p.Origin, p)
}

// choice is one of the values that a form offers.
type choice struct {
	Value  int64
	Text   string
	Chosen bool
}

// choices are the values to choose from: those below most, the studio's own, and the present one.
func choices(now, most int64, show func(int64) string, values ...int64) []choice {
	all := []choice{{0, "as much as the studio", now == 0}}
	if most > 0 {
		all[0].Text += ", " + show(most)
		values = slices.DeleteFunc(values, func(v int64) bool { return v >= most })
	}
	if now != 0 && !slices.Contains(values, now) {
		values = append(values, now)
		slices.Sort(values)
	}
	for _, v := range values {
		all = append(all, choice{v, show(v), v == now})
	}
	return all
}

func (s *studio) postSource(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r) {
		return
	}
	name, p := r.PathValue("name"), &appPage{Text: textOf(r, "source")}
	base, err := baseOf(r.PostFormValue("base"))
	var done *saved
	if err == nil {
		done, err = s.save(r.Context(), name, p.Text, base)
	}
	switch {
	case err != nil:
		p.Problem = err.Error()
		s.renderApp(w, r, status(err), name, p)
	case len(done.Diagnostics) > 0:
		s.renderApp(w, r, http.StatusUnprocessableEntity, name, p)
	default:
		http.Redirect(w, r, "/apps/"+name+"?saved", http.StatusSeeOther)
	}
}

func (s *studio) postSettings(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ctx context.Context, name string) (string, error) {
		to := settings{Egress: hosts(r.PostFormValue("hosts"))}
		for field, into := range map[string]*int64{"memory": &to.Memory, "storage": &to.Storage, "request_time": &to.RequestTime} {
			var err error
			if *into, err = strconv.ParseInt(r.PostFormValue(field), 10, 64); err != nil {
				return "", badRequest("%s is no number", field)
			}
		}
		return "/apps/" + name, s.set(ctx, name, to)
	})
}

func (s *studio) postRollback(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ctx context.Context, name string) (string, error) {
		number, err := strconv.Atoi(r.PostFormValue("version"))
		if err != nil {
			return "", badRequest("that is no version")
		}
		return "/apps/" + name, s.rollback(ctx, name, number)
	})
}

func (s *studio) postClone(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ctx context.Context, name string) (string, error) {
		to := strings.TrimSpace(r.PostFormValue("to"))
		return "/apps/" + to, s.clone(ctx, name, to)
	})
}

func (s *studio) postRestart(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ctx context.Context, name string) (string, error) {
		return "/apps/" + name, s.f.Facets().Abort(ctx, name, "restarted by its owner")
	})
}

func (s *studio) postDelete(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ctx context.Context, name string) (string, error) {
		if r.PostFormValue("sure") != name {
			return "", badRequest("nothing was deleted: to delete %s, type its name", name)
		}
		return "/", s.remove(ctx, name)
	})
}

// act answers a form of an app's page, by what to show next.
func (s *studio) act(w http.ResponseWriter, r *http.Request, do func(ctx context.Context, name string) (next string, err error)) {
	if !s.form(w, r) {
		return
	}
	name := r.PathValue("name")
	next, err := do(r.Context(), name)
	if err != nil {
		s.renderApp(w, r, status(err), name, &appPage{Problem: err.Error()})
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// form reads a form's fields.
func (s *studio) form(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, 3*maxSource+64<<10) // a form's encoding triples some characters
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read: it may be too long.", http.StatusBadRequest)
		return false
	}
	return true
}

// textOf is a text of a form, its lines ended as source code ends them.
func textOf(r *http.Request, field string) string {
	return strings.ReplaceAll(r.PostFormValue(field), "\r\n", "\n")
}

// baseOf reads the version that a source was made from.
func baseOf(text string) (int, error) {
	if text == "" {
		return anyBase, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, badRequest("base is the number of a version")
	}
	return n, nil
}

// usage is what an app has used; nothing where it never ran.
func (s *studio) usage(ctx context.Context, name string) (*sdk.FacetUsage, error) {
	u, err := s.f.Facets().Usage(ctx, name)
	var facet *sdk.FacetError
	if errors.As(err, &facet) && facet.Code == "facet_not_found" {
		return &sdk.FacetUsage{State: "stopped"}, nil
	}
	return u, err
}

// render shows a page. framed is the one origin that the page may show within it.
func (s *studio) render(w http.ResponseWriter, r *http.Request, status int, name, framed string, data any) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, data); err != nil {
		s.fail(w, r, err)
		return
	}
	policy := "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	if framed != "" {
		policy += "; frame-src " + framed
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// fail answers a person where there is no page to show.
func (s *studio) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := status(err)
	if code >= http.StatusInternalServerError {
		s.f.Logger().ErrorContext(r.Context(), "a page failed", "path", r.URL.Path, "error", err)
	}
	http.Error(w, err.Error(), code)
}

// servePageFile serves the pages' own style and script.
func servePageFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}[path.Ext(name)]
	text, err := files.ReadFile(path.Join("page", path.Base(name)))
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(text)
}

// ago says how long ago something was.
func ago(t time.Time) string {
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int(time.Since(t) / unit.of); n == 1 {
			return "1 " + unit.name + " ago"
		} else if n > 1 {
			return fmt.Sprintf("%d %ss ago", n, unit.name)
		}
	}
	return "just now"
}
