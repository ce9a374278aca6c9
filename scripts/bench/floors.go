package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	_ "modernc.org/sqlite"
)

// diesWithUs ends a process when the thread that started it ends, which here is when this program does.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// helper is a process that something is compared with.
type helper struct {
	cmd  *exec.Cmd
	addr string // what it printed first
}

// help starts a process that prints its address once it serves.
func help(env []string, name string, args ...string) (*helper, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = diesWithUs()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &helper{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		h.end()
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	h.addr = strings.TrimSpace(line)
	return h, nil
}

func (h *helper) end() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

// floors are what requests through the gateway are compared with: the same handler without a gateway; behind the standard
// library's proxy, where the gateway could be; and a database without a gateway.
type floors struct {
	direct, behind, proxy, plain *helper
}

func (b *bench) startFloors() (err error) {
	socket := filepath.Join(b.dir, "hello.sock")
	start := func(h **helper, env []string, name string, args ...string) {
		if err == nil {
			if *h, err = help(env, name, args...); err == nil {
				b.atEnd((*h).end)
			}
		}
	}
	start(&b.floors.direct, []string{"BENCH_FLOOR=tcp 127.0.0.1:0"}, b.app)
	start(&b.floors.behind, []string{"BENCH_FLOOR=unix " + socket}, b.app)
	start(&b.floors.proxy, nil, b.self, "proxy", socket)
	start(&b.floors.plain, nil, b.self, "plain", filepath.Join(b.dir, "plain.db"))
	return err
}

// proxyMain is httputil.ReverseProxy to a unix socket, with as many idle connections as it can use.
func proxyMain(args []string) error {
	var d net.Dialer
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "app"}) },
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64, DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", args[0]) },
		},
	}
	return serveHere(proxy)
}

// plainMain increments as the app does, in the process that serves and with nothing between it and the database.
// Each commit is synced before it is answered (synchronous=FULL syncs the log).
func plainMain(args []string) error {
	db, err := sql.Open("sqlite", "file:"+args[0]+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // one writer at a time: more of them would wait for each other in SQLite, which is slower
	if _, err := db.Exec(`CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO counter VALUES (1, 0)`); err != nil {
		return err
	}
	return serveHere(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		add := plainAdd
		if r.URL.Path == "/transaction" {
			add = plainTransaction
		}
		n, err := add(r.Context(), db)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, n)
	}))
}

// plainOne is the statement of both.
const plainOne = `UPDATE counter SET n = n + 1 WHERE id = 1 RETURNING n`

func plainAdd(ctx context.Context, db *sql.DB) (n int64, err error) {
	err = db.QueryRowContext(ctx, plainOne).Scan(&n)
	return n, err
}

func plainTransaction(ctx context.Context, db *sql.DB) (n int64, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, plainOne).Scan(&n); err != nil {
		return 0, err
	}
	return n, tx.Commit()
}

// serveHere serves on a free port and prints its address.
func serveHere(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	if err := http.Serve(l, h); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
