package sdk_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/facetgateway/fgw/sdk"
	"github.com/facetgateway/fgw/sdk/internal/boot"
	"github.com/facetgateway/fgw/sdk/wire"
)

// load reads an app's source from wherever the supervisor keeps it.
func load(ctx context.Context, name string) (string, error) { return "", sdk.ErrNotFound }

// A supervisor: the first part of the path names the app, the rest goes to it.
func ExampleFacets() {
	start := func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		mux := http.NewServeMux()
		mux.HandleFunc("/{app}/", func(w http.ResponseWriter, r *http.Request) {
			name := r.PathValue("app")
			app := f.Facets().Get(name, func(ctx context.Context) (*sdk.Start, error) { // asked only when no instance runs
				source, err := load(ctx, name)
				if err != nil {
					return nil, fmt.Errorf("load the source: %w", err)
				}
				return &sdk.Start{
					Code:   sdk.Source(map[string]string{"main.go": source}),
					Props:  map[string]string{"owner": f.Object()},
					Limits: sdk.Limits{Memory: 64 << 20, Storage: 16 << 20},
				}, nil
			})
			http.StripPrefix("/"+name, app).ServeHTTP(w, r) // steps aside: no byte of the body passes through here
		})
		return mux, nil
	}
	sdk.Serve(start)
}

// A setting that no child could be started with is refused where it is made.
func ExampleFacet_Limits() {
	http.HandleFunc("POST /memory", func(w http.ResponseWriter, r *http.Request) {
		bytes, err := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
		if most := f.Limits().Memory; err != nil || bytes > most {
			http.Error(w, fmt.Sprintf("memory is a number of bytes, at most %d", most), http.StatusBadRequest)
		}
	})
}

// A request whose answer the supervisor wants to read, and an error that says what became of it.
func ExampleFacets_Get() {
	app := f.Facets().Get("todo", func(ctx context.Context) (*sdk.Start, error) {
		return &sdk.Start{Code: sdk.App("todo", 0)}, nil // the version that is live
	})
	client := &http.Client{Transport: app}
	resp, err := client.Get("http://todo/items") // scheme and host do not matter
	var e *sdk.FacetError
	switch {
	case errors.As(err, &e) && e.Code == "build_failed":
		fmt.Println("mend this:", e.Message)
		return
	case err != nil:
		fmt.Println("no answer:", err)
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
}

// New code on the old data: the next request starts it.
func ExampleFacets_Abort() {
	if err := f.Facets().Abort(ctx, "todo", "a new version was saved"); err != nil {
		fmt.Println(err)
	}
}

// A copy to try something out in, thrown away afterwards.
func ExampleFacets_Clone() {
	if err := f.Facets().Clone(ctx, "todo", "todo-trial"); err != nil {
		fmt.Println(err)
		return
	}
	defer f.Facets().Delete(ctx, "todo-trial")
}

func ExampleFacets_List() {
	list, err := f.Facets().List(ctx)
	if err != nil {
		return
	}
	for _, child := range list {
		used, err := f.Facets().Usage(ctx, child.Name)
		if err != nil {
			return
		}
		fmt.Println(child.Name, child.State, used.CPUSeconds, used.StorageBytes)
	}
}

// What an author, or a model, needs to mend its code. Nothing runs.
func ExampleLoader_Check() {
	found, err := f.Loader().Check(ctx, sdk.Source(map[string]string{"main.go": "package main\n\nfunc main() { retrun }\n"}))
	if err != nil {
		fmt.Println("it could not be tried:", err)
		return
	}
	for _, d := range found {
		fmt.Printf("%s:%d:%d: %s\n", d.File, d.Line, d.Column, d.Message)
	}
}

// Code for one call: no name, no database, no way out, 50 ms of a core for each second.
func ExampleLoader_Load() {
	source, err := load(ctx, "formula")
	if err != nil {
		return
	}
	worker := f.Loader().Load(sdk.Source(map[string]string{"main.go": source}), &sdk.LoadOptions{
		Props:  map[string]int{"rate": 7},
		Limits: sdk.Limits{Memory: 32 << 20, CPU: 0.05, RequestTime: 2 * time.Second},
	})
	resp, err := (&http.Client{Transport: worker}).Post("http://worker/", "application/json", strings.NewReader(`{"price": 100}`))
	if err != nil {
		return
	}
	defer resp.Body.Close()
}

// The same, kept by an id for as long as it is busy.
func ExampleLoader_Get() {
	http.HandleFunc("/preview/", func(w http.ResponseWriter, r *http.Request) {
		f.Loader().Get("preview", func(ctx context.Context) (*sdk.Start, error) {
			source, err := load(ctx, "preview")
			return &sdk.Start{Code: sdk.Source(map[string]string{"main.go": source})}, err
		}).ServeHTTP(w, r)
	})
}

// A service with props that the child can neither see nor change. Here a supervisor keeps a list for each of its children.
func ExampleFacet_Expose() {
	start := func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		f.Expose("list", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var caller struct{ Owner string }
			if err := sdk.CallerProps(r, &caller); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprintf(w, "%s reads %s", caller.Owner, r.URL.Path)
		}))
		return http.NotFoundHandler(), nil // its children get it by Start.Services: {"list": sdk.Service("list", props)}
	}

	child := childOf(start, "list", map[string]string{"Owner": "alice"})
	resp, err := child.Get("http://list/todo") // in a child: f.Service("list").RoundTrip
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n", text)
	// Output: alice reads /todo
}

