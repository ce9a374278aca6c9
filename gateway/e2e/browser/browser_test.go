// Package browser tries the sample apps as a person does, in a real browser on a real gateway.
package browser

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// pictures is where `go test ./gateway/e2e/browser -screenshots DIR` puts the pictures of the README.
var pictures = flag.String("screenshots", "", "write pictures of the sample apps to this `DIR`ectory")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(rig.Main(m))
}

const samples = "../../../sdk/examples/"

// site is a gateway with a sample app, and a browser.
type site struct {
	*browser
	g    *rig.Gateway
	port string
}

func visit(t *testing.T, namespace, app string, args ...string) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a browser, and builds from nothing, take minutes")
	}
	rig.NeedRoot(t)
	need(t, "chromium", "chromium") // before the gateway is built and started for nothing
	need(t, "chromedriver", "chromium-driver")
	g := rig.Start(t, args...)
	g.Must("namespaces", "create", namespace)
	g.Must("deploy", rig.App(t, samples+app, ""), "--namespace", namespace, "--app", app)
	return &site{chromium(t), g, g.Addr[strings.LastIndexByte(g.Addr, ':'):]}
}

func (s *site) url(label, path string) string {
	return "http://" + label + ".localhost" + s.port + path
}

func TestGuestbook(t *testing.T) {
	s := visit(t, "apps", "guestbook")
	s.look(1000, 860, "light")
	// The path form leads a browser to the app's own origin.
	s.open("http://" + s.g.Addr + "/apps/demo/guestbook/")
	s.see("main", "Be the first!")
	if got, want := s.run("return location.origin + location.pathname"), s.url("guestbook--demo--apps", "/"); got != want {
		t.Errorf("the page is at %v, wanted %s", got, want)
	}
	for _, e := range [][2]string{
		{"Grandma", "Lovely place you have here. <b>Do visit</b> more often!"},
		{"Tomasz", "We came for the view and stayed for the cake."},
		{"Mira", "Every guest in a room of their own.\nI like that."},
	} {
		s.write("#name", e[0])
		s.write("#message", e[1])
		s.click("form button")
		s.see(".entry", e[0])
	}
	s.see("ol", "<b>Do visit</b>") // as text, not as markup
	s.run("scrollTo(0, 0); document.activeElement.blur()")
	s.picture("guestbook")
	s.look(1000, 860, "dark")
	s.picture("guestbook-dark")
}

func TestCanvas(t *testing.T) {
	s := visit(t, "apps", "canvas")
	s.look(1100, 760, "light")
	s.open(s.url("canvas--demo--apps", "/"))
	s.see("#here", "only you are here")
	other := chromium(t)
	other.open(s.url("canvas--demo--apps", "/"))
	s.see("#here", "2 people are here")
	s.draw()
	// What one draws, the other one sees.
	inked := `const c = document.getElementById("sheet"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n`
	want := s.run(inked).(float64)
	if want < 1000 {
		t.Fatalf("%v pixels were drawn", want)
	}
	other.until("the other one sees what was drawn", func() bool { return other.run(inked).(float64) >= want*0.99 })
	s.picture("canvas")
	s.open(s.url("canvas--demo--apps", "/"))
	s.until("the drawing is there after a reload", func() bool { return s.run(inked).(float64) >= want*0.99 })
}

// stroke is a line by hand: a colour's number, and a path in the browser's own words.
type stroke struct {
	colour int
	width  int
	path   string // of an SVG
}

