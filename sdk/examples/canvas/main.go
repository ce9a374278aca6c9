// Canvas is a sheet that several people draw on at once. What one draws, the others see while it is drawn, by way of
// server-sent events; strokes are kept in the database. It shows state that is shared by the requests of one
// instance, streams that last, and coming back after a break without losing anything.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

const (
	width, height = 1600, 1000 // of the sheet, in its own units
	colours       = 8
	maxWidth      = 40
	maxPoints     = 400  // of one stroke; the page sends a long line in pieces
	maxStrokes    = 5000 // kept; older ones fade away
	maxBody       = 16 << 10
	queue         = 256 // events that may wait for one slow viewer
	heartbeat     = 20 * time.Second
)

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	_, err := f.DB().ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS stroke (
			id     INTEGER PRIMARY KEY AUTOINCREMENT,
			colour INTEGER NOT NULL,
			width  INTEGER NOT NULL,
			points TEXT NOT NULL
		)`)
	if err != nil {
		return nil, fmt.Errorf("create the table: %w", err)
	}
	s := &sheet{f: f, viewers: map[chan event]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /events", s.watch)
	mux.HandleFunc("POST /strokes", s.draw)
	mux.HandleFunc("POST /clear", s.clear)
	return http.NewCrossOriginProtection().Handler(mux), nil
}

// stroke is a line: points are x, y, x, y …
type stroke struct {
	Colour int   `json:"c"`
	Width  int   `json:"w"`
	Points []int `json:"p"`
}

func (s *stroke) check() error {
	switch n := len(s.Points); {
	case n < 2 || n%2 != 0 || n > 2*maxPoints:
		return fmt.Errorf("a stroke has 1 to %d points", maxPoints)
	case s.Colour < 0 || s.Colour >= colours:
		return fmt.Errorf("colours are 0 to %d", colours-1)
	case s.Width < 1 || s.Width > maxWidth:
		return fmt.Errorf("widths are 1 to %d", maxWidth)
	}
	for i, v := range s.Points {
		if limit := []int{width, height}[i%2]; v < 0 || v > limit {
			return fmt.Errorf("point %d lies outside of the sheet", i/2)
		}
	}
	return nil
}

// event is one server-sent event. Strokes have an id, by which a viewer that comes back says what it has.
type event struct {
	kind string
	id   int64
	data string
}

type sheet struct {
	f *sdk.Facet

	// mu makes storing a stroke and telling of it one step: viewers hear of strokes in the order of their ids,
	// and whoever joins misses none.
	mu      sync.Mutex
	viewers map[chan event]bool
}

// tell gives an event to every viewer. One that does not keep up is let go: its page comes back and catches up. Call
// it with mu held.
func (s *sheet) tell(e event) {
	for v := range s.viewers {
		select {
		case v <- e:
		default:
			delete(s.viewers, v)
			close(v)
		}
	}
}

func (s *sheet) tellPresence() {
	s.tell(event{kind: "presence", data: strconv.Itoa(len(s.viewers))})
}

func (s *sheet) draw(w http.ResponseWriter, r *http.Request) {
	var st stroke
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&st); err != nil {
		http.Error(w, "a stroke is JSON such as {\"c\":0,\"w\":4,\"p\":[10,10,20,30]}", http.StatusBadRequest)
		return
	}
	if err := st.check(); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if err := s.keep(r.Context(), st); err != nil {
		s.fail(w, r, "store a stroke", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// keep stores a stroke and tells of it.
func (s *sheet) keep(ctx context.Context, st stroke) error {
	points, err := json.Marshal(st.Points)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result, err := s.f.DB().ExecContext(ctx, `INSERT INTO stroke (colour, width, points) VALUES (?, ?, ?)`, st.Colour, st.Width, string(points))
	if err != nil {
		return err
	}
	id, err := result.LastInsertId()
	if err != nil {
		return err
	}
	s.tell(strokeEvent(id, st.Colour, st.Width, string(points)))
	if id%100 == 0 {
		_, err = s.f.DB().ExecContext(ctx, `DELETE FROM stroke WHERE id <= ?`, id-maxStrokes)
	}
	return err
}

func strokeEvent(id int64, colour, width int, points string) event {
	return event{"stroke", id, fmt.Sprintf(`{"c":%d,"w":%d,"p":%s}`, colour, width, points)}
}

func (s *sheet) clear(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.f.DB().ExecContext(r.Context(), `DELETE FROM stroke`); err != nil {
		s.fail(w, r, "clear the sheet", err)
		return
	}
	s.tell(event{kind: "clear", data: "{}"})
	w.WriteHeader(http.StatusNoContent)
}

// watch streams what is on the sheet and what is drawn from now on.
func (s *sheet) watch(w http.ResponseWriter, r *http.Request) {
	last, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	viewer, before, err := s.join(r.Context(), last)
	if err != nil {
		s.fail(w, r, "read the sheet", err)
		return
	}
	defer s.leave(viewer)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	for _, e := range before {
		send(w, e)
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		if out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			fmt.Fprint(w, ": still here\n\n")
		case e, ok := <-viewer:
			if !ok {
				return
			}
			send(w, e)
		}
	}
}

func send(w http.ResponseWriter, e event) {
	if e.id != 0 {
		fmt.Fprintf(w, "id: %d\n", e.id)
	}
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.kind, e.data)
}

// join makes a new viewer and returns the events that bring it up to date. A sheet that was cleared since it
// was last here is begun anew.
func (s *sheet) join(ctx context.Context, last int64) (chan event, []event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var before []event
	var known bool
	err := s.f.DB().QueryRowContext(ctx, `SELECT 1 FROM stroke WHERE id = ?`, last).Scan(&known)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, nil, err
	}
	if !known {
		last = 0
		before = append(before, event{kind: "clear", data: "{}"})
	}
	rows, err := s.f.DB().QueryContext(ctx, `SELECT id, colour, width, points FROM stroke WHERE id > ? ORDER BY id`, last)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var colour, width int
		var points string
		if err := rows.Scan(&id, &colour, &width, &points); err != nil {
			return nil, nil, err
		}
		before = append(before, strokeEvent(id, colour, width, points))
	}
	if err := rows.Err(); err != nil {
		return nil, nil, err
	}
	viewer := make(chan event, queue)
	s.viewers[viewer] = true
	s.tellPresence()
	return viewer, before, nil
}

func (s *sheet) leave(viewer chan event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.viewers, viewer)
	s.tellPresence()
}

func (s *sheet) fail(w http.ResponseWriter, r *http.Request, what string, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to hear of it
	}
	s.f.Logger().ErrorContext(r.Context(), what, "error", err)
	if errors.Is(err, sdk.ErrLimit) {
		http.Error(w, "The sheet is full: clear it first.", http.StatusInsufficientStorage)
		return
	}
	http.Error(w, "Something went wrong here. Please try again.", http.StatusInternalServerError)
}

func servePage(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'")
	h.Set("Cache-Control", "no-cache")
	fmt.Fprint(w, page)
}

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Canvas</title>
<style>
:root { color-scheme: light dark; --desk: #e8e4dc; --bar: #fffdf9; --ink: #26221d; --soft: #6b6359; --line: #d6cec1; --accent: #2f5d8c }
@media (prefers-color-scheme: dark) { :root { --desk: #1b1a19; --bar: #282624; --ink: #efe9e0; --soft: #aba294; --line: #413d38; --accent: #8fbdea } }
* { box-sizing: border-box }
html, body { height: 100% }
body { margin: 0; display: grid; grid-template-rows: auto 1fr; background: var(--desk); color: var(--ink); font: 1rem/1.4 system-ui, sans-serif }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.25rem; padding: .6rem 1rem; background: var(--bar); border-bottom: 1px solid var(--line) }
h1 { font-size: 1.1rem; margin: 0 }
fieldset { border: 0; margin: 0; padding: 0; display: flex; gap: .3rem }
legend, .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
fieldset label { display: block; position: relative }
fieldset input { position: absolute; inset: 0; opacity: 0; margin: 0; cursor: pointer }
fieldset span { display: block; width: 1.75rem; height: 1.75rem; border-radius: 50%; background: var(--colour); border: 3px solid var(--bar); box-shadow: 0 0 0 1px var(--line) }
fieldset input:checked + span { box-shadow: 0 0 0 3px var(--accent) }
fieldset input:focus-visible + span { outline: 3px solid var(--accent); outline-offset: 3px }
.size { display: flex; align-items: center; gap: .5rem; color: var(--soft); font-size: .9rem }
.size input { width: 7rem; accent-color: var(--accent) }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line); border-radius: 8px; padding: .3rem .8rem; cursor: pointer }
button:hover { border-color: var(--accent) }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
#here { margin-left: auto; color: var(--soft); font-size: .9rem; display: flex; align-items: center; gap: .5rem }
#here::before { content: ""; width: .6rem; height: .6rem; border-radius: 50%; background: #3c9a5f }
#here.away::before { background: #c08a2c }
main { min-height: 0; padding: .75rem; display: grid; place-items: center; position: relative }
canvas { background: #fff; border-radius: 6px; box-shadow: 0 4px 24px rgb(0 0 0 / .18); touch-action: none; cursor: crosshair; width: min(100%, calc((100dvh - 6rem) * 1.6)); aspect-ratio: 1600 / 1000 }
noscript p { padding: 2rem; text-align: center }
</style>
</head>
<body>
<header>
<h1>Canvas</h1>
<fieldset id="colours"><legend>Colour</legend></fieldset>
<label class="size">Pen <input id="width" type="range" min="1" max="40" value="6"></label>
<button id="clear">Clear for everyone</button>
<span id="here" class="away" role="status">connecting …</span>
</header>
<main>
<canvas id="sheet" width="1600" height="1000" tabindex="0" role="application" aria-label="Shared drawing sheet" aria-describedby="keys"></canvas>
<p id="keys" class="hidden">Draw with a pointer, or with the keyboard: the arrow keys move the pen, the space bar puts it down and lifts it.</p>
<noscript><p>Drawing together needs JavaScript, which is switched off here. Open this app at its own address.</p></noscript>
</main>
<script>
"use strict";
const colours = [["#1d1d1f", "black"], ["#c8372d", "red"], ["#e08a1e", "orange"], ["#3a8f4d", "green"], ["#2b6cb0", "blue"], ["#7d4bb3", "purple"], ["#d0589b", "pink"], ["#ffffff", "white, the eraser"]];
const byId = id => document.getElementById(id);
const sheet = byId("sheet"), pen = sheet.getContext("2d"), here = byId("here");
pen.lineCap = pen.lineJoin = "round";

colours.forEach(([value, name], i) => {
	const label = document.createElement("label"), input = document.createElement("input"), spot = document.createElement("span");
	Object.assign(input, { type: "radio", name: "colour", value: i, checked: i === 0 });
	input.setAttribute("aria-label", name);
	label.title = name;
	spot.style.setProperty("--colour", value);
	label.append(input, spot);
	byId("colours").append(label);
});
const colour = () => +document.querySelector("[name=colour]:checked").value;

function line(s) {
	const p = s.p;
	pen.strokeStyle = colours[s.c][0];
	pen.lineWidth = s.w;
	pen.beginPath();
	pen.moveTo(p[0], p[1]);
	for (let i = 2; i < p.length; i += 2) pen.lineTo(p[i], p[i + 1]);
	if (p.length === 2) pen.lineTo(p[0], p[1]);
	pen.stroke();
}
const blank = () => pen.clearRect(0, 0, 1600, 1000);

// what others draw, and we
const events = new EventSource("events");
events.addEventListener("stroke", e => line(JSON.parse(e.data)));
events.addEventListener("clear", blank);
events.addEventListener("presence", e => {
	here.className = "";
	here.textContent = +e.data === 1 ? "only you are here" : e.data + " people are here";
});
events.onerror = () => { here.className = "away"; here.textContent = "reconnecting …"; };

// Strokes go out one after another, so that they arrive in order.
let sending = Promise.resolve();
function send(s) {
	sending = sending.then(() => fetch("strokes", { method: "POST", body: JSON.stringify(s) })).then(async r => {
		if (!r.ok) { here.className = "away"; here.textContent = await r.text(); }
	}).catch(() => { here.className = "away"; here.textContent = "what you drew was not sent"; });
}

// our own strokes: drawn at once, sent in pieces while they grow
let points = null, timer = 0;
const clamp = (v, max) => Math.min(max, Math.max(0, Math.round(v)));
function at(e) {
	const r = sheet.getBoundingClientRect();
	return [clamp((e.clientX - r.left) * 1600 / r.width, 1600), clamp((e.clientY - r.top) * 1000 / r.height, 1000)];
}
function flush() {
	if (!points || points.length < 2) return;
	send({ c: colour(), w: +byId("width").value, p: points });
	points = points.slice(-2);
}
function begin(x, y) {
	points = [x, y];
	timer = setInterval(() => { if (points.length > 2) flush(); }, 120);
}
function extend(x, y) {
	const n = points.length;
	if (points[n - 2] === x && points[n - 1] === y) return;
	line({ c: colour(), w: +byId("width").value, p: [points[n - 2], points[n - 1], x, y] });
	points.push(x, y);
	if (points.length >= 600) flush();
}
function end(always) {
	if (!points) return;
	clearInterval(timer);
	if (always || points.length > 2) flush();
	points = null;
}
let moved = false;
sheet.addEventListener("pointerdown", e => {
	if (e.button !== 0 || points) return;
	sheet.setPointerCapture(e.pointerId);
	moved = false;
	begin(...at(e));
});
sheet.addEventListener("pointermove", e => {
	if (!points || !sheet.hasPointerCapture(e.pointerId)) return;
	moved = true;
	for (const c of e.getCoalescedEvents?.() || [e]) extend(...at(c));
});
sheet.addEventListener("pointerup", () => end(!moved));
sheet.addEventListener("pointercancel", () => end(false));

// the keyboard
let x = 800, y = 500;
sheet.addEventListener("keydown", e => {
	const step = e.shiftKey ? 50 : 12;
	const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[e.key] || [0, 0];
	if (e.key === " ") points ? end(true) : begin(x, y);
	else if (dx || dy) {
		x = clamp(x + dx, 1600);
		y = clamp(y + dy, 1000);
		if (points) extend(x, y);
	} else return;
	e.preventDefault();
});
sheet.addEventListener("blur", () => end(false));

byId("clear").addEventListener("click", () => {
	if (confirm("Clear the sheet for everyone?")) fetch("clear", { method: "POST" });
});
</script>
</body>
</html>
`
