package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// attempt is how dialling one address goes.
type attempt struct {
	takes time.Duration
	err   error
}

func TestRace(t *testing.T) {
	refused := errors.New("connection refused")
	for _, c := range []struct {
		name     string
		attempts []attempt
		winner   int // -1: none
		took     time.Duration
	}{
		{"the first is fast", []attempt{{takes: time.Millisecond}, {takes: 0}}, 0, time.Millisecond},
		{"the first fails at once", []attempt{{err: refused}, {takes: time.Millisecond}}, 1, time.Millisecond},
		{"the first hangs", []attempt{{takes: time.Hour}, {takes: time.Millisecond}}, 1, nextAddr + time.Millisecond},
		{"the first is slow, the second slower", []attempt{{takes: 2 * nextAddr}, {takes: time.Hour}}, 0, 2 * nextAddr},
		{"all fail", []attempt{{err: refused}, {err: refused}, {err: refused}}, -1, 0},
		{"all hang", []attempt{{takes: time.Hour}, {takes: time.Hour}}, -1, DefaultConnectTimeout},
		{"the last of many", []attempt{{err: refused}, {takes: time.Hour}, {err: refused}, {}}, 3, nextAddr},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), DefaultConnectTimeout, errConnectTimeout)
				defer cancel()
				var addrs []netip.AddrPort
				for i := range c.attempts {
					addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i)}), 80))
				}
				var open sync.Map // net.Conn to its attempt
				var running atomic.Int64
				begun := time.Now()
				got, err := race(ctx, addrs, func(ctx context.Context, ap netip.AddrPort) (net.Conn, error) {
					i := int(ap.Addr().As4()[3])
					running.Add(1)
					defer running.Add(-1)
					select {
					case <-time.After(c.attempts[i].takes):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if c.attempts[i].err != nil {
						return nil, c.attempts[i].err
					}
					here, there := net.Pipe()
					t.Cleanup(func() { there.Close() })
					open.Store(here, i)
					return here, nil
				})
				if took := time.Since(begun); took != c.took {
					t.Errorf("took %s, want %s", took, c.took)
				}
				if n := running.Load(); n != 0 {
					t.Errorf("%d attempts still run", n)
				}
				if c.winner < 0 {
					if err == nil {
						t.Error("a connection from nowhere")
					}
					if hung := c.attempts[0].takes > 0; hung != errors.Is(err, errConnectTimeout) {
						t.Errorf("error %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if i, _ := open.Load(got); i != c.winner {
					t.Errorf("address %v won, want %d", i, c.winner)
				}
				got.Close()
			})
		})
	}
}

// TestControl judges the address that the kernel is about to get, whatever was decided before.
func TestControl(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ap := netip.MustParseAddrPort(l.Addr().String())
	e := New(Config{})
	c, err := e.connect(t.Context(), target{host: "a.test", port: ap.Port()}, ap, true)
	if err == nil {
		c.Close()
		t.Fatal("connected to 127.0.0.1")
	}
	if f, ok := errors.AsType[*failure](err); !ok || f.code != CodeDenied {
		t.Errorf("%v, want a refusal", err)
	}
}
