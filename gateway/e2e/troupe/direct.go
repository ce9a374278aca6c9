package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

// plan says how a child starts. Tests write it as JSON.
type plan struct {
	App                 string
	Version             int
	Exe                 bool              // the executable that was put to ~exe
	Files               map[string]string // a source
	Bytes, Many         int               // a source with one file of so many bytes; with so many files
	ID                  string
	Props               any
	Big                 int // props of so many bytes
	Env, Secrets        map[string]string
	Services            map[string]service
	Memory, Storage     int64
	CPU                 float64
	Processes           int
	StatementMS         int
	RequestMS, InFlight int
	Rows                int64
	Hosts               []string
	Via                 *service
	Children            bool

	Fail, Panic, Door string // what the start function does: fails, panics, waits for a door
	Call              string // calls this sibling before it answers
}

type service struct {
	Service string
	Props   any
}

func (s service) binding() sdk.Binding { return sdk.Service(s.Service, s.Props) }

// planKey is where a plan is kept: it outlives the instance.
func planKey(name string) string { return "plan/" + name }

// start is the start function of the child of that name.
func (p *player) start(name string) sdk.StartFor {
	return func(ctx context.Context) (*sdk.Start, error) {
		p.mu.Lock()
		p.starts[name]++
		p.mu.Unlock()
		text, err := p.f.KV().Get(ctx, planKey(name))
		if errors.Is(err, sdk.ErrNotFound) {
			text, err = []byte("{}"), nil
		}
		if err != nil {
			return nil, err
		}
		var what plan
		if err := json.Unmarshal(text, &what); err != nil {
			return nil, err
		}
		return p.follow(ctx, &what)
	}
}