// A house under a sun.
var picture = []stroke{
	{3, 16, "M120 820 C400 760 700 860 1000 800 S1400 780 1500 810"},
	{0, 9, "M520 800 L520 480 L980 480 L980 790"},
	{1, 12, "M450 500 L750 260 L1050 500 Z"},
	{0, 7, "M690 795 L690 620 L800 620 L800 795"},
	{4, 7, "M580 550 h70 v70 h-70 Z M615 550 v70 M580 585 h70"},
	{4, 7, "M850 550 h70 v70 h-70 Z M885 550 v70 M850 585 h70"},
	{2, 14, "M1320 170 a70 70 0 1 1 -140 0 a70 70 0 1 1 140 0"},
	{2, 8, "M1250 60 v-30 M1250 280 v35 M1140 170 h-35 M1360 170 h35 M1172 92 l-22 -22 M1328 248 l22 22 M1328 92 l22 -22 M1172 248 l-22 22"},
	{5, 7, "M240 790 C240 700 250 680 240 640 M240 640 c-60 -10 -70 -80 0 -90 c70 10 60 80 0 90"},
	{6, 7, "M330 800 C335 730 325 700 330 670 M330 670 c-50 -10 -60 -70 0 -80 c60 10 50 70 0 80"},
	{5, 5, "M560 180 q30 -35 55 0 q28 -35 58 0 M680 120 q22 -26 42 0 q22 -26 44 0"},
}

// draw draws with the pointer, each part of a path in one go.
func (s *site) draw() {
	s.t.Helper()
	for _, line := range picture {
		s.run(`document.querySelectorAll("[name=colour]")[arguments[0]].click(); document.getElementById("width").value = arguments[1]`, line.colour, line.width)
		parts := s.run(`
			const box = document.getElementById("sheet").getBoundingClientRect(), path = document.createElementNS("http://www.w3.org/2000/svg", "path");
			let begun = "0 0", parts = [];
			for (const part of arguments[0].match(/[Mm][^Mm]*/g)) {
				path.setAttribute("d", part);
				const steps = Math.max(3, Math.ceil(path.getTotalLength() / 14)), points = [];
				for (let i = 0; i <= steps; i++) {
					const p = path.getPointAtLength(path.getTotalLength() * i / steps);
					points.push([Math.round(box.left + p.x * box.width / 1600), Math.round(box.top + p.y * box.height / 1000)]);
				}
				parts.push(points);
			}
			return parts`, line.path).([]any)
		for _, points := range parts {
			s.drag(points.([]any))
		}
	}
}

func (s *site) drag(points []any) {
	s.t.Helper()
	var actions []any
	for i, p := range points {
		xy := p.([]any)
		actions = append(actions, map[string]any{"type": "pointerMove", "duration": 0, "x": xy[0], "y": xy[1]})
		if i == 0 {
			actions = append(actions, map[string]any{"type": "pointerDown", "button": 0})
		}
	}
	actions = append(actions, map[string]any{"type": "pointerUp", "button": 0})
	s.call("POST", "/actions", map[string]any{"actions": []any{map[string]any{
		"type": "pointer", "id": "pen", "parameters": map[string]string{"pointerType": "mouse"}, "actions": actions,
	}}}, nil)
}

