package sandboxd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gatewayUnder is a whole gateway, served by this process.
type gatewayUnder struct {
	addr string
	dir  string
	stop context.CancelFunc
	done chan error
}

func serveGateway(t *testing.T, change ...func(*Config)) *gatewayUnder {
	t.Helper()
	needRoot(t)
	cfg := Config{
		DataDir: t.TempDir(), Listen: []string{"127.0.0.1:0"}, Workers: 2,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	ready := make(chan []string, 1)
	cfg.OnReady = func(addrs []string) { ready <- addrs }
	ctx, stop := context.WithCancel(context.Background())
	g := &gatewayUnder{dir: cfg.DataDir, stop: stop, done: make(chan error, 1)}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	copyProgram(t, filepath.Join(cfg.DataDir, "facet"))
	go func() { g.done <- Serve(ctx, cfg) }()
	select {
	case addrs := <-ready:
		g.addr = addrs[0]
	case err := <-g.done:
		t.Fatalf("serve: %v", err)
	case <-time.After(patience):
		t.Fatal("the gateway does not come up")
	}
	t.Cleanup(func() { stop() })
	return g
}

// copyProgram puts the test binary where a gateway finds it as a facet's program.
func copyProgram(t testing.TB, path string) {
	t.Helper()
	in, err := ownProgram()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o555)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// get has the gateway do something.
func (g *gatewayUnder) get(t *testing.T, v any, what string, path ...string) error {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	u := "http://" + g.addr + "/" + what
	if len(path) > 0 {
		u += "?path=" + url.QueryEscape(path[0])
	}
	r, err := c.Get(u)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(r.Body)
		return fmt.Errorf("%s: %s", what, strings.TrimSpace(string(b)))
	}
	return json.NewDecoder(r.Body).Decode(v)
}

// ended waits for Serve to return.
func (g *gatewayUnder) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-g.done:
		return err
	case <-time.After(patience):
		t.Fatal("serve does not return")
		return nil
	}
}

func TestServe(t *testing.T) {
	g := serveGateway(t)
	var pid int
	if err := g.get(t, &pid, "spawn"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := g.get(t, &pid, fmt.Sprintf("sqld/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	g.stop()
	if err := g.ended(t); err != nil {
		t.Errorf("serve: %v", err)
	}
}
