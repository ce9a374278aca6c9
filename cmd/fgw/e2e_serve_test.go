package main

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNoGateway(t *testing.T) {
	data := filepath.Join(t.TempDir(), "nobody here")
	got := fgw(t, "namespaces", "ls", "--data", data)
	if got.code != exitNoGateway || !strings.Contains(got.stderr, "hint: start one: fgw serve --listen 127.0.0.1:8080 --data '"+data+"'") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestServeRefuses(t *testing.T) {
	top := t.TempDir()
	g := startGateway(t, filepath.Join(top, "data"))
	second := fgw(t, "serve", "--data", g.data, "--listen", "127.0.0.1:0")
	if second.code != exitConflict || second.stdout != "" || !strings.Contains(second.stderr, "in use") {
		t.Errorf("a second gateway: %+v", second)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := fgw(t, "serve", "--data", filepath.Join(top, "other"), "--listen", taken.Addr().String())
	if port.code != exitFailed || port.stdout != "" || !strings.Contains(port.stderr, taken.Addr().String()) || !strings.Contains(port.stderr, "hint: ") {
		t.Errorf("a port in use: %+v", port)
	}
}

func TestServeRefusesNewerData(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	startGateway(t, data).stop()
	db, err := sql.Open("sqlite", filepath.Join(data, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`PRAGMA user_version = 1000000`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	got := fgw(t, "serve", "--data", data, "--listen", "127.0.0.1:0", "--output", "json")
	if got.code != exitConflict || got.stdout != "" || !strings.Contains(got.stderr, `"code":"newer_version"`) || !strings.Contains(got.stderr, "hint: ") {
		t.Errorf("%+v", got)
	}
}

func TestServeWithALongDataDirectory(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), strings.Repeat("long-", 20), strings.Repeat("longer-", 20)))
	g.must("namespaces", "create", "t")
	if got := g.must("namespaces", "ls"); !strings.Contains(got, "\nt ") {
		t.Errorf("namespaces ls says %q", got)
	}
}

func TestServeStopsAtOnceWhenToldTwice(t *testing.T) {
	g := startGateway(t, filepath.Join(t.TempDir(), "data"))
	deployTemplate(t, g, "guestbook")
	held, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	fmt.Fprintf(held, "POST /t/a/guestbook/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
	g.cmd.Process.Signal(os.Interrupt)
	eventually(t, "the first signal is logged", func() bool { return strings.Contains(g.log.String(), "stopping") })
	// The cleanup sends the second signal and waits for the end.
}
