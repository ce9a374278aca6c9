// A mosaic that everybody lays together: each tile that one turns is seen by all the others at once.
package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/facetgateway/fgw/sdk"
)

const (
	columns = 16
	rows    = 12
	colours = 8
)

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	_, err := f.DB().ExecContext(ctx, `CREATE TABLE IF NOT EXISTS tile (place INTEGER PRIMARY KEY, colour INTEGER NOT NULL)`)
	if err != nil {
		return nil, err
	}
	m := &mosaic{f: f, watching: map[chan string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, page, columns, rows)
	})
	mux.HandleFunc("GET /events", m.watch)
	mux.HandleFunc("POST /lay", m.lay)
	return http.NewCrossOriginProtection().Handler(mux), nil
}

type mosaic struct {
	f        *sdk.Facet
	mu       sync.Mutex // guards watching, and keeps tiles in the same order for everybody
	watching map[chan string]bool
}

// lay puts a tile down and tells everybody.
func (m *mosaic) lay(w http.ResponseWriter, r *http.Request) {
	place, err := strconv.Atoi(r.URL.Query().Get("place"))
	colour, err2 := strconv.Atoi(r.URL.Query().Get("colour"))
	if err != nil || err2 != nil || place < 0 || place >= columns*rows || colour < 0 || colour >= colours {
		http.Error(w, "no such place or colour", http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err = m.f.DB().ExecContext(r.Context(), `INSERT INTO tile VALUES (?, ?) ON CONFLICT DO UPDATE SET colour = excluded.colour`, place, colour)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	m.tell(fmt.Sprintf("event: tile\ndata: %d %d\n\n", place, colour))
}

// tell sends an event to all who watch. One that can't keep up is cut off; its browser comes back and begins anew.
func (m *mosaic) tell(event string) {
	for c := range m.watching {
		select {
		case c <- event:
		default:
			close(c)
			delete(m.watching, c)
		}
	}
}

// watch sends the tiles that lie, and then each one that is laid.
func (m *mosaic) watch(w http.ResponseWriter, r *http.Request) {
	events := make(chan string, columns*rows+64)
	m.mu.Lock()
	tiles, err := m.f.DB().QueryContext(r.Context(), `SELECT place, colour FROM tile`)
	if err != nil {
		m.mu.Unlock()
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for tiles.Next() {
		var place, colour int
		if tiles.Scan(&place, &colour) == nil && place < columns*rows {
			events <- fmt.Sprintf("event: tile\ndata: %d %d\n\n", place, colour)
		}
	}
	tiles.Close()
	m.watching[events] = true
	m.count()
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watching, events)
		m.count()
	}()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for {
		select {
		case <-r.Context().Done():
			return
		case event, ok := <-events:
			if !ok {
				return
			}
			fmt.Fprint(w, event)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	}
}

func (m *mosaic) count() { m.tell(fmt.Sprintf("event: here\ndata: %d\n\n", len(m.watching))) }

const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mosaic</title>
<style>
:root { color-scheme: light dark; --ink: #2a2433; --paper: #f3f0f7; --grout: #ddd6e6; --soft: #6f6680 }
@media (prefers-color-scheme: dark) { :root { --ink: #ece7f3; --paper: #17141c; --grout: #2c2735; --soft: #a097b0 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: clamp(1rem, 4vw, 3rem) 1rem; max-width: 48rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem 1.25rem; margin-bottom: 1rem }
h1 { margin: 0; font-size: 1.5rem; letter-spacing: -.02em }
#here { color: var(--soft); margin-left: auto }
#palette { display: flex; gap: .35rem }
#palette button { width: 2rem; height: 2rem; border: 3px solid var(--paper); border-radius: 50%%; padding: 0; cursor: pointer; box-shadow: 0 0 0 1px var(--grout) }
#palette [aria-pressed=true] { box-shadow: 0 0 0 3px var(--ink) }
#floor { display: grid; gap: 3px; background: var(--grout); padding: 3px; border-radius: 12px; touch-action: none }
#floor button { aspect-ratio: 1; border: 0; border-radius: 4px; padding: 0; cursor: pointer; background: var(--paper); transition: background .2s }
:focus-visible { outline: 3px solid var(--ink); outline-offset: 1px }
</style>
<header><h1>Mosaic</h1><div id="palette" role="group" aria-label="Colour"></div><span id="here" role="status"></span></header>
<div id="floor" role="group" aria-label="Tiles"></div>
<noscript>Laying tiles together needs JavaScript.</noscript>
<script>
"use strict";
const columns = %d, rows = %d, colours = ["", "#d1495b", "#edae49", "#3f9c72", "#2e86ab", "#5b4b8a", "#e9d8a6", "#26242b"];
const names = ["none", "red", "yellow", "green", "blue", "violet", "sand", "black"];
const floor = document.getElementById("floor"), palette = document.getElementById("palette"), here = document.getElementById("here");
let colour = 1;
colours.forEach((value, i) => {
	const b = document.createElement("button");
	b.style.background = value;
	b.ariaLabel = b.title = names[i];
	b.ariaPressed = i === colour;
	b.onclick = () => { colour = i; [...palette.children].forEach((x, j) => x.ariaPressed = i === j); };
	palette.append(b);
});
floor.style.gridTemplateColumns = "repeat(" + columns + ", 1fr)";
for (let i = 0; i < columns * rows; i++) {
	const b = document.createElement("button");
	b.ariaLabel = "row " + (1 + Math.floor(i / columns)) + ", column " + (1 + i %% columns);
	b.onpointerdown = e => { b.releasePointerCapture(e.pointerId); lay(i); };
	b.onpointerenter = e => { if (e.buttons) lay(i); };
	b.onkeydown = e => { if (e.key === " " || e.key === "Enter") lay(i); };
	floor.append(b);
}
function show(i, c) { floor.children[i].style.background = colours[c]; floor.children[i].dataset.colour = c; }
function lay(i) {
	if (+(floor.children[i].dataset.colour || 0) === colour) return;
	show(i, colour);
	fetch("/lay?place=" + i + "&colour=" + colour, { method: "POST" });
}
const events = new EventSource("/events");
events.addEventListener("tile", e => show(...e.data.split(" ").map(Number)));
events.addEventListener("here", e => here.textContent = e.data === "1" ? "only you are here" : e.data + " are here");
events.onerror = () => here.textContent = "reconnecting …";
</script>
</html>
`
