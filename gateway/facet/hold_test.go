package facet

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/facetgateway/fgw/gateway/address"
)

func TestKeyCovers(t *testing.T) {
	for _, c := range []struct {
		k, other key
		covers   bool
	}{
		{key{"n", "", ""}, key{"n", "o", "a"}, true},
		{key{"n", "", ""}, key{"m", "o", "a"}, false},
		{key{"n", "o", ""}, key{"n", "o", ""}, true},
		{key{"n", "o", ""}, key{"n", "o", "a\x00b"}, true},
		{key{"n", "o", ""}, key{"n", "p", ""}, false},
		{key{"n", "o", "a"}, key{"n", "o", "a"}, true},
		{key{"n", "o", "a"}, key{"n", "o", "a\x00b"}, true},
		{key{"n", "o", "a"}, key{"n", "o", "ab"}, false},
		{key{"n", "o", "a"}, key{"n", "o", ""}, false},
	} {
		if got := c.k.covers(c.other); got != c.covers {
			t.Errorf("%q %q: %v", c.k, c.other, got)
		}
	}
}

// What is held can't start, even where nobody had heard of it when the hold began; what is beside it can.
func TestNothingStartsInWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Config{})
		defer m.exchanges.Close()
		object := address.Address{Namespace: "n", Object: "o"}
		release, err := m.holdAll(t.Context(), object, "removed")
		if err != nil {
			t.Fatal(err)
		}
		enter := func(k key) bool {
			held, err := m.enter(k)
			if err == nil && held == nil {
				m.live.Done()
			}
			return held == nil
		}
		if enter(key{"n", "o", "new"}) || enter(key{"n", "o", ""}) || !enter(key{"n", "p", "new"}) {
			t.Error("the hold is not on the object, or on more")
		}
		over := make(chan error, 2)
		go func() { // a first request
			_, err := m.nodeAt(key{"n", "o", "new"}, []string{"new"}).acquire(t.Context(), nil)
			over <- err
		}()
		go func() { // another removal of a part
			second, err := m.holdAll(t.Context(), address.Address{Namespace: "n", Object: "o", Facets: []string{"new"}}, "deleted")
			if err == nil {
				second()
			}
			over <- err
		}()
		synctest.Wait()
		select {
		case err := <-over:
			t.Errorf("it did not wait: %v", err)
		default:
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := m.holdAll(ctx, object, "removed"); !errors.Is(err, context.Canceled) {
			t.Errorf("who waits for a hold and gives up is told %v", err)
		}
		m.lives.Lock()
		m.closed = true // so that no process is wanted
		m.lives.Unlock()
		release()
		for range 2 {
			if err := <-over; err != nil && !errors.Is(err, errStopping) {
				t.Error(err)
			}
		}
		if len(m.holds) != 0 {
			t.Errorf("%d holds are left", len(m.holds))
		}
	})
}

// What is copied may start and be copied again, but not be deleted or replaced until the copy is made; two copies of one another don't
// wait for ever.
func TestWhatIsCopiedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Config{})
		defer m.exchanges.Close()
		at := func(names ...string) address.Address {
			return address.Address{Namespace: "n", Object: "o", Facets: names}
		}
		first, err := m.holdAll(t.Context(), at("dst"), "cloned over", at("src"))
		if err != nil {
			t.Fatal(err)
		}
		if held, err := m.enter(key{"n", "o", "src"}); err != nil || held != nil {
			t.Errorf("what is copied can't start: %v", err)
		} else {
			m.live.Done()
		}
		second, err := m.holdAll(t.Context(), at("other"), "cloned over", at("src", "kid"))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 3)
		for name, hold := range map[string]func() (func(), error){
			"deleted":  func() (func(), error) { return m.holdAll(t.Context(), at("src"), "deleted") },
			"below":    func() (func(), error) { return m.holdAll(t.Context(), at("src", "kid", "kid"), "deleted") },
			"replaced": func() (func(), error) { return m.holdAll(t.Context(), at("src"), "cloned over", at("dst")) },
		} {
			go func() {
				release, err := hold()
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				got <- name
				release()
			}()
		}
		synctest.Wait()
		first()
		synctest.Wait()
		if len(got) > 0 {
			t.Errorf("%s while a part of it is copied", <-got)
		}
		second()
		synctest.Wait()
		if len(got) != 3 || len(m.holds) != 0 {
			t.Errorf("%d went on in the end, %d holds are left", len(got), len(m.holds))
		}
	})
}
