package facet

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/logs"
)

// What a program says first when it dies is kept, however much it prints after.
func TestWhyAProgramDiedIsKept(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines func(say func(string))
		want  string
	}{
		{"a trace of thousands of goroutines", func(say func(string)) {
			say("runtime: failed to create new OS thread (have 60 already; errno=11)")
			say("fatal error: newosproc")
			for i := range 5000 {
				say(fmt.Sprintf("goroutine %d [running]:", i))
			}
		}, "runtime: failed to create new OS thread (have 60 already; errno=11)"},
		{"a short one", func(say func(string)) {
			say("panic: oh no")
			say("goroutine 1 [running]:")
		}, "panic: oh no"},
		{"a later death", func(say func(string)) {
			say("panic: which was recovered and printed")
			for range 5000 {
				say("all is well")
			}
			say("fatal error: the last")
		}, "fatal error: the last"},
		{"nothing of the kind", func(say func(string)) { say("license expired") }, "license expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var o output
			test.lines(func(line string) { o.remember([]byte(line + "\n")) })
			if got := crashLine(o.said()); got != test.want {
				t.Errorf("it died of %q, wanted %q", got, test.want)
			}
			if n := len(o.said()); n > tailBytes+1000 {
				t.Errorf("%d bytes are kept", n)
			}
		})
	}
}

// A facet that prints without end waits for its reader, whatever is left when it ends is read at once, and what
// was not kept is told.
func TestFloodOfOutputWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := logs.Open(logs.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		a := address.Address{Namespace: "n", Object: "o", Facets: []string{"f"}}
		o := &output{log: store.Writer(a, 1), ends: make(chan struct{}), done: make(chan struct{})}
		r, w := io.Pipe()
		go o.read(r)
		block := strings.Repeat("talk\n", 1000)
		flood := func(blocks int) time.Duration {
			began := time.Now()
			for range blocks {
				io.WriteString(w, block)
			}
			return time.Since(began)
		}
		if took := flood(200); took > 0 {
			t.Errorf("a burst waited for %s", took)
		}
		if took := flood(100); took < 5*time.Second {
			t.Errorf("100,000 lines more were taken in %s", took)
		}
		close(o.ends)
		if took := flood(100); took > 0 {
			t.Errorf("the last of an ended process waited for %s", took)
		}
		w.Close()
		<-o.done
		o.log.Close()
		told := 0
		if err := store.Read(t.Context(), logs.Query{Prefix: a}, func(l logs.Line) error {
			if n := 0; l.Stream == logs.StreamGateway {
				fmt.Sscanf(l.Line, "%d lines were dropped", &n)
				told += n
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, dropped := store.Stats(); dropped < 300_000 || dropped > 395_000 || told < 90_000 {
			t.Errorf("%d of 400,000 lines were dropped; what is left of the log tells of %d", dropped, told)
		}
	})
}

// yamux gives a wire up by closing it: that is not the other end's doing.
func TestSocketTellsWhoFailed(t *testing.T) {
	ours, theirs := net.Pipe()
	s := &socket{Conn: ours}
	go io.WriteString(theirs, "FGW\x02\x00\x01\x00\x00x") // the answer to the start message is not passed on
	b := make([]byte, 1)
	if _, err := s.Read(b); err != nil || s.failed.Load() || !s.spoke.Load() || b[0] != 'x' {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil || !s.failed.Load() {
		t.Errorf("the other end closed it: %v, %v", err, s.failed.Load())
	}
	c, _ := wirePair(t)
	s = &socket{Conn: c}
	c.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil || s.failed.Load() {
		t.Errorf("we closed it: %v, %v", err, s.failed.Load())
	}
	if _, err := s.Write([]byte("x")); err == nil || s.failed.Load() || !strings.Contains(err.Error(), "closed") {
		t.Errorf("we closed it: %v, %v", err, s.failed.Load())
	}
}
