package main

import (
	"fmt"
	"slices"
	"time"
)

// median of what was measured; the mean of the two in the middle of an even number.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// quantile is the smallest of the measured values that at least q of them don't exceed.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	i := int(q*float64(len(s)) + 0.999999)
	return s[min(max(i-1, 0), len(s)-1)]
}

// side is one of the things that a row compares: it measures itself once.
type side func() (float64, error)

// interleave measures every side once a round, so that what else the machine does falls on all of them alike, and
// gives each side's measurements. Every other round goes backwards, lest one side always follow the same other.
func interleave(rounds int, sides ...side) ([][]float64, error) {
	all := make([][]float64, len(sides))
	for round := range rounds {
		for k := range sides {
			i := k
			if round%2 == 1 {
				i = len(sides) - 1 - k
			}
			v, err := sides[i]()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], v)
		}
	}
	return all, nil
}

// medians is interleave with the median of each side.
func medians(rounds int, sides ...side) ([]float64, error) {
	all, err := interleave(rounds, sides...)
	if err != nil {
		return nil, err
	}
	m := make([]float64, len(all))
	for i, v := range all {
		m[i] = median(v)
	}
	return m, nil
}

// timeout runs what could hang, for at most that long.
func timeout(d time.Duration, what string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("%s took more than %s", what, d)
	}
}
