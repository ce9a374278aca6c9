package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// edit is the time from new source code to the first answer of the app that it becomes, against `go build` of
// the same code by hand with a warm cache.
func edit(b *bench) ([]row, error) {
	dir := filepath.Join(b.dir, "edited")
	if err := b.run("new", dir); err != nil {
		return nil, err
	}
	edits := 0
	source := func() string { edits++; return fmt.Sprintf(editedSource, edits) }
	byHand := func() (float64, error) {
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source()), 0o644); err != nil {
			return 0, err
		}
		began := time.Now()
		err := goBuild(dir, filepath.Join(b.dir, "edited.out"))
		return float64(time.Since(began).Microseconds()) / 1000, err
	}
	asFacet := func() (float64, error) {
		text := source()
		began := time.Now()
		said, err := b.edit(text)
		took := time.Since(began)
		if want := fmt.Sprintf("edit %d\n", edits); err == nil && said != want {
			err = fmt.Errorf("after an edit the app says %q, not %q", said, want)
		}
		return float64(took.Microseconds()) / 1000, err
	}
	if _, err := byHand(); err != nil { // once before it counts: it compiles the SDK with this app's vendor directory
		return nil, err
	}
	m, err := medians(5, asFacet, byHand)
	if err != nil {
		return nil, err
	}
	limit := 1.5*m[1] + 100
	return []row{{what: "edit of a one-file app to its first answer", figure: fmt.Sprintf("%.0f ms", m[0]), floor: fmt.Sprintf("go build %.0f ms", m[1]), ratio: m[0] / m[1],
		target: fmt.Sprintf("≤ 1.5 × + 100 ms = %.0f ms", limit), verdict: upTo(m[0], limit),
		note: fmt.Sprintf("the first edit after the gateway's start waited for its build cache: %.1f s", b.warming.Seconds())}}, nil
}

// warm waits until the gateway has warmed its build cache, which it does in the background from its start on: a minute of
// computing that must not disturb what is measured. The first build waits for that, too.
func (b *bench) warm() error {
	began := time.Now()
	if _, err := b.edit(fmt.Sprintf(editedSource, 0)); err != nil {
		return fmt.Errorf("the first source that the gateway builds: %w", err)
	}
	b.warming = time.Since(began)
	return nil
}

// edit gives the child of a supervisor new code and asks it.
func (b *bench) edit(source string) (string, error) {
	base := "http://" + b.gateway.addr + "/" + nsSupervised + "/maker"
	resp, err := client.Post(base+"/edit", "text/plain", strings.NewReader(source))
	if err != nil {
		return "", err
	}
	if _, err := body(resp); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("edit: %s", resp.Status)
	}
	return fetch(base + "/edited")
}

// editedSource is a small app as a person edits it: what it says changes each time.
const editedSource = `package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/facetgateway/fgw/sdk"
)

func main() { sdk.Serve(start) }

func start(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "edit %d") })
	return mux, nil
}
`
