package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tick is the unit of CPU time in /proc, 1/100 s on every Linux that Go runs on.
const tick = 0.01

// cpuSeconds adds what a process and all its descendants have computed, each by its own. It tells what a request costs even where
// other work on the machine keeps the requests waiting.
func cpuSeconds(pid int, into map[int]float64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return // it has ended
	}
	// The name, which is in parentheses, may hold anything; the times are fields 14 and 15.
	if f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])); len(f) > 12 {
		for _, s := range f[11:13] {
			n, _ := strconv.ParseFloat(s, 64)
			into[pid] += n * tick
		}
	}
	for _, child := range children(pid) {
		cpuSeconds(child, into)
	}
}

// children are the processes that one has started and that have not ended.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// cost is a load side that also counts the CPU time of those who serve.
type cost struct {
	pids     []int
	seconds  float64
	requests int
}

func (c *cost) now() map[int]float64 {
	found := map[int]float64{}
	for _, pid := range c.pids {
		cpuSeconds(pid, found)
	}
	return found
}

// add counts what was computed since before. A process that has ended in the meantime took its count along: it
// is left out, where a difference of sums would subtract all that it ever did.
func (c *cost) add(before map[int]float64, requests int) {
	for pid, now := range c.now() {
		c.seconds += now - before[pid]
	}
	c.requests += requests
}

// each is the CPU time of one request, in microseconds.
func (c *cost) each() float64 { return c.seconds * 1e6 / float64(max(1, c.requests)) }
