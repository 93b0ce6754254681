package proxy

import "github.com/prometheus/client_golang/prometheus"

var (
	connectionsDesc = prometheus.NewDesc("gatehouse_upstream_connections",
		"HTTP/1.1 connections to upstreams: active ones carry a request or a stream, idle ones wait for the next.",
		[]string{"upstream", "state"}, nil)
	connectsDesc = prometheus.NewDesc("gatehouse_upstream_connects_total",
		"HTTP/1.1 connections made to upstreams. As many as requests means that an upstream closes them.",
		[]string{"upstream"}, nil)
)

// connections shows those of the first gateway that counts here.
func (m *Metrics) connections(ts *transports) {
	m.showConnections.Do(func() { m.registry.MustRegister(ts) })
}

// ClientConnections shows the connections of clients: those that have a request or a
// stream, those that have none, and how many were closed so far because there were
// too many. It is called once.
func (m *Metrics) ClientConnections(counts func() (active, idle int), closed func() int64) {
	gauge := func(state string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_client_connections", ConstLabels: prometheus.Labels{"state": state},
			Help: "Connections of clients: active ones have a request or a stream, idle ones none.",
		}, func() float64 { return float64(value()) })
	}
	m.registry.MustRegister(
		gauge("active", func() int { n, _ := counts(); return n }),
		gauge("idle", func() int { _, n := counts(); return n }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "gatehouse_client_connections_closed_total", Help: "Connections of clients that were closed because there were too many.",
		}, func() float64 { return float64(closed()) }))
}

// Describe is a prometheus.Collector's.
func (ts *transports) Describe(out chan<- *prometheus.Desc) {
	out <- connectionsDesc
	out <- connectsDesc
}

// Collect counts the connections to each upstream of the configuration in use:
// routes with different timeouts have pools of their own, which count together.
func (ts *transports) Collect(out chan<- prometheus.Metric) {
	type count struct{ open, idle, made int }
	counts := map[string]count{}
	ts.mu.Lock()
	for key, rt := range ts.open {
		one, ok := rt.(*h1Transport)
		if both, is := rt.(*negotiated); is {
			one, ok = both.one, true
		}
		if !ok {
			continue
		}
		open, idle, made := one.counts()
		c := counts[key.String()]
		counts[key.String()] = count{c.open + open, c.idle + idle, c.made + made}
	}
	ts.mu.Unlock()
	for upstream, c := range counts {
		upstream = metricLabel(upstream)
		out <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(c.open-c.idle), upstream, "active")
		out <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(c.idle), upstream, "idle")
		out <- prometheus.MustNewConstMetric(connectsDesc, prometheus.CounterValue, float64(c.made), upstream)
	}
}

// String is the upstream that requests with this key go to.
func (k transportKey) String() string {
	if k.scheme == schemeUnix {
		return k.scheme + ":" + k.address
	}
	return k.scheme + "://" + k.address
}
