package sandboxd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestControlCharacters(t *testing.T) {
	v := &voice{}
	for in, want := range map[string]string{
		"a line\n\tof text\n":                     "a line\n\tof text\n",
		"\x1b]0;title\x07\r\b\x00\x7f":            "?]0;title?????",
		"äöü ł 世界 é":                              "äöü ł 世界 é",
		"\xc2\x9b31m\xc2\xa0\xe2\x82\xac\xff\x9b": "\xc2?31m\xc2\xa0\xe2\x82\xac\xff\x9b",
	} {
		b := []byte(in)
		if v.plain(b); string(b) != want {
			t.Errorf("%q became %q, want %q", in, b, want)
		}
	}
	first, second := []byte("\xc2"), []byte("\x9b31m") // cut between two reads
	v.plain(first)
	if v.plain(second); string(second) != "?31m" {
		t.Errorf("the second half of a control character became %q", second)
	}
}

// source gives chunks at times, as a pipe does.
type source struct {
	chunk []byte
	times int
	every time.Duration
	last  string
}

func (s *source) Read(b []byte) (int, error) {
	time.Sleep(s.every)
	switch s.times--; {
	case s.times >= 0:
		return copy(b, s.chunk), nil
	case s.times == -1:
		return copy(b, s.last), nil
	}
	return 0, io.EOF
}

// copied is what goes to the error output of what comes from in.
func copied(in io.Reader) string {
	var out bytes.Buffer
	p := newPrinter(&out)
	p.copy(in, "the child")
	p.close()
	return out.String()
}

func TestOutputIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chunk := bytes.Repeat([]byte("x"), outputChunk)
		out := copied(&source{chunk: chunk, times: outputBurst / outputChunk, last: "the end\n"})
		if len(out) < outputBurst || out[outputBurst:] != "\nfgw: of what the child printed 8 bytes were dropped; they end with:\nthe end\n" {
			t.Errorf("a burst is copied as %d bytes, which end with %q", len(out), out[len(out)-100:])
		}
		start := time.Now()
		out = copied(&source{chunk: chunk, times: 2_000, last: "the end\n"})
		took := time.Since(start)
		if most := outputBurst + int(took.Seconds()+1)*outputRate*11/10; len(out) > most {
			t.Errorf("of a child that prints without end %d bytes are copied in %v, at most %d should be", len(out), took, most)
		}
		if took < 1_500*outputRest {
			t.Errorf("%d bytes were read away in %v", 2_000*outputChunk, took)
		}
		if !strings.HasSuffix(out, "the end\n") {
			t.Errorf("its last words: %q", out[len(out)-100:])
		}
		out = copied(&source{chunk: chunk, times: 1000, every: time.Second * outputChunk / outputRate, last: "the end\n"})
		if len(out) != 1000*outputChunk+len("the end\n") {
			t.Errorf("of a child that prints at the rate that it may %d bytes are copied", len(out))
		}
	})
}

// stopped is an error output that takes nothing until it is told to.
type stopped struct {
	out  bytes.Buffer
	goes chan struct{}
}

func (s *stopped) Write(b []byte) (int, error) {
	<-s.goes
	return s.out.Write(b)
}

// TestStoppedErrorOutput: nobody waits for long for a terminal that was stopped, and what comes after it goes on is seen.
func TestStoppedErrorOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &stopped{goes: make(chan struct{})}
		p := newPrinter(to)
		r, w := io.Pipe()
		p.wg.Go(func() { p.copy(r, "the child") })
		start := time.Now()
		for i := range 20 {
			fmt.Fprintf(w, "line %d\n", i)
		}
		if took := time.Since(start); took > outputStuck+time.Second {
			t.Errorf("20 lines took %v", took)
		}
		close(to.goes)
		synctest.Wait()
		fmt.Fprintln(w, "the last")
		w.Close()
		p.close()
		out := to.out.String()
		if !strings.HasPrefix(out, "line 0\n") || !strings.Contains(out, "bytes were dropped; they end with:\nline 1\n") || !strings.HasSuffix(out, "line 19\nthe last\n") {
			t.Errorf("what was printed:\n%s", out)
		}
		to = &stopped{goes: make(chan struct{})}
		p = newPrinter(to)
		p.queue <- []byte("never written")
		start = time.Now()
		p.close()
		if took := time.Since(start); took > outputStuck {
			t.Errorf("the end waits %v for a reader that does not read", took)
		}
		close(to.goes)
	})
}

// TestErrorOutputIsSandboxdsAlone: what was open for reading and writing where fgw was started is nobody's but sandboxd's.
func TestErrorOutputIsSandboxdsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "terminal")
	terminal, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	s := serveTo(t, terminal, t.TempDir())
	s.busy(t)
	named, all := s.family(t)
	for _, pid := range all {
		if pid == named["sandboxd"] {
			continue
		}
		for _, fd := range entries(t, fmt.Sprintf("/proc/%d/fd", pid)) {
			to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
			if err != nil {
				t.Fatal(err)
			}
			const accessMode = 0o3
			var pos, flags int
			fmt.Sscanf(string(info), "pos: %d\nflags: 0%o", &pos, &flags)
			switch {
			case to == path:
				t.Errorf("%d has sandboxd's error output as %s", pid, fd)
			case fd == "0" && to != os.DevNull:
				t.Errorf("%d has %s as its input", pid, to)
			case (fd == "1" || fd == "2") && (!strings.HasPrefix(to, "pipe:") || flags&accessMode != os.O_WRONLY):
				t.Errorf("%d has %s, opened with %#o, as %s", pid, to, flags, fd)
			}
		}
	}
	var none any
	s.must(t, &none, "print/40000") // in the pipe when the gateway ends
	s.ask(t, &none, "exit/3")
	if state := s.end(t); state.Success() {
		t.Errorf("sandboxd ended: %v", state)
	}
	out, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := strings.Index(string(out), "printed 39999 lines\n")
	if died := strings.Index(string(out), "serve: the gateway process ended"); last < 0 || died < last {
		t.Errorf("the gateway's last words end at byte %d, its end is told at %d of %d", last, died, len(out))
	}
}

// TestErrorOutputThatNobodyReads holds up neither the gateway nor its end.
func TestErrorOutputThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s := serveTo(t, w, t.TempDir())
	var none any
	for range 20 {
		s.must(t, &none, "print/10000")
	}
	s.busy(t)
	_, all := s.family(t)
	s.cmd.Process.Signal(syscall.SIGTERM)
	if state := s.end(t); !state.Success() {
		t.Errorf("sandboxd ended: %v", state)
	}
	gone(t, all)
}