// follow does what a plan says.
func (p *player) follow(ctx context.Context, what *plan) (*sdk.Start, error) {
	if what.Door != "" {
		select {
		case <-p.door(what.Door):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if what.Call != "" {
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://sibling/who", nil)
		resp, err := p.f.Facets().Get(what.Call, p.start(what.Call)).RoundTrip(r)
		if err != nil {
			return nil, fmt.Errorf("call the sibling: %w", err)
		}
		resp.Body.Close()
	}
	if what.Fail != "" {
		return nil, errors.New(what.Fail)
	}
	if what.Panic != "" {
		panic(what.Panic)
	}
	st := &sdk.Start{
		Code: p.code(what), ID: what.ID, Props: what.Props, Env: what.Env, Secrets: what.Secrets, Children: what.Children,
		Limits: sdk.Limits{
			Memory: what.Memory, Storage: what.Storage, CPU: what.CPU, Processes: what.Processes,
			StatementTime: time.Duration(what.StatementMS) * time.Millisecond, RequestTime: time.Duration(what.RequestMS) * time.Millisecond,
			InFlight: what.InFlight, Rows: what.Rows,
		},
	}
	if what.Big > 0 {
		st.Props = strings.Repeat("x", what.Big)
	}
	for name, s := range what.Services {
		if st.Services == nil {
			st.Services = map[string]sdk.Binding{}
		}
		st.Services[name] = s.binding()
	}
	if what.Hosts != nil {
		st.Egress = sdk.EgressTo(what.Hosts...)
	}
	if what.Via != nil {
		st.Egress = sdk.EgressVia(what.Via.binding())
	}
	return st, nil
}

func (p *player) code(what *plan) sdk.Code {
	files := what.Files
	switch {
	case what.Bytes > 0:
		files = map[string]string{"main.go": "package main\n\nfunc main() {}\n", "long.go": strings.Repeat("x", what.Bytes)}
	case what.Many > 0:
		files = map[string]string{"main.go": "package main\n\nfunc main() {}\n"}
		for i := range what.Many {
			files[fmt.Sprintf("f%d.go", i)] = "package main\n"
		}
	case what.Exe:
		p.mu.Lock()
		defer p.mu.Unlock()
		return sdk.Executable(bytes.NewReader(p.exe))
	case what.App == "" && files == nil:
		return sdk.App("kid", what.Version)
	case what.App != "":
		return sdk.App(what.App, what.Version)
	}
	return sdk.Source(files)
}

// direct serves what the director is told: /~VERB/NAME/rest, where NAME is escaped.
func (p *player) direct(w http.ResponseWriter, r *http.Request) {
	verb, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/~"), "/")
	part, rest, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(part)
	if err != nil {
		answer(w, nil, err)
		return
	}
	ctx, kids := r.Context(), p.f.Facets()
	switch verb {
	case "plan":
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = p.f.KV().Put(ctx, planKey(name), text)
		}
		answer(w, "planned", err)
	case "exe":
		exe, err := io.ReadAll(r.Body)
		p.mu.Lock()
		p.exe = exe
		p.mu.Unlock()
		answer(w, len(exe), err)
	case "on": // hands over
		w.Header().Set("X-Director", p.born)
		kids.Get(name, p.start(name)).ServeHTTP(w, below(r, rest))
	case "header": // hands over with a header of its own, and without one of the client's
		below := below(r, rest)
		below.Header.Set("X-Added", "by the director")
		below.Header.Del("X-Taken")
		kids.Get(name, p.start(name)).ServeHTTP(w, below)
	case "loud": // changes the bytes
		p.loud(w, below(r, rest), kids.Get(name, p.start(name)))
	case "load":
		p.load(w, r, below(r, rest))
	case "worker":
		p.f.Loader().Get(name, p.start(name)).ServeHTTP(w, below(r, rest))
	case "check":
		var files map[string]string
		if err := json.NewDecoder(r.Body).Decode(&files); err != nil {
			answer(w, nil, err)
			return
		}
		found, err := p.f.Loader().Check(ctx, sdk.Source(files))
		answer(w, found, err)
	case "abort":
		answer(w, "aborted", kids.Abort(ctx, name, r.URL.Query().Get("reason")))
	case "delete":
		answer(w, "deleted", kids.Delete(ctx, name))
	case "clone":
		answer(w, "cloned", kids.Clone(ctx, name, r.URL.Query().Get("to")))
	case "list":
		list, err := kids.List(ctx)
		answer(w, list, err)
	case "usage":
		u, err := kids.Usage(ctx, name)
		answer(w, u, err)
	case "starts":
		p.mu.Lock()
		defer p.mu.Unlock()
		answer(w, p.starts[name], nil)
	case "open":
		p.open(name)
	case "held": // a stub that is kept: its first call begins, the second follows when the door opens
		p.held(w, r, kids.Get(name, p.start(name)))
	default:
		http.NotFound(w, r)
	}
}

// below is the request with the path that lies below the director's own. Its body is the same, untouched.
func below(r *http.Request, rest string) *http.Request {
	to := r.Clone(r.Context())
	to.URL.Path, _ = url.PathUnescape("/" + rest)
	to.URL.RawPath = "/" + rest
	return to
}

// loud passes the bytes through, in capitals.
func (p *player) loud(w http.ResponseWriter, r *http.Request, stub *sdk.Stub) {
	r.RequestURI = ""
	resp, err := stub.RoundTrip(r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		answer(w, nil, err)
		return
	}
	w.Header().Set("X-Loud", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	w.Write(bytes.ToUpper(b))
}

// load runs a dynamic worker whose plan stands in the header Plan.
func (p *player) load(w http.ResponseWriter, r, to *http.Request) {
	var what plan
	if err := json.Unmarshal([]byte(r.Header.Get("Plan")), &what); err != nil {
		answer(w, nil, err)
		return
	}
	st, err := p.follow(r.Context(), &what)
	if err != nil {
		answer(w, nil, err)
		return
	}
	p.f.Loader().Load(st.Code, &sdk.LoadOptions{Props: st.Props, Env: st.Env, Secrets: st.Secrets, Services: st.Services, Limits: st.Limits, Egress: st.Egress}).ServeHTTP(w, to)
}

// held calls one stub twice, and tells what each call gave.
func (p *player) held(w http.ResponseWriter, r *http.Request, stub *sdk.Stub) {
	var said [2]any
	for i, path := range []string{"/wait?door=never", "/who"} {
		out, _ := http.NewRequestWithContext(r.Context(), "GET", "http://kid"+path, nil)
		resp, err := stub.RoundTrip(out)
		if err == nil {
			var b []byte
			b, err = io.ReadAll(resp.Body)
			said[i] = string(b)
		}
		if err != nil {
			said[i] = faultOf(err)
		}
	}
	answer(w, said, nil)
}

// desk is the service that a director offers to its children, and the way out that it gives them.
func (p *player) desk(w http.ResponseWriter, r *http.Request) {
	var props any
	if err := sdk.CallerProps(r, &props); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Host != "" && props == "credential" {
		p.sign(w, r)
		return
	}
	if r.URL.Host != "" { // a request to the outside
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Hostname() {
		case "child.test":
			p.deskChild(w, r, strings.TrimPrefix(r.URL.Path, "/"))
		case "forbidden.test":
			http.Error(w, "refused by the director", http.StatusForbidden)
		default:
			fmt.Fprintf(w, "%s %s as %v with %q", r.Method, r.URL, props, body)
		}
		return
	}
	verb, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch verb {
	case "child":
		p.deskChild(w, r, rest)
	default:
		fmt.Fprintf(w, "hello %v at /%s", props, verb)
	}
}

// sign sends a child's request on with a credential that the child does not have.
func (p *player) sign(w http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.Header.Set("Authorization", "Bearer of the director")
	resp, err := p.f.Client().Do(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// deskChild has the service call a child, perhaps the one that called. The way is NAME/path.
func (p *player) deskChild(w http.ResponseWriter, r *http.Request, way string) {
	name, path, _ := strings.Cut(way, "/")
	ctx := r.Context()
	if r.URL.Query().Has("forget") {
		ctx = context.Background()
	}
	out, _ := http.NewRequestWithContext(ctx, "GET", "http://kid/"+path, nil)
	out.URL.RawQuery = r.URL.RawQuery
	resp, err := p.f.Facets().Get(name, p.start(name)).RoundTrip(out)
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}
