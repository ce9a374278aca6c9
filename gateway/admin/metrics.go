package admin

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Collectors is what a Runtime may offer besides: its own metrics.
type Collectors interface {
	Collectors() []prometheus.Collector
}

var (
	namespacesDesc = prometheus.NewDesc("fgw_namespaces", "Namespaces.", nil, nil)
	objectsDesc    = prometheus.NewDesc("fgw_objects", "Objects known, by namespace.", []string{"namespace"}, nil)
	appsDesc       = prometheus.NewDesc("fgw_apps", "Apps, by namespace.", []string{"namespace"}, nil)
	buildDesc      = prometheus.NewDesc("fgw_build_info", "The version that runs; always 1.", []string{"version"}, nil)
	logBytesDesc   = prometheus.NewDesc("fgw_log_bytes", "What the logs of facets take on disk.", nil, nil)
	logDropsDesc   = prometheus.NewDesc("fgw_log_lines_dropped_total", "Lines of facets that were not kept.", nil, nil)
)

// gatherer collects the metrics of the process, of what the server knows and of the runtime.
func (s *server) gatherer() prometheus.Gatherer {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), known{s})
	if c, ok := s.Runtime.(Collectors); ok {
		reg.MustRegister(c.Collectors()...)
	}
	return reg
}

// known collects what the registry and the logs know.
type known struct{ s *server }

func (k known) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{namespacesDesc, objectsDesc, appsDesc, buildDesc, logBytesDesc, logDropsDesc} {
		ch <- d
	}
}

func (k known) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	all := k.s.Registry.Namespaces()
	gauge(namespacesDesc, float64(len(all)))
	for _, ns := range all {
		gauge(objectsDesc, float64(k.s.Registry.CountObjects(ns)), ns.Name)
		if apps, err := k.s.Registry.Apps(ns.Name); err == nil {
			gauge(appsDesc, float64(len(apps)), ns.Name)
		}
	}
	gauge(buildDesc, 1, k.s.Version)
	bytes, dropped := k.s.Logs.Stats()
	gauge(logBytesDesc, float64(bytes))
	ch <- prometheus.MustNewConstMetric(logDropsDesc, prometheus.CounterValue, float64(dropped))
}
