// What the page of an app does beyond its forms: line numbers that follow, saving without leaving, usage that moves.
"use strict";
const byId = id => document.getElementById(id);
const source = byId("source"), gutter = byId("gutter"), marks = byId("marks"), said = byId("said"), save = byId("save"), list = byId("diagnostics");
const name = document.body.dataset.name, form = byId("editor"), base = form.elements.base;
const make = (tag, props) => Object.assign(document.createElement(tag), props);
let stored = source.value, leaving = false;

// --- the editor ---

function number() {
	const lines = source.value.split("\n").length;
	source.rows = lines;
	while (gutter.childElementCount < lines) gutter.append(make("span", { textContent: gutter.childElementCount + 1 }));
	while (gutter.childElementCount > lines) gutter.lastElementChild.remove();
}

function say(text, kind) {
	said.textContent = text;
	said.className = kind || "";
}

// show lists what is wrong, and marks the lines.
function show(found) {
	list.replaceChildren(...found.map(d => {
		const item = make("li"), place = make("a", { href: "#source", textContent: d.line ? "line " + d.line : d.file });
		place.dataset.line = d.line;
		place.dataset.column = d.column;
		item.append(place, " " + d.message);
		return item;
	}));
	mark(found.filter(d => d.line));
}

function mark(found) {
	marks.replaceChildren(...found.map(d => {
		const m = make("i", { title: d.message });
		m.style.setProperty("--line", d.line);
		return m;
	}));
	[...gutter.children].forEach((n, i) => n.className = found.some(d => d.line === i + 1) ? "bad" : "");
}

list.addEventListener("click", e => {
	const at = e.target.closest("a");
	if (!at) return;
	e.preventDefault();
	goTo(+at.dataset.line, +at.dataset.column);
});

// goTo puts the cursor at a place: columns count bytes, as the compiler does.
function goTo(line, column) {
	if (!line) return;
	const lines = source.value.split("\n"), text = lines[line - 1] || "";
	const before = new TextDecoder().decode(new TextEncoder().encode(text).slice(0, Math.max(0, column - 1)));
	const at = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0) + before.length;
	source.focus({ preventScroll: true });
	source.setSelectionRange(at, at);
	const box = byId("code"), number = gutter.children[line - 1];
	if (number) box.scrollTop = number.offsetTop - box.clientHeight / 3;
	box.scrollIntoView({ block: "nearest" });
}

let escaped = false;
source.addEventListener("keydown", e => {
	if ((e.ctrlKey || e.metaKey) && e.key === "s") {
		e.preventDefault();
		form.requestSubmit();
	} else if (e.key === "Tab" && !e.shiftKey && !escaped && !e.ctrlKey && !e.metaKey && !e.altKey) {
		e.preventDefault();
		insert("\t");
	} else if (e.key === "Enter" && !e.isComposing) {
		const line = source.value.slice(0, source.selectionStart).split("\n").pop();
		e.preventDefault();
		insert("\n" + line.match(/^\s*/)[0] + (/[{(]$/.test(line) ? "\t" : ""));
	}
	escaped = e.key === "Escape";
});

// insert types a text, so that undo knows of it.
function insert(text) {
	if (!document.execCommand("insertText", false, text)) {
		source.setRangeText(text, source.selectionStart, source.selectionEnd, "end");
		source.dispatchEvent(new Event("input"));
	}
}

source.addEventListener("input", () => {
	number();
	if (marks.childElementCount) mark([]);
	say(source.value === stored ? "" : "not saved");
});

addEventListener("beforeunload", e => {
	if (!leaving && source.value !== stored) e.preventDefault();
});
document.addEventListener("submit", () => leaving = true);

// --- saving ---

form.addEventListener("submit", async e => {
	e.preventDefault();
	leaving = false;
	if (save.disabled) return;
	const text = source.value;
	save.disabled = true;
	say("building …");
	try {
		const answer = await fetch("/api/apps/" + name + "?base=" + base.value, { method: "PUT", body: text });
		const got = await answer.json();
		if (answer.status === 422) {
			stored = text; // it is kept as a draft
			show(got.diagnostics);
			say("It does not build" + (+base.value ? "; version " + base.value + " still runs." : "."), "bad");
			goTo(got.diagnostics[0].line, got.diagnostics[0].column);
		} else if (answer.ok) {
			stored = text;
			show([]);
			wentLive(got.version);
		} else say(got.error, "bad");
	} catch {
		say("The studio could not be reached; your text is still here.", "bad");
	}
	save.disabled = false;
});

function wentLive(version) {
	say("Version " + version + " is live.", "good");
	const first = base.value === "0";
	base.value = version;
	byId("standing").textContent = "version " + version;
	byId("open").hidden = false;
	if (first) {
		location.reload();
		return;
	}
	const preview = byId("preview");
	if (preview) preview.src = byId("open").href;
}

// --- usage ---

function size(n) {
	for (const [unit, of] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]])
		if (n >= of) return +(n / of).toFixed(1) + " " + unit;
	return n + " B";
}
const shown = { storage_bytes: size, memory_bytes: size, cpu_seconds: n => n.toFixed(2) + " s" };

async function refresh() {
	if (document.hidden) return;
	const answer = await fetch("/api/apps/" + name + "/usage").catch(() => null);
	if (!answer?.ok) return;
	const usage = await answer.json();
	for (const place of document.querySelectorAll("[data-of]")) {
		const value = usage[place.dataset.of];
		place.textContent = (shown[place.dataset.of] || String)(value);
	}
	const state = byId("state");
	state.className = "state " + usage.state;
	state.title = usage.state;
}
setInterval(refresh, 2000);

number();
mark([...list.querySelectorAll("a")].map(a => ({ line: +a.dataset.line, message: a.parentElement.textContent })).filter(d => d.line));
if (said.className === "good") history.replaceState(null, "", location.pathname);
