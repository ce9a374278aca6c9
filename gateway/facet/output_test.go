package facet

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
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

// yamux gives a wire up by closing it: that is not the other end's doing.
func TestSocketTellsWhoFailed(t *testing.T) {
	ours, theirs := net.Pipe()
	s := &socket{Conn: ours}
	go io.WriteString(theirs, "x")
	if _, err := s.Read(make([]byte, 1)); err != nil || s.failed.Load() {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil || !s.failed.Load() {
		t.Errorf("the other end closed it: %v, %v", err, s.failed.Load())
	}
	f, other, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	s = &socket{Conn: c}
	c.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil || s.failed.Load() {
		t.Errorf("we closed it: %v, %v", err, s.failed.Load())
	}
	if _, err := s.Write([]byte("x")); err == nil || s.failed.Load() || !strings.Contains(err.Error(), "closed") {
		t.Errorf("we closed it: %v, %v", err, s.failed.Load())
	}
}
