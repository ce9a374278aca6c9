package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// bombs are the bad neighbours, and how many requests keep each kind busy.
var bombs = []struct {
	kind     string
	requests int
}{{"fork", 1}, {"memory", 1}, {"cpu", 1}, {"log", 1}, {"stream", 16}, {"sql", 4}}

// neighbours is how late a well-behaved facet answers at worst while others do harm, each kind alone and all together,
// against the same facet in peace.
func neighbours(b *bench) ([]row, error) {
	undo, err := b.groups.clientFirst()
	if err != nil {
		return nil, err
	}
	defer undo()
	p99 := func() (float64, error) {
		l, err := b.load(b.gateway.addr, warmPath+"/hello", 1, 0, "-for", "1200ms")
		if err != nil {
			return 0, err
		}
		return l.P99, nil
	}
	quiet := func() (float64, error) { return p99() }
	sides := []side{quiet}
	for i := range bombs {
		sides = append(sides, b.beside(p99, i))
	}
	every := make([]int, len(bombs))
	for i := range every {
		every[i] = i
	}
	sides = append(sides, b.beside(p99, every...))
	m, err := medians(3, sides...)
	if err != nil {
		return nil, err
	}
	var rows []row
	line := func(name string, v float64) {
		r := v / m[0]
		rows = append(rows, row{what: "p99 of a well-behaved facet beside " + name, figure: micros(v), floor: "quiet " + micros(m[0]), ratio: r, target: "≤ 3 ×", verdict: upTo(r, 3)})
	}
	for i, bomb := range bombs {
		line("a "+bomb.kind+" bomb", m[i+1])
	}
	line("all of them at once", m[len(m)-1])
	return rows, nil
}

// settle is how long bombs burn before it is measured, and how long the machine rests afterwards.
const settle = 400 * time.Millisecond

// beside measures while some of the bombs burn.
func (b *bench) beside(measure side, which ...int) side {
	return func() (float64, error) {
		ctx, stop := context.WithCancel(context.Background())
		var all sync.WaitGroup
		for _, i := range which {
			for range bombs[i].requests {
				all.Go(func() { b.burn(ctx, bombs[i].kind) })
			}
		}
		time.Sleep(settle)
		v, err := measure()
		stop()
		all.Wait()
		for _, i := range which {
			if e := b.run("facets", "abort", bombAddress(bombs[i].kind)); e != nil && err == nil {
				err = e
			}
		}
		time.Sleep(settle)
		return v, err
	}
}

func bombAddress(kind string) string { return fmt.Sprintf("%s/%s/app", nsBomb, kind) }

// burn keeps one request to a bomb going. It reads an answer slowly, and asks again where the facet was killed.
func (b *bench) burn(ctx context.Context, kind string) {
	url := fmt.Sprintf("http://%s/%s/bomb/%s", b.gateway.addr, bombAddress(kind), kind)
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return
		}
		resp, err := client.Do(req)
		if err == nil {
			for err == nil && ctx.Err() == nil {
				_, err = io.CopyN(io.Discard, resp.Body, 64<<10)
				pause(ctx, 10*time.Millisecond)
			}
			resp.Body.Close()
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
