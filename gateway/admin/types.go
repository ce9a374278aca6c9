// Package admin is the gateway's interface for its administrator: HTTP and JSON
// on a unix socket in the data directory, served to root, to the gateway's own
// user and to whoever started it. Server and Client share the types below, whose
// JSON is what `fgw … --output json` prints.
package admin

import (
	"encoding/json"
	"time"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/registry"
)

// Namespace is an administrator's unit.
type Namespace struct {
	Name       string          `json:"name"`
	Supervisor string          `json:"supervisor"`
	Create     string          `json:"create"`
	Access     string          `json:"access"`
	Egress     []string        `json:"egress"` // hosts that its supervisor, or its apps where it has none, may call
	Limits     registry.Limits `json:"limits"`
	Objects    int             `json:"objects"`
	CreatedAt  time.Time       `json:"created_at"`
}

// AppVersion is one version of an app.
type AppVersion struct {
	Live      bool      `json:"live"`
	Canary    int       `json:"canary"` // percent of the objects that run it beside the live one, or 0
	Namespace string    `json:"namespace"`
	App       string    `json:"app"`
	Version   int       `json:"version"`
	Bundle    string    `json:"bundle"`
	Bytes     int64     `json:"bytes"`
	CreatedAt time.Time `json:"created_at"`
}

// Deployment is what a deploy made live, or a canary. URL shows the app in the
// object "me", which stands for any; Origin the same where it has cookies and
// storage of its own.
type Deployment struct {
	Namespace string `json:"namespace"`
	App       string `json:"app"`
	Version   int    `json:"version"`
	Bundle    string `json:"bundle"`
	Bytes     int64  `json:"bytes"`
	Canary    int    `json:"canary"`
	URL       string `json:"url"`
	Origin    string `json:"origin"`
}

// Object is one object of a namespace.
type Object struct {
	Address      string    `json:"address"`
	Namespace    string    `json:"namespace"`
	Object       string    `json:"object"`
	ID           string    `json:"id"`
	Facets       int       `json:"facets"`
	StorageBytes int64     `json:"storage_bytes"`
	CreatedAt    time.Time `json:"created_at"`
}

// UnmarshalJSON takes the name from the address: JSON has no way to write a
// name that is not UTF-8.
func (o *Object) UnmarshalJSON(b []byte) error {
	type plain Object
	if err := json.Unmarshal(b, (*plain)(o)); err != nil {
		return err
	}
	if a, err := address.Parse(o.Address); err == nil && a.Object != "" {
		o.Object = a.Object
	}
	return nil
}

// States of a facet.
const (
	StateRunning  = "running"
	StateStarting = "starting"
	StateStopped  = "stopped"
	StateBackoff  = "backoff"
)

// FacetInfo is a facet as a listing shows it.
type FacetInfo struct {
	Address      string     `json:"address"`
	Namespace    string     `json:"namespace"`
	Object       string     `json:"object"`
	Facet        string     `json:"facet"` // the last part of the address, not encoded
	App          string     `json:"app"`
	Version      int        `json:"version"`
	State        string     `json:"state"`
	PID          *int       `json:"pid"`   // the host's; nil unless running
	Since        *time.Time `json:"since"` // in this state; nil where it is not known
	Requests     int64      `json:"requests"`
	MemoryBytes  int64      `json:"memory_bytes"`
	StorageBytes int64      `json:"storage_bytes"`
}

// FacetDetail is all that is known of a facet.
type FacetDetail struct {
	FacetInfo
	Limits      registry.Limits `json:"limits"`
	Usage       Usage           `json:"usage"`
	Confinement json.RawMessage `json:"confinement"` // as read back from the kernel; null unless running
	LastExit    *LastExit       `json:"last_exit"`
	Start       *Start          `json:"start"` // nil unless running
}

// Start is what an instance was started with, as far as it may be shown: names of
// variables and services, no value, no secret and no props.
type Start struct {
	Bundle   string          `json:"bundle"`
	Limits   registry.Limits `json:"limits"`
	Rows     int64           `json:"rows"` // that one SQL statement may return; 0: no limit of its own
	Env      []string        `json:"env"`
	Services []string        `json:"services"`
	Egress   string          `json:"egress"` // none, hosts or service
	Children bool            `json:"children"`
}

// Usage is what a facet has used. Counters run from the gateway's start.
type Usage struct {
	CPUSeconds      float64 `json:"cpu_seconds"`
	MemoryPeakBytes int64   `json:"memory_peak_bytes"`
	RowsRead        int64   `json:"rows_read"`
	RowsWritten     int64   `json:"rows_written"`
	Requests        int64   `json:"requests"`
	Errors          int64   `json:"errors"`
	Starts          int64   `json:"starts"`
	StorageBytes    int64   `json:"storage_bytes"`
	EgressBytes     int64   `json:"egress_bytes"`
}

// LastExit tells how the last instance ended.
type LastExit struct {
	Reason string    `json:"reason"`
	Detail string    `json:"detail"`
	At     time.Time `json:"at"`
}

// Status tells who answers.
type Status struct {
	Version string   `json:"version"`
	PID     int      `json:"pid"`
	Listen  []string `json:"listen"`
}

// LogLine is one line of a facet's output.
type LogLine = logs.Line

// Column is a column of a SQL result; Type is the type it was declared with.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// SQLResult is what a statement did. Its numbers mean something where it wrote.
type SQLResult struct {
	RowsAffected int64 `json:"rows_affected"`
	LastInsertID int64 `json:"last_insert_id"`
}
