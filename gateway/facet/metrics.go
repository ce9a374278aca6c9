package facet

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/facetgateway/fgw/gateway/sqlpool"
)

// metrics are the counts of all facets together. None has a facet's or an object's name as a
// label: there may be a hundred thousand.
type metrics struct {
	requests, errors, starts prometheus.Counter
	ends                     *prometheus.CounterVec
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		requests: counter("fgw_facet_requests_total", "Requests carried to facets."),
		errors:   counter("fgw_facet_errors_total", "Requests to facets that failed in the gateway or by the facet's end."),
		starts:   counter("fgw_facet_starts_total", "Instances started."),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fgw_facet_ends_total",
			Help: "Instances ended, by reason: idle, deploy, abort, crash, memory, seccomp, start, protocol, timeout, storage, shutdown."}, []string{"reason"}),
	}
}

func (m *metrics) ended(reason string) { m.ends.WithLabelValues(reason).Inc() }

// Collectors are the metrics of the facets, for the admin socket.
func (m *Manager) Collectors() []prometheus.Collector {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	counted := func(name, help string, f func(sqlpool.Usage) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f(m.Databases.Usage())) })
	}
	return []prometheus.Collector{
		m.metrics.requests, m.metrics.errors, m.metrics.starts, m.metrics.ends,
		counted("fgw_sql_statements_total", "SQL statements that ended, of all facets.", func(u sqlpool.Usage) int64 { return u.Statements }),
		counted("fgw_sql_errors_total", "SQL requests that ended with an error.", func(u sqlpool.Usage) int64 { return u.Errors }),
		counted("fgw_sql_rows_read_total", "Rows that SQL statements read.", func(u sqlpool.Usage) int64 { return u.RowsRead }),
		counted("fgw_sql_rows_written_total", "Rows that SQL statements wrote.", func(u sqlpool.Usage) int64 { return u.RowsWritten }),
		counted("fgw_sql_result_bytes_total", "Bytes of the rows that SQL statements returned.", func(u sqlpool.Usage) int64 { return u.ResultBytes }),
		gauge("fgw_facets_live", "Instances that run, start or stop.", func() float64 {
			live := 0
			for _, n := range m.all(func(key) bool { return true }) {
				n.mu.Lock()
				if n.in != nil {
					live++
				}
				n.mu.Unlock()
			}
			return float64(live)
		}),
		gauge("fgw_standbys", "Processes that are kept ready for the next start.", func() float64 { return float64(m.standbys.count()) }),
		gauge("fgw_streams_open", "Streams to facets, of the budget that all share.", func() float64 { return float64(m.Budget.Open()) }),
		gauge("fgw_calls_open", "Streams that facets have opened, of the budget that all share, beyond those that each may open.", func() float64 { return float64(m.Calls.Open()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "fgw_syncs_total", Help: "Times that a facet's data was synced to disk."}, func() float64 { return float64(m.Syncer.Syncs()) }),
		gauge("fgw_alarms_set", "Alarms that are set.", func() float64 {
			m.alarms.mu.Lock()
			defer m.alarms.mu.Unlock()
			return float64(len(m.alarms.byID))
		}),
	}
}
