package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/facetgateway/fgw/sdk"
)

// acts adds what a player does as a program: who it is, how it ends, and the ways in which HTTP carries bytes.
func (p *player) acts(mux *http.ServeMux) {
	mux.HandleFunc("/who", p.who)
	mux.HandleFunc("/limits", func(w http.ResponseWriter, r *http.Request) { answer(w, p.f.Limits(), nil) })
	mux.HandleFunc("/mem", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, p.mem.Add(1)-1) })
	mux.HandleFunc("/shared", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, shared.Add(1)) })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { fmt.Println("so long"); os.Exit(7) })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { go panic("a goroutine of its own"); select {} })
	mux.HandleFunc("/leak", func(w http.ResponseWriter, r *http.Request) { // all the ways in which a program says what it should not
		key := p.f.Secret("KEY")
		if r.URL.Query().Has("die") {
			go panic("died of " + key)
			select {}
		}
		fmt.Println("printed", key)
		p.f.Logger().Warn("logged", "key", key)
		p.f.DB().Exec("SELECT '" + key + "'")
	})
	mux.HandleFunc("/trip", func(http.ResponseWriter, *http.Request) { panic("the handler tripped") })
	mux.HandleFunc("/spin", func(http.ResponseWriter, *http.Request) {
		for {
		}
	})
	mux.HandleFunc("/eat", func(http.ResponseWriter, *http.Request) { eat() })
	mux.HandleFunc("/hold", p.hold)
	mux.HandleFunc("/threads", threads)
	mux.HandleFunc("/wait", p.wait)
	mux.HandleFunc("/open", func(w http.ResponseWriter, r *http.Request) { p.open(r.URL.Query().Get("door")) })
	mux.HandleFunc("/ask/", func(w http.ResponseWriter, r *http.Request) {
		said, err := p.call(r.Context(), "desk", strings.TrimPrefix(r.URL.Path, "/ask"))
		answer(w, said, err)
	})
	mux.HandleFunc("/again", func(w http.ResponseWriter, r *http.Request) { // for ever, through the supervisor
		ctx := r.Context()
		if r.URL.Query().Has("forget") { // which request it is for
			ctx = context.Background()
		}
		said, err := p.call(ctx, "desk", "/child/"+p.f.Name()+"/again?"+r.URL.RawQuery)
		answer(w, said, err)
	})
	mux.HandleFunc("/around", func(w http.ResponseWriter, r *http.Request) { // the same by the way out
		out, _ := http.NewRequestWithContext(r.Context(), "GET", "http://child.test/"+p.f.Name()+"/around", nil)
		said, err := read(p.f.Client().Do(out))
		answer(w, said, err)
	})
	mux.HandleFunc("/fetch", p.fetch)
	mux.HandleFunc("/hash", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		answer(w, fmt.Sprint(n, " ", hex.EncodeToString(h.Sum(nil))), err)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Body.Read(buf)
			if _, failed := w.Write(buf[:n]); failed != nil || err != nil {
				return
			}
			rc.Flush()
		}
	})
	mux.HandleFunc("/events", p.events)
	mux.HandleFunc("/upgrade", p.upgrade)
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "got ", r.Trailer.Get("X-Mine"))
		w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusSeeOther)
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Content-Length", strconv.Itoa(n))
		w.Write(bytes.Repeat([]byte("x"), n))
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) { // says half of what it announced
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "half ")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// eat takes memory until there is no more.
func eat() {
	var kept [][]byte
	for {
		b := make([]byte, 8<<20)
		for i := range b {
			b[i] = 1
		}
		kept = append(kept, b)
	}
}

// hold takes so many MiB and keeps them.
func (p *player) hold(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("mb"))
	b := make([]byte, n<<20)
	for i := range b {
		b[i] = 1
	}
	p.mu.Lock()
	p.kept = append(p.kept, b)
	p.mu.Unlock()
	answer(w, n, err)
}

// threads makes so many that stay, and answers when they are there.
func threads(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	var made sync.WaitGroup
	for range n {
		made.Add(1)
		go func() { runtime.LockOSThread(); made.Done(); select {} }()
	}
	made.Wait()
	answer(w, n, err)
}

func (p *player) who(w http.ResponseWriter, r *http.Request) {
	var props any
	err := p.f.Props(&props)
	services := []string{}
	for _, name := range []string{"desk", "other"} {
		if p.f.Service(name) != nil {
			services = append(services, name)
		}
	}
	answer(w, map[string]any{
		"born": p.born, "edition": edition, "name": p.f.Name(), "id": p.f.ID(), "object": p.f.Object(), "namespace": p.f.Namespace(), "version": p.f.Version(),
		"props": props, "colour": p.f.Env("COLOUR"), "key": p.f.Secret("KEY"), "services": services,
		"path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "method": r.Method, "host": r.Host, "headers": r.Header,
	}, err)
}

// call asks a service and gives what it said; a refusal is an error.
func (p *player) call(ctx context.Context, name, path string) (string, error) {
	stub := p.f.Service(name)
	if stub == nil {
		return "", fmt.Errorf("no service %q", name)
	}
	r, err := http.NewRequestWithContext(ctx, "GET", "http://service"+path, nil)
	if err != nil {
		return "", err
	}
	return read(stub.RoundTrip(r))
}

// read gives what a call said; an answer that is none is an error.
func read(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		f := fault{Message: string(b)}
		json.Unmarshal(b, &f)
		err = &sdk.FacetError{Code: f.Code, Message: f.Message}
	}
	return string(b), err
}

// fetch goes outside.
func (p *player) fetch(w http.ResponseWriter, r *http.Request) {
	client := p.f.Client()
	if r.URL.Query().Has("default") {
		client = http.DefaultClient
	}
	out, err := http.NewRequestWithContext(r.Context(), "POST", r.URL.Query().Get("u"), strings.NewReader("ping"))
	if err != nil {
		answer(w, nil, err)
		return
	}
	resp, err := client.Do(out)
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	answer(w, fmt.Sprint(resp.StatusCode, " ", string(b)), err)
}

// wait answers when its door is opened.
func (p *player) wait(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("begin") { // the head goes out before
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
	}
	select {
	case <-p.door(r.URL.Query().Get("door")):
		fmt.Fprint(w, p.born)
	case <-r.Context().Done():
	}
}

// events sends one event, and the second when the door opens.
func (p *player) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "data: first\n\n")
	http.NewResponseController(w).Flush()
	select {
	case <-p.door(r.URL.Query().Get("door")):
		fmt.Fprint(w, "data: second\n\n")
	case <-r.Context().Done():
	}
}

// upgrade takes the connection over and answers each line in capitals.
func (p *player) upgrade(w http.ResponseWriter, r *http.Request) {
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
		io.WriteString(conn, strings.ToUpper(line))
	}
}
