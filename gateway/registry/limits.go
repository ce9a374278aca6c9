package registry

import (
	"encoding/json"
	"fmt"
	"time"
)

// Limits bounds what one facet of a namespace may use; MaxObjects bounds the
// namespace itself. In a namespace with a supervisor, memory, CPU and processes are those of the supervisor
// and all facets below it together. In JSON the fields read as people set them: sizes as
// "64MiB", times as "1s", the CPU as cores ("0.5"), counts as numbers.
type Limits struct {
	IdleTimeout      time.Duration
	StatementTimeout time.Duration
	RequestTimeout   time.Duration // to the head of the answer
	Memory           int64         // bytes
	Storage          int64         // bytes of one facet's database
	Body             int64         // bytes of one request's body
	CPUMilli         int64         // thousandths of a core
	Processes        int           // threads count as processes
	InFlight         int           // requests at once
	MaxObjects       int
}

// DefaultLimits are those of a new namespace.
func DefaultLimits() Limits {
	return Limits{
		IdleTimeout:      10 * time.Second,
		StatementTimeout: 5 * time.Second,
		RequestTimeout:   60 * time.Second,
		Memory:           256 << 20,
		Storage:          1 << 30,
		Body:             1 << 30,
		CPUMilli:         1000,
		Processes:        64,
		InFlight:         64,
		MaxObjects:       10_000,
	}
}

// SupervisorLimits are those of a namespace that has just been given a supervisor: several facets live in what
// bounds one otherwise.
func SupervisorLimits() Limits {
	l := DefaultLimits()
	l.Memory = 1 << 30
	l.CPUMilli = 2000
	l.Processes = 512 // some 80 Go programs
	return l
}

type limitsJSON struct {
	IdleTimeout      string `json:"idle_timeout"`
	StatementTimeout string `json:"statement_timeout"`
	RequestTimeout   string `json:"request_timeout"`
	Memory           string `json:"memory"`
	Storage          string `json:"storage"`
	Body             string `json:"body"`
	CPU              string `json:"cpu"`
	Processes        int    `json:"processes"`
	InFlight         int    `json:"in_flight"`
	MaxObjects       int    `json:"max_objects"`
}

// MarshalJSON writes the limits as people set them.
func (l Limits) MarshalJSON() ([]byte, error) {
	return json.Marshal(limitsJSON{
		IdleTimeout:      FormatDuration(l.IdleTimeout),
		StatementTimeout: FormatDuration(l.StatementTimeout),
		RequestTimeout:   FormatDuration(l.RequestTimeout),
		Memory:           FormatSize(l.Memory),
		Storage:          FormatSize(l.Storage),
		Body:             FormatSize(l.Body),
		CPU:              FormatCPU(l.CPUMilli),
		Processes:        l.Processes,
		InFlight:         l.InFlight,
		MaxObjects:       l.MaxObjects,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote; a field that is absent keeps its value.
func (l *Limits) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	for key, raw := range fields {
		rule, ok := limitRules[key]
		if !ok {
			continue // set by a newer program
		}
		text := string(raw)
		if len(raw) > 0 && raw[0] == '"' {
			if err := json.Unmarshal(raw, &text); err != nil {
				return err
			}
		}
		n, err := rule.parse(text)
		if err != nil {
			return fmt.Errorf("limit %s: %w", key, err)
		}
		rule.set(l, n)
	}
	return nil
}

// limitRule says how one limit is written and between which values it may lie.
type limitRule struct {
	min, max int64
	parse    func(string) (int64, error)
	format   func(int64) string
	set      func(*Limits, int64)
}

// limitRules is keyed by the names that `namespaces set` takes. The lower
// bounds are what a Go program needs to start at all; the upper ones keep a
// typing error from disarming a limit.
var limitRules = map[string]limitRule{
	"idle_timeout":      duration(100*time.Millisecond, 24*time.Hour, func(l *Limits, n int64) { l.IdleTimeout = time.Duration(n) }),
	"statement_timeout": duration(10*time.Millisecond, 10*time.Minute, func(l *Limits, n int64) { l.StatementTimeout = time.Duration(n) }),
	"request_timeout":   duration(100*time.Millisecond, time.Hour, func(l *Limits, n int64) { l.RequestTimeout = time.Duration(n) }),
	"memory":            size(16<<20, 64<<30, func(l *Limits, n int64) { l.Memory = n }),
	"storage":           size(64<<10, 1<<40, func(l *Limits, n int64) { l.Storage = n }),
	"body":              size(0, 1<<40, func(l *Limits, n int64) { l.Body = n }),
	"cpu":               {50, 64_000, ParseCPU, FormatCPU, func(l *Limits, n int64) { l.CPUMilli = n }},
	"processes":         count(8, 4096, func(l *Limits, n int64) { l.Processes = int(n) }),
	"in_flight":         count(1, 256, func(l *Limits, n int64) { l.InFlight = int(n) }),
	"max_objects":       count(0, 10_000_000, func(l *Limits, n int64) { l.MaxObjects = int(n) }),
}

func duration(lo, hi time.Duration, set func(*Limits, int64)) limitRule {
	parse := func(s string) (int64, error) { d, err := ParseDuration(s); return int64(d), err }
	format := func(n int64) string { return FormatDuration(time.Duration(n)) }
	return limitRule{int64(lo), int64(hi), parse, format, set}
}

func size(lo, hi int64, set func(*Limits, int64)) limitRule {
	return limitRule{lo, hi, ParseSize, FormatSize, set}
}

func count(lo, hi int64, set func(*Limits, int64)) limitRule {
	return limitRule{lo, hi, parseCount, func(n int64) string { return fmt.Sprint(n) }, set}
}

// setLimit sets one limit from its text; known is false where key is no limit.
func setLimit(l *Limits, key, text string) (known bool, err error) {
	rule, ok := limitRules[key]
	if !ok {
		return false, nil
	}
	n, err := rule.parse(text)
	allowed := fmt.Sprintf("from %s to %s is allowed", rule.format(rule.min), rule.format(rule.max))
	if err != nil {
		return true, fmt.Errorf("%s=%s: %w; %s", key, text, err, allowed)
	}
	if n < rule.min || n > rule.max {
		return true, fmt.Errorf("%w: %s=%s: %s", ErrBadValue, key, text, allowed)
	}
	rule.set(l, n)
	return true, nil
}