// A child does without what it was not handed.
func ExampleFacet_Service() {
	start := func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		mail := f.Service("mail")
		if mail == nil {
			fmt.Println("nobody is written to: this app was handed no service mail")
			return http.NotFoundHandler(), nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := (&http.Client{Transport: mail}).Post("http://mail/send", "text/plain", r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			resp.Body.Close()
		}), nil
	}

	run(start)
	// Output: nobody is written to: this app was handed no service mail
}

// Every outgoing request of a child passes a service, which adds a key that the child never sees.
func ExampleEgressVia() {
	f.Expose("way-out", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Hostname() != "api.example.com" {
			http.Error(w, "this app may call api.example.com only", http.StatusForbidden)
			return
		}
		out := r.Clone(r.Context())
		out.RequestURI = ""
		out.Header.Set("Authorization", "Bearer "+f.Secret("API_KEY"))
		resp, err := f.Client().Do(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	_ = sdk.Start{Code: sdk.App("todo", 0), Egress: sdk.EgressVia(sdk.Service("way-out", nil))}
}

func ExampleFacet_Client() {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "sunny") }))
	defer site.Close()
	start := func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := f.Client().Get(site.URL + "/weather")
			if errors.Is(err, sdk.ErrNoEgress) {
				http.Error(w, "this app was granted no way out", http.StatusServiceUnavailable)
				return
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			io.Copy(w, resp.Body)
		}), nil
	}

	app := httptest.NewServer(run(start))
	defer app.Close()
	resp, err := http.Get(app.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n", text)
	// Output: sunny
}

// A reminder that is set if and only if the note is kept, and that wakes the app when it is due.
func ExampleAlarm() {
	start := func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		f.OnAlarm(func(ctx context.Context) error { // may run more than once: an error has it called again
			_, err := f.DB().ExecContext(ctx, `UPDATE note SET reminded = 1 WHERE due <= ?`, f.Now())
			return err
		})
		mux := http.NewServeMux()
		mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
			due := f.Now().Add(time.Hour)
			tx, err := f.DB().BeginTx(r.Context(), nil)
			if err == nil {
				defer tx.Rollback()
				_, err = tx.ExecContext(r.Context(), `INSERT INTO note (text, due) VALUES (?, ?)`, r.FormValue("text"), due)
			}
			if err == nil {
				err = f.Alarm().SetTx(tx, due)
			}
			if err == nil {
				err = tx.Commit()
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
		return mux, nil
	}
	sdk.Serve(start)
}

func ExampleAlarm_Get() {
	at, err := f.Alarm().Get(ctx)
	switch {
	case errors.Is(err, sdk.ErrNotFound):
		fmt.Println("no alarm is set")
	case err == nil:
		fmt.Println("rings in", at.Sub(f.Now()))
	}
}

// run starts an app without a gateway and without a database.
func run(start sdk.StartFunc) http.Handler {
	http.DefaultClient.Transport = nil // a test of an instance inside a gateway leaves its own there
	_, in, err := sdk.Boot(context.Background(), boot.Config{Start: &wire.Start{Namespace: "test", Object: "object"}, Log: slog.DiscardHandler}, start)
	if err != nil {
		panic(err)
	}
	return in.Handler
}

// childOf calls a service of an app's as the gateway does for a child that was handed it.
func childOf(start sdk.StartFunc, service string, props any) *http.Client {
	app := run(start)
	fixed, err := json.Marshal(props)
	if err != nil {
		panic(err)
	}
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		r.Header.Set(wire.HeaderService, service)
		r.Header.Set(wire.HeaderCallerProps, base64.StdEncoding.EncodeToString(fixed))
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		return w.Result(), nil
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
