package main

import "fmt"

const (
	crowd    = 32 // connections of a busy client
	rounds   = 5
	warmPath = "/" + nsBench + "/warm/app"
	overPath = "/" + nsSupervised + "/warm"
)

// rate measures requests a second.
func (b *bench) rate(addr, path, lasting string) side { return b.counted(addr, path, lasting, &cost{}) }

// counted measures requests a second and adds up what they cost those who serve them.
func (b *bench) counted(addr, path, lasting string, c *cost) side {
	return func() (float64, error) {
		before := c.now()
		l, err := b.load(addr, path, crowd, 0, "-for", lasting)
		if err != nil {
			return 0, err
		}
		c.add(before, l.Requests)
		return l.perSecond(), nil
	}
}

// served is the note that tells what a request costs, whoever else computes.
func served(gateway, proxy *cost) string {
	return fmt.Sprintf("CPU time of a request in all processes that serve it: %.0f µs; with ReverseProxy %.0f µs (ratio of the inverses %.2f)",
		gateway.each(), proxy.each(), proxy.each()/gateway.each())
}

// costs are counters for the gateway with all that it started, and for ReverseProxy with the app behind it.
func (b *bench) costs() (gateway, proxy *cost) {
	return &cost{pids: []int{b.gateway.cmd.Process.Pid}}, &cost{pids: []int{b.floors.proxy.cmd.Process.Pid, b.floors.behind.cmd.Process.Pid}}
}

// hello is a warm request without any work in it.
func hello(b *bench) ([]row, error) {
	g := b.gateway.addr
	ours, proxys := b.costs()
	sides := []side{
		b.counted(g, warmPath+"/hello", "1s", ours),
		b.counted(b.floors.proxy.addr, "/hello", "1s", proxys),
		b.rate(b.floors.direct.addr, "/hello", "1s"),
	}
	if b.peer != nil {
		sides = append(sides, b.rate(b.peer.addr, "/hello", "1s"))
	}
	m, err := medians(rounds, sides...)
	if err != nil {
		return nil, err
	}
	rows := []row{
		{what: "warm hello, 32 connections", figure: perSecond(m[0]), floor: "ReverseProxy " + perSecond(m[1]), ratio: m[0] / m[1],
			target: "≥ 1.5 ×", verdict: atLeast(m[0]/m[1], 1.5), note: served(ours, proxys)},
		{what: "the same, against no gateway at all", figure: perSecond(m[0]), floor: "direct " + perSecond(m[2]), ratio: m[0] / m[2]},
	}
	if b.peer != nil {
		rows = append(rows, row{what: "the same, against a facet of workerd", figure: perSecond(m[0]), floor: "workerd " + perSecond(m[3]),
			ratio: m[0] / m[3], target: "≥ 6 ×", verdict: atLeast(m[0]/m[3], 6)})
	}
	return rows, nil
}

// latency is what one request that waits for nobody takes longer through the gateway.
func latency(b *bench) ([]row, error) {
	p50 := func(addr, path string) side {
		return func() (float64, error) {
			l, err := b.load(addr, path, 1, 0, "-for", "700ms")
			if err != nil {
				return 0, err
			}
			return l.P50, nil
		}
	}
	m, err := medians(rounds, p50(b.gateway.addr, warmPath+"/hello"), p50(b.floors.direct.addr, "/hello"), p50(b.floors.proxy.addr, "/hello"))
	if err != nil {
		return nil, err
	}
	added := m[0] - m[1]
	return []row{{what: "added p50 latency, 1 connection", figure: micros(added), floor: "direct " + micros(m[1]), target: "≤ 150 µs", verdict: upTo(added, 150),
		note: fmt.Sprintf("p50 through the gateway %s, through ReverseProxy to the same handler %s", micros(m[0]), micros(m[2]))}}, nil
}

// supervised is hello behind a supervisor that hands each request over.
func supervised(b *bench) ([]row, error) {
	ours, proxys := b.costs()
	sides := []side{
		b.counted(b.gateway.addr, overPath+"/hello", "1s", ours),
		b.counted(b.floors.proxy.addr, "/hello", "1s", proxys),
	}
	if b.peer != nil {
		sides = append(sides, b.rate(b.peer.addr, "/hello", "1s"))
	}
	m, err := medians(rounds, sides...)
	if err != nil {
		return nil, err
	}
	r := row{what: "hello behind a supervisor of one's own, 32 connections", figure: perSecond(m[0]),
		floor: "ReverseProxy " + perSecond(m[1]), ratio: m[0] / m[1], target: "≥ 2.5 × workerd", note: served(ours, proxys)}
	if b.peer == nil {
		r.note += "; " + withoutPeer
		return []row{r}, nil
	}
	r.floor, r.ratio = "workerd "+perSecond(m[2]), m[0]/m[2]
	r.verdict = atLeast(r.ratio, 2.5)
	return []row{r}, nil
}
