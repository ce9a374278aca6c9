package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogsFollow(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	app := deployTemplate(t, g, "counter")
	edit(t, app, "w.Header()", `f.Logger().InfoContext(r.Context(), "needle", "n", n); w.Header()`)
	g.must("deploy", app, "--namespace", "t")
	follow := exec.Command(program(t), "logs", "-f", "t/a/counter", "--data", g.data, "--output", "json")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		follow.Process.Kill()
		follow.Wait()
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	resp, err := http.Get("http://" + g.addr + "/t/a/counter/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for deadline := time.After(patience); ; {
		select {
		case <-deadline:
			t.Fatal("the line did not come")
		case line, open := <-lines:
			if !open {
				t.Fatal("logs -f ended")
			}
			var r struct{ Address, Line, RequestID, Stream string }
			var raw map[string]any
			if json.Unmarshal([]byte(line), &raw) != nil || json.Unmarshal([]byte(line), &r) != nil {
				t.Fatalf("no JSON: %q", line)
			}
			if !strings.Contains(r.Line, "needle") {
				continue
			}
			if r.Address != "t/a/counter" || !strings.Contains(r.Line, "n=0") || raw["request_id"] != resp.Header.Get("X-Request-Id") {
				t.Errorf("the line says %s", line)
			}
			return
		}
	}
}
