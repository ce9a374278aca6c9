package main

import "fmt"

const (
	crowd    = 32 // connections of a busy client
	rounds   = 5
	warmPath = "/" + nsBench + "/warm/app"
	overPath = "/" + nsSupervised + "/warm"
)

// rate measures requests a second.
func (b *bench) rate(addr, path string, lasting string) side {
	return func() (float64, error) {
		l, err := b.load(addr, path, crowd, 0, "-for", lasting)
		if err != nil {
			return 0, err
		}
		return l.perSecond(), nil
	}
}

// hello is a warm request without any work in it.
func hello(b *bench) ([]row, error) {
	g := b.gateway.addr
	sides := []side{
		b.rate(g, warmPath+"/hello", "1s"),
		b.rate(b.floors.proxy.addr, "/hello", "1s"),
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
			target: "≥ 1.5 ×", verdict: atLeast(m[0]/m[1], 1.5)},
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
	sides := []side{
		b.rate(b.gateway.addr, overPath+"/hello", "1s"),
		b.rate(b.floors.proxy.addr, "/hello", "1s"),
	}
	if b.peer != nil {
		sides = append(sides, b.rate(b.peer.addr, "/hello", "1s"))
	}
	m, err := medians(rounds, sides...)
	if err != nil {
		return nil, err
	}
	r := row{what: "hello behind a supervisor of one's own, 32 connections", figure: perSecond(m[0]),
		floor: "ReverseProxy " + perSecond(m[1]), ratio: m[0] / m[1], target: "≥ 2.5 × workerd"}
	if b.peer == nil {
		r.note = withoutPeer
		return []row{r}, nil
	}
	r.floor, r.ratio = "workerd "+perSecond(m[2]), m[0]/m[2]
	r.verdict = atLeast(r.ratio, 2.5)
	return []row{r}, nil
}
