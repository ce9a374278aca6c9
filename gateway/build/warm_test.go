package build

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestWaitsForWhatItImports: a source waits for the SDK, and for modules only if it imports one.
func TestWaitsForWhatItImports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWarmth()
		waits := func(s *source) <-chan struct{} {
			passed := make(chan struct{})
			go func() {
				if err := w.wait(t.Context(), s); err != nil {
					t.Error(err)
				}
				close(passed)
			}()
			return passed
		}
		plain, rich := waits(&source{}), waits(&source{modules: true})
		synctest.Wait()
		if closed(plain) || closed(rich) {
			t.Error("a source did not wait for the SDK")
		}
		w.sdk.end()
		synctest.Wait()
		if !closed(plain) || closed(rich) {
			t.Errorf("with the SDK compiled: without modules %v, with modules %v; wanted true, false", closed(plain), closed(rich))
		}
		w.modules.end()
		synctest.Wait()
		if !closed(rich) {
			t.Error("with the modules compiled, a source that imports one still waits")
		}
	})
}

// TestGivesWayToBuilds: what is compiled aside begins after a quiet time and is ended by a build, but not for ever.
func TestGivesWayToBuilds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWarmth()
		w.begin() // the first source waits already
		begun := make(chan context.Context)
		finish := make(chan struct{})
		done := make(chan error)
		go func() {
			done <- w.aside(t.Context(), func(ctx context.Context) error {
				begun <- ctx
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-finish:
					return nil
				}
			})
		}()
		w.end()
		for range givesWay {
			from := time.Now()
			ctx := <-begun
			if quiet := time.Since(from); quiet != quietTime {
				t.Fatalf("it began after %v of quiet, wanted %v", quiet, quietTime)
			}
			w.begin()
			w.begin()
			<-ctx.Done()
			time.Sleep(time.Minute)
			w.end()
			time.Sleep(time.Minute)
			w.end()
			time.Sleep(quietTime / 2)
			w.begin() // within the quiet time, which starts anew
			w.end()
		}
		ctx := <-begun // at once: it has given way often enough
		w.begin()
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("it gave way once more")
		}
		close(finish)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestAsideFails: what fails by itself is not tried again here, and an end is told.
func TestAsideFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("it does not compile")
		if err := newWarmth().aside(t.Context(), func(context.Context) error { return wrong }); err != wrong {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := newWarmth().aside(ctx, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}
