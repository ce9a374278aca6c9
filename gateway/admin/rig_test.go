package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/registry"
)

// runtime is a Runtime that runs nothing: it remembers what it was told.
type runtime struct {
	reg *registry.Registry
	sql func(ctx context.Context) (Session, error)

	mu   sync.Mutex
	told []string
}

func (r *runtime) tell(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf(format, args...))
	return nil
}

func (r *runtime) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.told) == 0 {
		return ""
	}
	return r.told[len(r.told)-1]
}

func (r *runtime) known(a address.Address) error {
	if a.Object == "nobody" {
		return fmt.Errorf("facet %w", registry.ErrNotFound)
	}
	return nil
}

func (r *runtime) info(a address.Address) FacetInfo {
	pid := 42
	return FacetInfo{Address: a.String(), Namespace: a.Namespace, Object: a.Object, Facet: a.Facet(), State: StateRunning, PID: &pid}
}

func (r *runtime) Facets(_ context.Context, prefix address.Address) ([]FacetInfo, error) {
	if prefix.Object == "" || prefix.Object == "nobody" {
		return nil, nil
	}
	return []FacetInfo{r.info(prefix.Child("a/b"))}, nil
}

func (r *runtime) Inspect(_ context.Context, a address.Address) (*FacetDetail, error) {
	return &FacetDetail{FacetInfo: r.info(a), Limits: registry.DefaultLimits(), Confinement: []byte(`{"uid":7}`)}, r.known(a)
}

func (r *runtime) Usage(_ context.Context, a address.Address) (*Usage, error) {
	return &Usage{Requests: 3}, r.known(a)
}

func (r *runtime) Abort(_ context.Context, a address.Address, reason string) error {
	return errors.Join(r.known(a), r.tell("abort %s: %s", a, reason))
}

func (r *runtime) Delete(_ context.Context, a address.Address) error { return r.tell("delete %s", a) }

func (r *runtime) Clone(_ context.Context, src, dst address.Address) error {
	return r.tell("clone %s %s", src, dst)
}

func (r *runtime) SQL(ctx context.Context, a address.Address) (Session, error) {
	if err := r.known(a); err != nil {
		return nil, err
	}
	return r.sql(ctx)
}

func (r *runtime) SetAudit(_ context.Context, a address.Address, on bool) error {
	if err := r.known(a); err != nil {
		return err
	}
	return r.tell("audit %s %v", a, on)
}

func (r *runtime) Deployed(_ context.Context, ns, app string) error {
	return r.tell("deployed %s/%s", ns, app)
}

func (r *runtime) RemoveObject(ctx context.Context, ns, object string) error {
	return r.reg.RemoveObject(ctx, ns, object)
}

func (r *runtime) RemoveNamespace(ctx context.Context, ns string, force bool) error {
	return r.reg.RemoveNamespace(ctx, ns, force)
}

func (r *runtime) Collectors() []prometheus.Collector {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "fgw_facet_starts_total", Help: "Starts."})
	c.Add(5)
	return []prometheus.Collector{c}
}

// gateway is a data directory with its admin socket served.
type gateway struct {
	dir     string
	reg     *registry.Registry
	logs    *logs.Store
	bundles *bundle.Store
	runtime *runtime
}

func serve(t testing.TB, dir string) *gateway {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g := &gateway{dir: dir}
	var err error
	g.reg, err = registry.Open(context.Background(), dir)
	must(err)
	t.Cleanup(func() { g.reg.Close() })
	g.logs, err = logs.Open(logs.Config{Dir: filepath.Join(dir, "logs")})
	must(err)
	t.Cleanup(func() { g.logs.Close() })
	g.bundles, err = bundle.NewStore(dir)
	must(err)
	g.runtime = &runtime{reg: g.reg}
	h := NewServer(Config{
		Registry: g.reg, Bundles: g.bundles, Logs: g.logs, Runtime: g.runtime, Invoke: http.HandlerFunc(echo),
		URL: func(ns *registry.Namespace, app string) (string, string) {
			return "http://gateway/" + ns.Name + "/me/" + app + "/", "http://" + app + "--me/"
		},
		Version: "v1", Listen: []string{"127.0.0.1:8080"}, MaxBundle: 64 << 20,
	})
	l := listen(t, dir)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, h, nil, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return g
}

// listen binds the socket by way of its directory, as long paths need it.
func listen(t testing.TB, dir string) *net.UnixListener {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // its name goes by way of a descriptor that is closed by then
	return l
}

// echo is a facet that tells what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	a, ok := InvokeAddress(r.Context())
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Path", r.URL.EscapedPath())
	w.WriteHeader(http.StatusTeapot)
	fmt.Fprintf(w, "%v %s %s %s %s %s %q", ok, a, r.Method, r.RequestURI, r.Host, r.Header.Get("X-Test")+r.Header.Get(addressHeader), body)
}

func dial(t testing.TB, dir string) *Client {
	t.Helper()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wants fails unless err is an *Error with that status and code.
func wants(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code || e.Message == "" {
		t.Errorf("%s: %#v (%v), want %d %s", what, err, err, status, code)
	}
}
