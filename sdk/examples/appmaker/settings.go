package main

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

// settings are what an app may use. A zero is the studio's own limit, which none may pass; of memory what is usual.
type settings struct {
	Memory      int64    `json:"memory,omitempty"`       // bytes
	Storage     int64    `json:"storage,omitempty"`      // bytes
	RequestTime int64    `json:"request_time,omitempty"` // milliseconds
	Egress      []string `json:"egress,omitempty"`       // hosts that it may call; none: it reaches nothing
}

// Least values with which an app can start at all.
const (
	minMemory      = 16 << 20
	minStorage     = 64 << 10
	minRequestTime = 100
	maxHosts       = 20
)

// usualMemory is what a facet has that was given no limit of its own, where its supervisor has as much.
const usualMemory = 256 << 20

// check says what is wrong with the settings of an app, whose supervisor may use own.
func (s *settings) check(own sdk.Limits) error {
	switch {
	case own.Memory > 0 && s.Memory > own.Memory:
		return badRequest("memory: the studio itself has %s", size(own.Memory))
	case own.Storage > 0 && s.Storage > own.Storage:
		return badRequest("storage: the studio itself has %s", size(own.Storage))
	case own.RequestTime > 0 && s.RequestTime > own.RequestTime.Milliseconds():
		return badRequest("request time: the studio itself has %s", span(own.RequestTime.Milliseconds()))
	case s.Memory != 0 && s.Memory < minMemory:
		return badRequest("memory: an app needs %s to start", size(minMemory))
	case s.Storage != 0 && s.Storage < minStorage:
		return badRequest("storage: a database needs %s", size(minStorage))
	case s.RequestTime != 0 && s.RequestTime < minRequestTime:
		return badRequest("request time: it takes %d ms at least to start an app", minRequestTime)
	case s.RequestTime > math.MaxInt64/int64(time.Millisecond):
		return badRequest("request time: that is for ever")
	case len(s.Egress) > maxHosts:
		return badRequest("egress: at most %d hosts", maxHosts)
	}
	for _, host := range s.Egress {
		if !validHost(host) {
			return badRequest("egress: %q is no host; one is like api.example.com, *.example.com or api.example.com:8443", host)
		}
	}
	return nil
}

var hostName = regexp.MustCompile(`^(\*|(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$`)

func validHost(s string) bool {
	host := s
	if before, after, ok := strings.Cut(s, ":"); ok && strings.Count(s, ":") == 1 {
		if n, err := strconv.ParseUint(after, 10, 16); err != nil || n == 0 {
			return false
		}
		host = before
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return len(host) <= 253 && hostName.MatchString(host)
}

// hosts takes a text apart in which a person listed hosts.
func hosts(text string) []string {
	all := strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return c == ',' || c == ';' || c == ' ' || c == '\n' || c == '\r' || c == '\t' })
	slices.Sort(all)
	return slices.Compact(all)
}

// start is how an app with these settings starts.
func (s *settings) start(code sdk.Code) *sdk.Start {
	start := &sdk.Start{Code: code, Limits: sdk.Limits{Memory: s.Memory, Storage: s.Storage, RequestTime: time.Duration(s.RequestTime) * time.Millisecond}}
	if len(s.Egress) > 0 {
		start.Egress = sdk.EgressTo(s.Egress...)
	}
	return start
}

// span shows a number of milliseconds to a person.
func span(ms int64) string {
	if min := ms / 60_000; min > 0 && ms%60_000 == 0 {
		return fmt.Sprintf("%d min", min)
	}
	return strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64) + " s"
}

// size shows a number of bytes to a person.
func size(n int64) string {
	for _, unit := range []struct {
		name string
		of   int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.of {
			return strings.TrimSuffix(strconv.FormatFloat(float64(n)/float64(unit.of), 'f', 1, 64), ".0") + " " + unit.name
		}
	}
	return fmt.Sprintf("%d B", n)
}
