package sandboxd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// Errors of Serve that a caller can tell apart.
var (
	// ErrInUse is wrapped where another gateway holds the data directory.
	ErrInUse = errors.New("the data directory is in use by another gateway")
	// ErrForeign is wrapped where the directory holds something, and no fgw data.
	ErrForeign = errors.New("this is no data directory of fgw's")
	// ErrPortInUse is wrapped, beside the address, where a listener's port is taken.
	ErrPortInUse = errors.New("address already in use")
	// ErrLayerMissing is wrapped, by a *MissingError, where a required layer can't be had.
	ErrLayerMissing = errors.New("a required confinement layer is missing")
	// ErrDynamic is wrapped where the program needs a dynamic loader, which no confined process could find.
	ErrDynamic = errors.New("this program is not a static binary: build it with CGO_ENABLED=0")
	// ErrGatewayDied is wrapped, by an *EndedError, where the gateway process ended by itself.
	ErrGatewayDied = errors.New("the gateway process ended")
	// ErrLauncherDied is wrapped, by an *EndedError, where the launcher process ended by itself.
	ErrLauncherDied = errors.New("the launcher process ended")
)

// EndedError says how a process ended that should not have. It unwraps to ErrGatewayDied or ErrLauncherDied.
type EndedError struct {
	Which error
	Exit  protocol.Exit
}

func (e *EndedError) Error() string { return fmt.Sprintf("%v: %v", e.Which, e.Exit) }

// Unwrap gives the process that ended.
func (e *EndedError) Unwrap() error { return e.Which }

// MissingError names the required layers that can't be had.
type MissingError struct{ Layers []Layer }

func (e *MissingError) Error() string {
	// What is missing for one reason stands before that reason, told once.
	var s strings.Builder
	s.WriteString(ErrLayerMissing.Error() + ": ")
	for i, l := range e.Layers {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(l.Layer)
		if i+1 == len(e.Layers) || e.Layers[i+1].Detail != l.Detail {
			s.WriteString(" (" + l.Detail + ")")
		}
	}
	return s.String()
}

// Unwrap makes errors.Is(err, ErrLayerMissing) hold.
func (e *MissingError) Unwrap() error { return ErrLayerMissing }

// Config is what Serve needs to know. The zero value of a field means its default.
type Config struct {
	DataDir       string   // made, with its parents, where it is missing
	Listen        []string // TCP addresses for HTTP, "host:port"; port 0 picks one
	GatewayConfig []byte   // JSON for the gateway, opaque here; default {}
	Workers       int      // SQL workers; default one per core

	// Insecure names required layers without which code may run all the same: for
	// development only. See RequiredLayers.
	Insecure []string

	// MaxFacet clamps what the gateway may ask for one facet. Defaults: three quarters of the machine's
	// memory, 4096 processes, all cores.
	MaxFacet protocol.Limits
	// SQLMemory bounds one SQL worker; default 1 GiB.
	SQLMemory int64
	// Toolchain is the root of a Go toolchain (GOROOT) with which sources are built; "" where there is none.
	Toolchain string
	// GoCache is the cache of the go command of whoever starts sandboxd, trusted as the toolchain is; "" where there is none. The
	// builder that fills the gateway's cache reads it; the builders of foreign sources never see it.
	GoCache string
	// UIDBase is the first of 65,536 user ids that belong to this data directory: the
	// first is the gateway's, the others its facets'. Default: derived from the
	// directory's identity, see uidBase.
	UIDBase int

	// Exe is the program that is run again as launcher, gateway and SQL worker. Default: this one.
	Exe *os.File `json:"-"`
	// OnReady is called once, when the gateway serves.
	OnReady func(addrs []string) `json:"-"`
	Log     *slog.Logger         `json:"-"`

	// Stop, unless nil, ends Serve without a drain when it is closed.
	Stop <-chan struct{} `json:"-"`
}

// Bounds that a Config is held to.
const (
	MaxWorkers      = 256
	maxProcesses    = 4096
	minFacetMemory  = 8 << 20 // below it a Go program does not start
	minProcesses    = 4       // threads: Go needs 4 to 5
	defaultSQLBytes = 1 << 30
)

// withDefaults fills what is zero, and refuses what can't be.
func (c Config) withDefaults() (Config, error) {
	if c.DataDir == "" {
		return c, errors.New("no data directory given")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, err
	}
	c.DataDir = dir
	if c.Workers == 0 {
		c.Workers = runtime.NumCPU()
	}
	if c.Workers < 0 || c.Workers > MaxWorkers {
		return c, fmt.Errorf("%d SQL workers: between 1 and %d are allowed", c.Workers, MaxWorkers)
	}
	for _, name := range c.Insecure {
		if !slices.Contains(RequiredLayers(), name) {
			return c, fmt.Errorf("no required layer is called %q", name)
		}
	}
	if c.GatewayConfig == nil {
		c.GatewayConfig = []byte("{}")
	}
	if c.MaxFacet.MemoryBytes <= 0 {
		c.MaxFacet.MemoryBytes = totalMemory() / 4 * 3
	}
	if c.MaxFacet.Processes <= 0 {
		c.MaxFacet.Processes = maxProcesses
	}
	if c.MaxFacet.CPUMilli <= 0 {
		c.MaxFacet.CPUMilli = int64(runtime.NumCPU()) * 1000
	}
	if c.SQLMemory <= 0 {
		c.SQLMemory = defaultSQLBytes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// clamp holds what the gateway asked for against the maxima, as if it had been taken over.
func (c Config) clamp(l protocol.Limits) protocol.Limits {
	l.MemoryBytes = within(l.MemoryBytes, minFacetMemory, c.MaxFacet.MemoryBytes)
	l.Processes = within(l.Processes, minProcesses, c.MaxFacet.Processes)
	l.CPUMilli = within(l.CPUMilli, 10, c.MaxFacet.CPUMilli)
	return l
}

// within puts v between low and high; what asks for nothing gets high.
func within(v, low, high int64) int64 {
	if v <= 0 {
		return high
	}
	return min(max(v, low), high)
}
