package sdk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/sdk/internal/boot"
	"github.com/facetgateway/fgw/sdk/internal/sqldproc"
	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// Where an app outside a gateway listens.
const (
	envListen     = "FGW_LISTEN" // host:port
	envPort       = "PORT"
	localHost     = "127.0.0.1"
	firstPort     = 8080
	portsTried    = 20 // from firstPort on, where neither variable is set
	drainTime     = 5 * time.Second
	streamTime    = 300 * time.Millisecond // of it, for requests to end by themselves
	devDir        = ".fgw"
	devFile       = "dev.db"
	envProps      = "FGW_PROPS" // JSON, for Facet.Props
	devNamespace  = "dev"
	devObject     = "local"
	headerTimeout = 10 * time.Second
)

// serveAlone serves an app that was started without a gateway, until ^C; it returns the exit code.
func serveAlone(start StartFunc, source string) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	dir, err := sourceDir(source)
	if err == nil {
		err = serveDev(ctx, start, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// sourceDir returns the folder of the file that calls Serve, or, where that is not on this
// machine, the working directory.
func sourceDir(source string) (string, error) {
	if filepath.IsAbs(source) {
		if _, err := os.Stat(source); err == nil {
			return filepath.Dir(source), nil
		}
	}
	return os.Getwd()
}

// serveDev serves an app whose database lies below dir, until the context ends.
func serveDev(ctx context.Context, start StartFunc, dir string) error {
	file, err := devDatabase(dir)
	if err != nil {
		return err
	}
	worker, err := sqldproc.Start(file)
	if err != nil {
		return err
	}
	defer worker.Stop()
	channel, err := client.New(worker.Channel, 0)
	if err != nil {
		return err
	}
	defer channel.Close()
	register(channel)

	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	facet, instance, err := Boot(life, boot.Config{
		Start:  &wire.Start{Namespace: devNamespace, Object: devObject, Name: filepath.Base(dir), ID: devNamespace, Props: []byte(os.Getenv(envProps)), Database: true},
		SQL:    channel,
		Log:    withRequestID{slog.NewTextHandler(os.Stderr, nil)},
		Lookup: os.LookupEnv,
	}, start)
	if err != nil {
		if channel.Err() != nil {
			err = errors.Join(err, worker.Why())
		}
		return startError(err)
	}
	listener, err := listenDev(os.Getenv)
	if err != nil {
		return err
	}
	fmt.Printf("%s: http://%s/ database %s\n", facet.Name(), listener.Addr(), file)
	return serveUntil(ctx, listener, instance, worker)
}

func startError(err error) error {
	var f *FacetError
	if errors.As(err, &f) && f.Stack != "" {
		return fmt.Errorf("start: %w\n\n%s", err, f.Stack)
	}
	return fmt.Errorf("start: %w", err)
}

// serveUntil serves until the context ends, or the worker, without which the app is of no use.
func serveUntil(ctx context.Context, l net.Listener, in boot.Instance, worker *sqldproc.Proc) error {
	requests, cutStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer cutStreams()
	server := &http.Server{Handler: numbered{in.Handler}, ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return requests }}
	if in.RingDue != nil {
		go ringAlarms(requests, in.RingDue)
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	var err error
	select {
	case err = <-failed:
	case <-worker.Done():
		err = worker.Why()
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	timer := time.AfterFunc(streamTime, cutStreams) // streams of events would never end
	defer timer.Stop()
	if server.Shutdown(drain) != nil {
		server.Close()
	}
	in.Stop(drain)
	return err
}

// How often an app on its own looks at its alarm; after a failure it waits longer, twice as long each time.
const (
	alarmEvery   = time.Second
	alarmSlowest = time.Minute
)

// ringAlarms calls the app's alarm function when its alarm is due, until the context ends.
func ringAlarms(ctx context.Context, ring func(context.Context) (bool, error)) {
	for wait := alarmEvery; ; {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if _, err := ring(ctx); err != nil && ctx.Err() == nil {
			slog.Error("the alarm failed and is tried again", "error", err)
			wait = min(2*wait, alarmSlowest)
			continue
		}
		wait = alarmEvery
	}
}

// devDatabase returns the database file below dir and makes its folder, which version control ignores.
func devDatabase(dir string) (string, error) {
	folder := filepath.Join(dir, devDir)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make a place for the database: %w", err)
	}
	ignore := filepath.Join(folder, ".gitignore")
	if _, err := os.Stat(ignore); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(ignore, []byte("*\n"), 0o644); err != nil {
			return "", fmt.Errorf("make a place for the database: %w", err)
		}
	}
	return filepath.Join(folder, devFile), nil
}

// listenDev listens where the environment says, or else on the first port that is free.
func listenDev(getenv func(string) string) (net.Listener, error) {
	if at := getenv(envListen); at != "" {
		return net.Listen("tcp", at)
	}
	if port := getenv(envPort); port != "" {
		return net.Listen("tcp", net.JoinHostPort(localHost, port))
	}
	var err error
	for port := firstPort; port < firstPort+portsTried; port++ {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(localHost, strconv.Itoa(port))); err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("%w (set PORT or FGW_LISTEN)", err)
}

// numbered gives requests the ids that a gateway would.
type numbered struct{ next http.Handler }

func (n numbered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := rand.Text()
	r.Header.Set(headerRequestID, id)
	w.Header().Set(headerRequestID, id)
	n.next.ServeHTTP(w, r)
}

// withRequestID adds the request's id to each record.
type withRequestID struct{ slog.Handler }

func (h withRequestID) Handle(ctx context.Context, r slog.Record) error {
	if id := requestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withRequestID) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withRequestID{h.Handler.WithAttrs(attrs)}
}

func (h withRequestID) WithGroup(name string) slog.Handler {
	return withRequestID{h.Handler.WithGroup(name)}
}
