package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// drawFacet shows all that is known of a facet.
func drawFacet(w io.Writer, d *admin.FacetDetail) {
	fields(w, func(field func(string, any)) {
		field("facet", d.Address)
		if d.App != "" {
			field("app", fmt.Sprintf("%s version %d", d.App, d.Version))
		}
		state := d.State
		if d.Since != nil {
			state += " since " + when(*d.Since)
		}
		field("state", state)
		if d.PID != nil {
			field("pid", *d.PID)
			field("memory", byteCount(d.MemoryBytes))
		}
		field("storage", byteCount(d.StorageBytes))
	})
	fmt.Fprintln(w, "limits")
	fields(w, func(field func(string, any)) { drawLimits(field, d.Limits) })
	drawStart(w, d.Start)
	fmt.Fprintln(w, "usage")
	fields(w, func(field func(string, any)) { drawUsage(field, "  ", d.Usage) })
	drawConfinement(w, d.Confinement)
	if exit := d.LastExit; exit != nil {
		fmt.Fprintf(w, "last exit  %s, %s\n", when(exit.At), printable(exit.Reason))
		for line := range strings.Lines(exit.Detail) {
			fmt.Fprintf(w, "  %s\n", printable(strings.TrimRight(line, "\n")))
		}
	}
}

func drawUsage(field func(string, any), indent string, u admin.Usage) {
	field(indent+"cpu", time.Duration(u.CPUSeconds*float64(time.Second)).Round(time.Millisecond))
	field(indent+"memory_peak", byteCount(u.MemoryPeakBytes))
	field(indent+"requests", fmt.Sprintf("%d, %d with an error", u.Requests, u.Errors))
	field(indent+"starts", u.Starts)
	field(indent+"rows", fmt.Sprintf("%d read, %d written", u.RowsRead, u.RowsWritten))
	if indent == "" { // inspect says it elsewhere
		field("storage", byteCount(u.StorageBytes))
	}
	field(indent+"egress", byteCount(u.EgressBytes))
}

// drawStart shows what an instance was started with beside its limits.
func drawStart(w io.Writer, s *admin.Start) {
	if s == nil {
		return
	}
	fmt.Fprintln(w, "started with")
	fields(w, func(field func(string, any)) {
		field("  bundle", s.Bundle)
		if s.Rows > 0 {
			field("  rows", s.Rows)
		}
		field("  env", orDash(strings.Join(s.Env, " ")))
		field("  services", orDash(strings.Join(s.Services, " ")))
		field("  egress", s.Egress)
		field("  children", s.Children)
	})
}

// drawConfinement shows what the kernel says that the process is confined by.
func drawConfinement(w io.Writer, raw json.RawMessage) {
	var c *protocol.Confinement
	if json.Unmarshal(raw, &c) != nil || c == nil {
		return // it does not run
	}
	fmt.Fprintln(w, "confinement, as the kernel tells it")
	fields(w, func(field func(string, any)) {
		field("  uid", c.UID)
		field("  seccomp", c.Seccomp)
		field("  no_new_privs", c.NoNewPrivs)
		field("  capabilities", c.Capabilities)
		field("  landlock", c.Landlock)
		field("  namespaces", strings.Join(c.Namespaces, " "))
		for _, name := range slices.Sorted(maps.Keys(c.Cgroups)) {
			field("  cgroup "+name, c.Cgroups[name])
		}
	})
}
