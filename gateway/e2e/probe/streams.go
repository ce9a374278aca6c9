package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// doors let one request wait until another opens the door of its name: so that tests
// decide what happens first, and no time does.
type doors struct {
	mu   *sync.Mutex
	open map[string]chan struct{}
}

func newDoors() doors { return doors{new(sync.Mutex), map[string]chan struct{}{}} }

func (d doors) door(name string) chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open[name]
	if c == nil {
		c = make(chan struct{})
		d.open[name] = c
	}
	return c
}

// streams adds the handlers that try the ways in which HTTP carries bytes.
func (p *probe) streams(mux *http.ServeMux) {
	mux.HandleFunc("/wait", p.wait)
	mux.HandleFunc("/open", func(w http.ResponseWriter, r *http.Request) { close(p.doors.door(r.URL.Query().Get("door"))) })
	mux.HandleFunc("/gone", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, p.gone.Load()) })
	mux.HandleFunc("/hash", hash)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	mux.HandleFunc("/events", p.events)
	mux.HandleFunc("/upgrade", upgrade)
	mux.HandleFunc("/trailers", trailers)
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "not wanted", http.StatusForbidden) })
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		fmt.Fprintln(w, "later")
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusSeeOther)
	})
	mux.HandleFunc("/cookie", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "a=1; Domain=localhost; Path=/; HttpOnly")
		w.Header().Add("Set-Cookie", "b=2; path=/; dOmAiN = .localhost")
		fmt.Fprintln(w, "sweet")
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
		for ; n > 0; n -= len(block) {
			w.Write(block[:min(n, len(block))])
		}
	})
}

// wait answers when its door is opened, or counts that its client has gone. It
// reads no body.
func (p *probe) wait(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("begin") { // the head goes out before
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
	}
	select {
	case <-p.doors.door(r.URL.Query().Get("door")):
		fmt.Fprintf(w, "%s of version %d", p.born, p.f.Version())
	case <-r.Context().Done():
		p.gone.Add(1)
	}
}

// hash reads the body as it comes.
func hash(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		failed(w, err)
		return
	}
	fmt.Fprintf(w, "%d %s", n, hex.EncodeToString(h.Sum(nil)))
}

// events sends one event, and the second when the door opens.
func (p *probe) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	fmt.Fprint(w, "data: first\n\n")
	rc.Flush()
	select {
	case <-p.doors.door(r.URL.Query().Get("door")):
		fmt.Fprint(w, "data: second\n\n")
	case <-r.Context().Done():
		p.gone.Add(1)
	}
}

// upgrade takes the connection over and answers each line in capitals.
func upgrade(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, strings.ToUpper(line)); err != nil {
			return
		}
	}
}

// trailers answers with the trailers that it got, and some of its own.
func trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "got %s", r.Trailer.Get("X-Mine"))
	w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
}
