package logs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestFollow(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	w := s.Writer(addr(t, "n/o/a"), 1)
	other := s.Writer(addr(t, "n/p/a"), 1)
	w.Append(StreamOutput, "", "before")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	idle := make(chan bool, 100)
	got := make(chan string, 100)
	var ended error
	var wg sync.WaitGroup
	wg.Go(func() {
		q := Query{Prefix: addr(t, "n/o"), Follow: true, Idle: func() { idle <- true }}
		ended = s.Read(ctx, q, func(l Line) error { got <- l.Line; return nil })
	})
	<-idle
	for i := range 50 {
		other.Append(StreamOutput, "", "another's")
		w.Append(StreamOutput, "", fmt.Sprint("line ", i))
	}
	for i := -1; i < 50; i++ {
		want := fmt.Sprint("line ", i)
		if i < 0 {
			want = "before"
		}
		if l := <-got; l != want {
			t.Fatalf("%q instead of %q", l, want)
		}
	}
	cancel()
	wg.Wait()
	if !errors.Is(ended, context.Canceled) {
		t.Errorf("it ended with %v", ended)
	}
	if err := s.run(t.Context(), func() {
		if len(s.followers) != 0 {
			t.Error("the follower is still there")
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// Between the lines that are kept and those to come none may be missing or come twice.
func TestFollowHasNoSeam(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	w := s.Writer(addr(t, "n/o/a"), 1)
	const n = 2000
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range n {
			w.Append(StreamOutput, "", fmt.Sprint(i))
		}
	})
	done := errors.New("done")
	next := 0
	err := s.Read(t.Context(), Query{Follow: true}, func(l Line) error {
		if l.Line != fmt.Sprint(next) {
			return fmt.Errorf("line %s instead of %d", l.Line, next)
		}
		if next++; next == n {
			return done
		}
		return nil
	})
	writer.Wait()
	if err != done {
		t.Error(err)
	}
}

func TestSlowFollowerIsTold(t *testing.T) {
	f := &follower{lines: make(chan Line, 2)}
	for i := range 5 {
		f.offer(&entry{line: Line{Line: fmt.Sprint(i)}})
	}
	close(f.lines)
	var got []string
	err := f.follow(t.Context(), Query{}, func(l Line) error { got = append(got, l.Line); return nil })
	if !errors.Is(err, ErrClosed) || len(got) != 3 || !strings.HasPrefix(got[0], "3 lines are missing here") || got[2] != "1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCloseEndsFollowers(t *testing.T) {
	s, _ := open(t, t.TempDir(), 0)
	idle := make(chan bool, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Read(context.Background(), Query{Follow: true, Idle: func() { idle <- true }}, func(Line) error { return nil })
	}()
	<-idle
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("it ended with %v", err)
	}
	s.Writer(addr(t, "n/o/a"), 1).Append(StreamOutput, "", "too late") // must not block or panic
}

func TestRotatedWhileRead(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, 0)
	a := addr(t, "n/o/a")
	s.Writer(a, 1).Append(StreamOutput, "", "old")
	var sources []source
	if err := s.run(t.Context(), func() {
		sources = s.files.sources(a)
		if err := s.files.rotate(s.files.byID[idOf(a)]); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	s.Writer(a, 1).Append(StreamOutput, "", "new")
	if got := read(t, s, Query{}); len(got) != 2 {
		t.Fatal(got)
	}
	if got := tail(sources, Query{}); len(got) != 1 || got[0].Line != "old" {
		t.Errorf("what was there when the reader asked: %v", got)
	}
}
