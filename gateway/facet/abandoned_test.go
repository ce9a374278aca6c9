package facet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/registry"
	"github.com/facetgateway/fgw/gateway/sqld/control"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire"
)

// patient is a builder that builds until nobody waits, or it is told to end.
type patient struct {
	building chan struct{}
	end      chan struct{}
}

func (p *patient) Build(ctx context.Context, _ map[string]string) (string, []wire.Diagnostic, error) {
	p.building <- struct{}{}
	select {
	case <-ctx.Done():
		return "", nil, ctx.Err()
	case <-p.end:
		return "", []wire.Diagnostic{{Message: "wrong"}}, nil
	}
}

// A build that a facet asks to be checked ends when the facet closes the question, and not before.
func TestAbandonedCheck(t *testing.T) {
	source, _ := json.Marshal(map[string]string{"main.go": "package main"})
	for name, c := range map[string]struct {
		act  func(p *patient, facet net.Conn)
		want error
	}{
		"closed":       {func(_ *patient, facet net.Conn) { facet.Close() }, context.Canceled},
		"waited for":   {func(p *patient, _ net.Conn) { close(p.end) }, nil},
		"talked about": {func(p *patient, facet net.Conn) { facet.Write([]byte("x")); close(p.end) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := &patient{building: make(chan struct{}, 1), end: make(chan struct{})}
			m := NewManager(Config{Builder: p})
			defer m.exchanges.Close()
			ours, theirs := net.Pipe()
			defer ours.Close()
			defer theirs.Close()
			done := make(chan error, 1)
			go func() {
				found, err := m.checkSource(t.Context(), key{"n", "o", ""}, &wire.Code{Size: int64(len(source))}, gated{ours, func() error { return nil }})
				if err == nil && len(found) != 1 {
					err = errors.New("another answer")
				}
				done <- err
			}()
			theirs.Write(source)
			<-p.building
			c.act(p, theirs)
			select {
			case err := <-done:
				if !errors.Is(err, c.want) {
					t.Errorf("it ends with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on")
			}
			if m.intake.bytes != 0 || len(m.intake.objects) != 0 {
				t.Errorf("%d bytes are held", m.intake.bytes)
			}
		})
	}
}

// clerk is a SQL worker that removes no file before it is told how that ends.
type clerk struct {
	conn *control.Conn
	done chan struct{}
}

func (c *clerk) PID() int              { return 0 }
func (c *clerk) Kill() error           { return c.conn.Close() }
func (c *clerk) Done() <-chan struct{} { return c.done }

// clerks spawns clerks, which say what they are asked to remove.
func clerks(asked chan<- []string, reply <-chan string) sqlpool.Spawn {
	return func(_ context.Context, _ int, theirs, _ *os.File) (sqlpool.Worker, error) {
		fd, err := unix.Dup(int(theirs.Fd()))
		if err != nil {
			return nil, err
		}
		conn, err := control.NewConn(os.NewFile(uintptr(fd), "control"))
		if err != nil {
			return nil, err
		}
		c := &clerk{conn, make(chan struct{})}
		go func() {
			defer close(c.done)
			defer conn.Close()
			for {
				m, _, err := conn.Receive()
				if err != nil {
					return
				}
				if m.Op == control.Remove {
					asked <- m.Files
					conn.Send(&control.Message{Op: control.Reply, ID: m.ID, Error: <-reply}, nil)
				}
			}
		}()
		return c, nil
	}
}

// A deletion that has begun goes on when its caller leaves, and one that failed is finished by the next.
func TestAbandonedDelete(t *testing.T) {
	reg, ns := newRegistry(t)
	if _, _, _, err := reg.Ensure(t.Context(), ns, "o", "app", "kid"); err != nil {
		t.Fatal(err)
	}
	o, _, _, err := reg.Ensure(t.Context(), ns, "o", "other")
	if err != nil {
		t.Fatal(err)
	}
	asked, reply := make(chan []string, 1), make(chan string)
	pool, err := sqlpool.New(t.Context(), sqlpool.Config{Spawn: clerks(asked, reply), Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	m := NewManager(Config{Registry: reg, Databases: pool, Log: slog.New(slog.DiscardHandler)})
	defer m.exchanges.Close()
	app := address.Address{Namespace: "n", Object: "o", Facets: []string{"app"}}
	remove := func(outcome string) error {
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Delete(ctx, app) }()
		files := <-asked
		if len(files) != 2 || !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, "/2.db") }) {
			t.Errorf("removed: %v", files)
		}
		leave()
		reply <- outcome
		return <-done
	}
	if err := remove("the disk is bad"); err == nil || !strings.Contains(err.Error(), "disk is bad") {
		t.Errorf("it failed with %v", err)
	}
	if err := remove(""); err != nil {
		t.Errorf("its caller left, and it ended with %v", err)
	}
	if _, err := reg.FindFacet(t.Context(), o, "app"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if _, err := reg.FindFacet(t.Context(), o, "other"); err != nil {
		t.Errorf("another is not: %v", err)
	}
	if err := m.Delete(t.Context(), app); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
