package main

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// increment reads, writes and commits, and answers once that is on disk: with one statement, as the peer does it, and
// in a transaction that the app begins and commits.
func increment(b *bench) ([]row, error) {
	sides := []side{
		b.rate(b.gateway.addr, warmPath+"/increment", "1500ms"),
		b.rate(b.floors.plain.addr, "/increment", "1500ms"),
		b.rate(b.gateway.addr, warmPath+"/transaction", "1500ms"),
		b.rate(b.floors.plain.addr, "/transaction", "1500ms"),
	}
	if b.peer != nil {
		sides = append(sides, b.rate(b.peer.addr, "/increment", "1500ms"))
	}
	m, err := medians(3, sides...)
	if err != nil {
		return nil, err
	}
	one := row{what: "durable increment, 32 connections on one facet", figure: perSecond(m[0]), floor: perCommit + perSecond(m[1]), ratio: m[0] / m[1]}
	three := row{what: "the same as BEGIN, UPDATE and COMMIT", figure: perSecond(m[2]), floor: perCommit + perSecond(m[3]), ratio: m[2] / m[3]}
	if b.peer == nil {
		one.target, one.note = "≥ 5 × workerd", withoutPeer
		return []row{one, three}, nil
	}
	peer := m[0] / m[4]
	return []row{
		one,
		{what: "the same, against a facet of workerd", figure: one.figure, floor: "workerd " + perSecond(m[4]), ratio: peer, target: "≥ 5 ×", verdict: atLeast(peer, 5)},
		three,
	}, nil
}

const perCommit = "SQLite in the serving process, a sync per commit "

// reads are queries by primary key, timed by the facet that makes them.
func reads(b *bench) ([]row, error) {
	read := func(n, callers int) side {
		return func() (float64, error) {
			text, err := b.gateway.get(fmt.Sprintf("%s/reads?n=%d&callers=%d", warmPath, n, callers))
			if err != nil {
				return 0, err
			}
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	stream, err := b.startEcho(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	packets, err := b.startEcho(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	echo := func(e *echo) side { return func() (float64, error) { return e.roundTrips(3000) } }
	m, err := medians(rounds, read(3000, 1), echo(stream), echo(packets), read(400, 64))
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "SQL read by primary key in a facet, 1 caller", figure: micros(m[0]), floor: "socketpair echo " + micros(m[1]), ratio: m[0] / m[1],
			target: "≤ 1.5 ×", verdict: upTo(m[0]/m[1], 1.5), note: fmt.Sprintf("the echo is between two Go processes over SOCK_STREAM; over SOCK_SEQPACKET %s", micros(m[2]))},
		{what: "the same, 64 callers, each", figure: micros(m[3]), floor: "socketpair echo " + micros(m[1]), ratio: m[3] / m[1], target: "≤ 8 µs", verdict: upTo(m[3], 8)},
	}, nil
}