// TestStudio is the seed's own story: an app arrives as text, is used, is changed and keeps its data.
func TestStudio(t *testing.T) {
	s := visit(t, "studio", "appmaker", rig.Sources)
	s.g.Must("namespaces", "set", "studio", "supervisor=appmaker", "request_timeout=5m")
	s.patience = 5 * time.Minute // the first build waits until the cache of builds is filled
	studio := s.url("me--studio", "")
	s.look(1280, 860, "light")
	s.open(studio + "/")

	// A to-do list, from a seed.
	s.see("h1", "What shall we make?")
	s.write("[name=name]", "groceries")
	s.click("button.go")
	s.see("h1", "groceries")
	s.see("#standing", "version 1")
	s.open(s.url("groceries--me--studio", "/"))
	s.see("h1", "To do")
	for _, item := range []string{"Oranges", "Half a pumpkin", "Bread"} {
		s.write("[name=text]", item)
		s.click(".add button")
		s.see("ul", item)
	}

	// An edit of its heading: new code, old data.
	s.open(studio + "/apps/groceries")
	s.edit(`"To do"`, `"Groceries"`)
	s.click("#save")
	s.see("#said", "Version 2 is live")
	s.open(s.url("groceries--me--studio", "/"))
	s.see("h1", "Groceries")
	s.see("ul", "Half a pumpkin")

	// What does not build is shown at its line, and what ran before still runs.
	s.open(studio + "/apps/groceries")
	s.edit("left := 0", "left = 0")
	line := fmt.Sprint(s.run(`return document.getElementById("source").value.split("left = 0")[0].split("\n").length`))
	s.click("#save")
	s.see("#said", "It does not build")
	s.see("#diagnostics", "line "+line)
	s.see("#diagnostics", "undefined: left")
	if marked := fmt.Sprint(s.run(`return document.querySelector(".gutter .bad").textContent`)); marked != line {
		t.Errorf("line %s is marked, wanted %s", marked, line)
	}
	s.until("the preview has loaded", func() bool { return s.run(`return document.readyState`) == "complete" })
	s.picture("studio-editor")
	s.look(390, 844, "dark")
	s.run("scrollTo(0, 0)")
	s.picture("studio-phone")
	s.look(1280, 860, "light")
	s.open(s.url("groceries--me--studio", "/"))
	s.see("ul", "Half a pumpkin")
	s.open(studio + "/apps/groceries")
	s.see("#diagnostics", "line "+line) // the draft is kept

	// Usage moves.
	s.until("usage counts the requests", func() bool {
		return s.run(`return +document.querySelector("[data-of=requests]").textContent`).(float64) >= 5
	})
	s.until("usage counts the rows", func() bool {
		return s.run(`return +document.querySelector("[data-of=rows_written]").textContent`).(float64) >= 3
	})

	// The list, with the other seeds.
	for seed, name := range map[string]string{"mosaic": "kitchen-floor", "poll": "lunch"} {
		s.open(studio + "/")
		s.click("[value=" + seed + "]")
		s.write("[name=name]", name)
		s.click("button.go")
		s.see("#standing", "version 1")
	}
	s.open(s.url("lunch--me--studio", "/"))
	s.click(".vote button")
	s.see("p", "One vote")
	s.open(s.url("kitchen-floor--me--studio", "/"))
	s.see("#here", "only you are here")
	s.click("#floor button:nth-child(20)")
	s.open(s.url("kitchen-floor--me--studio", "/"))
	s.until("the tile is there after a reload", func() bool {
		return s.run(`return document.querySelector("#floor button:nth-child(20)").dataset.colour`) == "1"
	})
	s.open(studio + "/")
	s.see(".apps", "kitchen-floor")
	s.run("document.activeElement.blur()")
	s.picture("studio")

	// A page of one app can do nothing to the studio, nor to another app.
	s.open(s.url("lunch--me--studio", "/"))
	s.run(`fetch(arguments[0] + "/api/apps/groceries", {method: "DELETE", mode: "no-cors"}).catch(() => {});
		const f = document.createElement("form"); f.method = "post"; f.action = arguments[0] + "/apps/groceries/delete";
		f.innerHTML = "<input name=sure value=groceries>"; document.body.append(f); f.submit()`, studio)
	s.see("body", "cross-origin")

	// Deleted: the list and the address are gone.
	s.open(studio + "/apps/groceries")
	s.run(`document.querySelectorAll("details").forEach(d => d.open = true)`)
	s.write("[name=sure]", "groceries")
	s.click(".danger")
	s.see("h2", "2 apps")
	s.open(s.url("groceries--me--studio", "/"))
	s.see("body", "no app")
}

// edit selects a text in the editor and types another in its place.
func (s *site) edit(old, new string) {
	s.t.Helper()
	s.find("#gutter span:nth-child(2)") // the script has run
	if s.run(`
		const e = document.getElementById("source"), at = e.value.indexOf(arguments[0]);
		e.focus({preventScroll: true});
		e.setSelectionRange(at, at + arguments[0].length);
		return at`, old).(float64) < 0 {
		s.t.Fatalf("the source does not hold %q", old)
	}
	s.write("#source", new)
}
