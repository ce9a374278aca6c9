package build

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/facetgateway/fgw/gateway/problem"
)

// TestTurns has one owner ask for many builds and another for one, while something runs.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		if err := q.acquire(t.Context(), "busy"); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, name := range []string{"greedy", "greedy", "greedy", "modest", "greedy", "third", "modest"} {
			go func() {
				if err := q.acquire(t.Context(), name); err != nil {
					t.Error(err)
				}
				order = append(order, name) // one at a time: the queue's own promise
				q.release()
			}()
			synctest.Wait()
		}
		q.release()
		synctest.Wait()
		if want := []string{"greedy", "modest", "third", "greedy", "modest", "greedy", "greedy"}; !reflect.DeepEqual(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if q.free != 1 || q.waiting != 0 || len(q.owners) != 0 {
			t.Errorf("left: %+v", q)
		}
	})
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		q.acquire(t.Context(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- q.acquire(ctx, "b") }()
		got := make(chan error, 1)
		synctest.Wait()
		go func() { got <- q.acquire(t.Context(), "c") }()
		synctest.Wait()
		cancel()
		if err := <-gone; err == nil {
			t.Error("who gave up got a turn")
		}
		q.release()
		if err := <-got; err != nil {
			t.Error(err)
		}
		q.release()
		if q.free != 1 || q.waiting != 0 {
			t.Errorf("left: %+v", q)
		}
	})
}

func TestFullQueue(t *testing.T) {
	q := newQueue(1)
	q.acquire(t.Context(), "a")
	q.waiting = maxWaiting
	var p *problem.Error
	if err := q.acquire(t.Context(), "b"); !errors.As(err, &p) || p.Code != problem.Overloaded || p.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
}
