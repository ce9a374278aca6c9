package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/gateway/registry"
)

// manyLive is how many facets run at once, manyKnown how many objects a gateway knows.
const (
	manyLive  = 1000
	manyKnown = 100_000
)

// live is a thousand facets at once: what they and their gateway take together, and how one of them answers.
func live(b *bench) ([]row, error) {
	g := b.gateway
	path := "/" + nsLive + "/o-%d/app/hello"
	began := time.Now()
	if _, err := b.load(g.addr, path, 1, 0, "-n", strconv.Itoa(manyLive)); err != nil {
		return nil, err
	}
	started := time.Since(began)
	list, err := g.facets(nsLive)
	if err != nil {
		return nil, err
	}
	running := 0
	for _, f := range list {
		if f.PID != nil {
			running++
		}
	}
	if running != manyLive {
		return nil, fmt.Errorf("%d facets run of %d", running, manyLive)
	}
	used, err := g.memory()
	if err != nil {
		return nil, err
	}
	routines, err := g.metric("go_goroutines")
	if err != nil {
		return nil, err
	}
	one := func() (float64, error) {
		l, err := b.load(g.addr, warmPath+"/hello", 1, 0, "-n", strconv.Itoa(manyLive))
		if err != nil {
			return 0, err
		}
		return l.P50, nil
	}
	each := func() (float64, error) {
		l, err := b.load(g.addr, path, 1, 0, "-n", strconv.Itoa(manyLive))
		if err != nil {
			return 0, err
		}
		return l.P50, nil
	}
	m, err := medians(3, one, each)
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "1,000 facets at once and their gateway, memory", figure: megabytes(used), target: "≤ 8 GB", verdict: upTo(used, 8e9),
			note: fmt.Sprintf("they were started one after another in %.1f s; the gateway has %.0f goroutines then", started.Seconds(), routines)},
		{what: "a request to each of them in turn, p50", figure: micros(m[1]), floor: "to one of them alone " + micros(m[0]), ratio: m[1] / m[0]},
	}, b.abortAll(nsLive + "/")
}

// known is a gateway that knows a hundred thousand objects of which none runs, against one that knows none. It is a gateway of
// its own, on a data directory that is filled without it: asked for one by one, objects take minutes.
func known(b *bench) ([]row, error) {
	dir := filepath.Join(b.dir, "known")
	const name = "known"
	g, err := b.launch(dir)
	if err != nil {
		return nil, err
	}
	defer func() { g.stop() }()
	for _, args := range [][]string{
		{"namespaces", "create", name},
		{"namespaces", "set", name, "idle_timeout=1s", fmt.Sprint("max_objects=", 2*manyKnown)},
		{"deploy", b.app, "--namespace", name, "--app", "app"},
	} {
		if err := g.run(b.fgw, args...); err != nil {
			return nil, err
		}
	}
	var states [2]struct{ start, memory, routines float64 } // without and with objects
	for i := range states {
		g.stop()
		if i == 1 {
			if err := makeKnown(dir, name); err != nil {
				return nil, err
			}
		}
		again, err := b.launch(dir)
		if err != nil {
			return nil, err
		}
		g = again
		s := &states[i]
		s.start = float64(g.started.Microseconds()) / 1000
		if s.memory, err = g.resident(); err != nil {
			return nil, err
		}
		if s.routines, err = g.metric("go_goroutines"); err != nil {
			return nil, err
		}
	}
	if n, err := g.metric(`fgw_objects{namespace="` + name + `"}`); err != nil || n != manyKnown {
		return nil, fmt.Errorf("the gateway knows %.0f objects of %d: %v", n, manyKnown, err)
	}
	m, err := medians(startRounds, b.fresh(b.gateway.addr, "/"+nsCold+"/few-%d/app/hello", 0), b.fresh(g.addr, "/"+name+"/o-%d/app/hello", 0))
	if err != nil {
		return nil, err
	}
	none, all := states[0], states[1]
	more := all.routines - none.routines
	return []row{
		{what: "goroutines of a gateway for 100,000 known objects", figure: fmt.Sprintf("%+.0f", more), floor: fmt.Sprintf("knowing none %.0f", none.routines), target: "0", verdict: upTo(more, 0)},
		{what: "memory of a known object that does not run", figure: fmt.Sprintf("%.0f bytes", max(0, all.memory-none.memory)/manyKnown), floor: "the gateway, knowing none, " + megabytes(none.memory)},
		{what: "start of a gateway that knows 100,000 objects", figure: millis(all.start), floor: "knowing none " + millis(none.start), ratio: all.start / none.start},
		{what: "first request of one of 100,000 known objects", figure: millis(m[1]), floor: "of a new one among few " + millis(m[0]), ratio: m[1] / m[0]},
	}, b.gateway.asleep(nsCold, 30*time.Second)
}

// makeKnown writes objects, each with a facet, into the registry of a gateway that does not run. Many at
// once, since those that wait together share a commit.
func makeKnown(dir, namespace string) error {
	ctx := context.Background()
	r, err := registry.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer r.Close()
	ns, err := r.Namespace(namespace)
	if err != nil {
		return err
	}
	var (
		next   atomic.Int64
		all    sync.WaitGroup
		once   sync.Once
		failed error
	)
	for range 128 {
		all.Go(func() {
			for n := next.Add(1) - 1; n < manyKnown; n = next.Add(1) - 1 {
				if _, _, _, err := r.Ensure(ctx, ns, fmt.Sprint("o-", n), "app"); err != nil {
					once.Do(func() { failed = err })
					return
				}
			}
		})
	}
	all.Wait()
	if failed != nil {
		return failed
	}
	// They belong to the user to whom the directory was given.
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, owner, owner)
	})
}

// memory is what the gateway, its workers and its facets take together: what the kernel charges to their group, page tables and
// sockets included.
func (g *gateway) memory() (float64, error) {
	dir, err := treeDir(g.gatewayPID(), "memory")
	if err != nil {
		return 0, err
	}
	for _, file := range []string{"memory.usage_in_bytes", "memory.current"} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			return number(string(text))
		}
	}
	return 0, fmt.Errorf("%s does not say what its processes use", dir)
}
