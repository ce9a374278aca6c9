package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/admin"
)

// Starts come in rounds: so many objects, then as many processes for the floor.
const (
	startRounds   = 5
	startsPerTurn = 20
)

// startGap is the pause between two requests where a process kept ready is measured: long enough for the next one to
// be there, short beside the time for which it is kept.
const startGap = 25 * time.Millisecond

// several takes the median of n measurements, with a pause before each.
func several(n int, gap time.Duration, one side) side {
	return func() (float64, error) {
		m, err := medians(n, func() (float64, error) {
			time.Sleep(gap)
			return one()
		})
		if err != nil {
			return 0, err
		}
		return m[0], nil
	}
}

// fresh asks new objects for something, one after another, and gives the median in milliseconds. path has a %d.
func (b *bench) fresh(addr, path string, gap time.Duration) side {
	from := 0
	return func() (float64, error) {
		l, err := b.load(addr, path, 1, from, "-n", strconv.Itoa(startsPerTurn), "-gap", gap.String())
		if err != nil {
			return 0, err
		}
		from += startsPerTurn
		return l.P50 / 1000, nil
	}
}

// newObject is the first request of an object that did not exist: one at once after another, and with pauses in which
// a process is made ready.
func newObject(b *bench) ([]row, error) {
	var all []row
	for _, pause := range []struct {
		gap        time.Duration
		name, says string
	}{{0, "r", ""}, {startGap, "p", ", a process kept ready"}} {
		rows, err := b.newObjects(pause.gap, pause.name, pause.says)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, b.gateway.asleep(nsCold, 30*time.Second)
}

func (b *bench) newObjects(gap time.Duration, name, says string) ([]row, error) {
	g := b.gateway.addr
	sides := []side{
		several(startsPerTurn, gap, b.forkExec),
		b.fresh(g, "/"+nsCold+"/plain-"+name+"%d/app/hello", gap),
		b.fresh(g, "/"+nsCold+"/table-"+name+"%d/table/hello", gap),
		b.fresh(g, "/"+nsSupervised+"/new-"+name+"%d/hello", gap),
	}
	if b.peer != nil {
		sides = append(sides, b.fresh(b.peer.addr, "/hello?object=new-"+name+"%d", gap))
	}
	m, err := medians(startRounds, sides...)
	if err != nil {
		return nil, err
	}
	if err := b.abortAll(nsSupervised + "/new-"); err != nil {
		return nil, err
	}
	floor := "fork+exec " + millis(m[0])
	rows := []row{
		{what: "first request of a new object" + says, figure: millis(m[1]), floor: floor, ratio: m[1] / m[0], target: "≤ 2 ×", verdict: upTo(m[1]/m[0], 2)},
		{what: "the same, whose app makes a table first" + says, figure: millis(m[2]), floor: floor, ratio: m[2] / m[0]},
		{what: "the same, behind a new supervisor: two processes" + says, figure: millis(m[3]), floor: floor, ratio: m[3] / m[0]},
	}
	if b.peer != nil {
		// There, too, a new object is a supervisor and its facet.
		r := m[3] / m[4]
		rows = append(rows, row{what: "a new object with its supervisor, against workerd" + says, figure: millis(m[3]), floor: "workerd " + millis(m[4]), ratio: r, target: "< 0.5 ×", verdict: upTo(r, 0.5)})
	}
	return rows, nil
}

// abortAll ends what runs below addresses with a prefix, so that it does not count in later rows.
func (b *bench) abortAll(prefix string) error {
	ns, _, _ := strings.Cut(prefix, "/")
	list, err := b.gateway.facets(ns)
	if err != nil {
		return err
	}
	for _, f := range list {
		if strings.HasPrefix(f.Address, prefix) && f.State == admin.StateRunning {
			ctx, cancel := context.WithTimeout(context.Background(), answerTime)
			err := b.gateway.admin.FacetsAbort(ctx, f.Address, "measured")
			cancel()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// wake is a request to a facet that was stopped because nobody asked.
func wake(b *bench) ([]row, error) {
	path := "/" + nsWake + "/idle-%d/app/hello"
	again := func(gap time.Duration) side {
		return func() (float64, error) {
			// Asked in the same order each time, so that the first has slept when the last is asked.
			l, err := b.load(b.gateway.addr, path, 1, 0, "-n", strconv.Itoa(startsPerTurn), "-gap", gap.String())
			if err != nil {
				return 0, err
			}
			return l.P50 / 1000, b.gateway.asleep(nsWake, 30*time.Second)
		}
	}
	if _, err := again(0)(); err != nil { // now they exist, and sleep
		return nil, err
	}
	m, err := medians(startRounds, several(startsPerTurn, 0, b.forkExec), again(0), several(startsPerTurn, startGap, b.forkExec), again(startGap))
	if err != nil {
		return nil, err
	}
	r := m[1] / m[0]
	return []row{
		{what: "wake of an idle facet", figure: millis(m[1]), floor: "fork+exec " + millis(m[0]), ratio: r, target: "≤ 1.5 ×", verdict: upTo(r, 1.5)},
		{what: "wake of an idle facet, a process kept ready", figure: millis(m[3]), floor: "fork+exec " + millis(m[2]), ratio: m[3] / m[2], target: "≤ 0.5 ms", verdict: upTo(m[3], 0.5)},
	}, nil
}

// memory is what facets keep for themselves that were asked once and wait: a Go net/http app with nothing in it.
func memory(b *bench) ([]row, error) {
	prefix := "/" + nsWake + "/memory-"
	if err := b.run("namespaces", "set", nsWake, "idle_timeout=3s"); err != nil {
		return nil, err
	}
	const many = 10
	if _, err := b.load(b.gateway.addr, prefix+"%d/app/hello", 1, 0, "-n", strconv.Itoa(many)); err != nil {
		return nil, err
	}
	list, err := b.gateway.facets(nsWake)
	if err != nil {
		return nil, err
	}
	var sizes []float64
	var pids []int
	for _, f := range list {
		if f.PID == nil {
			continue
		}
		n, err := privateBytes(*f.PID)
		if err != nil {
			return nil, err
		}
		sizes, pids = append(sizes, float64(n)), append(pids, *f.PID)
	}
	if len(sizes) < many {
		return nil, fmt.Errorf("%d facets run of %d", len(sizes), many)
	}
	if err := b.gateway.asleep(nsWake, 30*time.Second); err != nil {
		return nil, err
	}
	stopped := 0
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); errors.Is(err, os.ErrNotExist) {
			stopped++
		}
	}
	m := median(sizes)
	return []row{
		{what: "memory of a live idle facet, private", figure: megabytes(m), target: "≤ 5 MB", verdict: upTo(m, 5e6)},
		{what: "processes of " + strconv.Itoa(len(pids)) + " facets that were stopped for being idle", figure: strconv.Itoa(len(pids) - stopped), target: "0", verdict: upTo(float64(len(pids)-stopped), 0)},
	}, nil
}

// privateBytes is what a process shares with no other.
func privateBytes(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "Private_") {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n << 10
		}
	}
	return sum, nil
}
