package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// drain is how long calls under way may take once Serve is told to stop.
const drain = 5 * time.Second

type peerKey struct{}

// Serve serves h on the admin socket until ctx ends. Only root, the user of this
// process and uids may call; whoever else does gets 403, whatever the socket's mode.
func Serve(ctx context.Context, l *net.UnixListener, h http.Handler, uids []int, log *slog.Logger) error {
	allowed := append([]int{0, unix.Geteuid()}, uids...)
	srv := &http.Server{
		Handler:           guard(h, allowed),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// Streams end with it, not only calls.
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			uid, err := peerUID(c)
			if err != nil {
				uid = -1
			}
			return context.WithValue(ctx, peerKey{}, uid)
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("admin socket: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	err := srv.Shutdown(end)
	if err != nil {
		err = srv.Close()
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// guard refuses calls from users who may not make them.
func guard(h http.Handler, allowed []int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(peerKey{}).(int)
		if !ok || !slices.Contains(allowed, uid) {
			writeError(w, Errorf(http.StatusForbidden, "access_denied", "user %d may not administer this gateway", uid).
				WithHint("run it as root or as the user who started the gateway"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// peerUID tells who connected, as the kernel saw it then.
func peerUID(c net.Conn) (int, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}
