package proxy

import (
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gatehouse/authn"
)

// outcome is the "decision" label: what became of a request.
type outcome int

const (
	outcomeForwarded outcome = iota // sent to an upstream
	outcomeAnswered                 // answered by the gateway itself
	outcomeRefused                  // refused, before an upstream was asked or because it failed
	outcomes         = iota
)

var outcomeNames = [outcomes]string{"forwarded", "answered", "refused"}

// otherLabel stands for whatever a client could otherwise choose. It is also
// the route of requests that no route took.
const otherLabel = "other"

var (
	methodNames = [...]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", otherLabel}
	statusNames = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx", otherLabel}
)

// Metrics are what /metrics of the admin listener shows. They outlive
// snapshots. Labels come from the configuration and from fixed lists, never
// from a request, so that no client can make them grow.
type Metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec   // route, method, code, decision
	durations *prometheus.HistogramVec // route
	upstreams *prometheus.HistogramVec // route
	inFlight  prometheus.Gauge
	refusals  map[string]prometheus.Counter // by code
	held      prometheus.Counter
	dropped   prometheus.Counter
	stripped  prometheus.Counter
	streams   *streamMetrics
	renewals  [renewals]prometheus.Counter
	events    *prometheus.CounterVec // event, outcome
	loaded    prometheus.Gauge
	loadedAt  prometheus.Gauge

	revocations     atomic.Pointer[func() int]
	showRevocations sync.Once
	showConnections sync.Once

	mu     sync.Mutex
	routes map[string]*routeMetrics
	named  map[string]bool // events seen
}

// maxEvents bounds the distinct values of the event label.
const maxEvents = 64

var durationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// NewMetrics returns metrics in a registry of their own.
func NewMetrics(version, commit string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_requests_total",
			Help: "Requests by route, method, class of status, and what the gateway did with them.",
		}, []string{"route", "method", "code", "decision"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_request_duration_seconds", Buckets: durationBuckets,
			Help: "Time from a request's header to the end of the response.",
		}, []string{"route"}),
		upstreams: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gatehouse_upstream_duration_seconds", Buckets: durationBuckets,
			Help: "Part of the request duration spent on the upstream.",
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_requests_in_flight", Help: "Requests being served now, open streams included.",
		}),
		held: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_refusals_held_total", Help: "Refusals that were held up because their client earned too many.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_requests_dropped_total", Help: "Requests over HTTP/2 that were refused and not answered, because too many refusals on their connection were held up.",
		}),
		stripped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_stripped_headers_total",
			Help: "Header and trailer fields of clients that were dropped because they forge identity or routing.",
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_events_total",
			Help: "Logins, registrations, logouts and other account events; outcome is ok or the code of the refusal.",
		}, []string{"event", "outcome"}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_config_last_reload_successful", Help: "Whether the last load of the configuration succeeded.",
		}),
		loadedAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in use was loaded.",
		}),
		refusals: map[string]prometheus.Counter{},
		routes:   map[string]*routeMetrics{},
		named:    map[string]bool{},
	}
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_refusals_total", Help: "Requests refused, by the code that the client got.",
	}, []string{"code"})
	for _, r := range authn.Refusals() {
		m.refusals[r.Code] = refusals.WithLabelValues(r.Code)
	}
	m.refusals[otherLabel] = refusals.WithLabelValues(otherLabel)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gatehouse_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": metricLabel(version), "commit": metricLabel(commit), "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.durations, m.upstreams, m.inFlight, m.held, m.dropped, m.stripped, m.events,
		m.loaded, m.loadedAt, refusals, build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.streams = newStreamMetrics(m.registry)
	m.renewals = newRenewals(m.registry)
	return m
}

// Handler answers with everything in the Prometheus exposition formats.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// Reloaded records an attempt to load the configuration.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	if !ok {
		m.loaded.Set(0)
		return
	}
	m.loaded.Set(1)
	m.loadedAt.Set(float64(at.UnixMilli()) / 1e3)
}

// Revocations shows count as gatehouse_revocations. A second call replaces the
// first one's function.
func (m *Metrics) Revocations(count func() int) {
	m.revocations.Store(&count)
	m.showRevocations.Do(func() {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_revocations", Help: "Revocations in force in the local copy.",
		}, func() float64 { return float64((*m.revocations.Load())()) }))
	})
}

// LogLinesDropped shows count as gatehouse_log_lines_dropped_total. It is
// called once.
func (m *Metrics) LogLinesDropped(count func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "gatehouse_log_lines_dropped_total", Help: "Log lines that were dropped because nobody read the log, or too slowly.",
	}, func() float64 { return float64(count()) }))
}

// Event counts an account event. The outcome is "ok" or the code of a refusal.
func (m *Metrics) Event(name, outcome string) {
	if _, known := m.refusals[outcome]; !known && outcome != "ok" {
		outcome = otherLabel
	}
	m.events.WithLabelValues(m.eventName(name), outcome).Inc()
}

func (m *Metrics) eventName(name string) string {
	name = metricLabel(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.named[name] {
		if len(m.named) == maxEvents {
			return otherLabel
		}
		m.named[name] = true
	}
	return name
}

// metricLabel is s as the client library takes it: it panics over invalid UTF-8.
func metricLabel(s string) string { return strings.ToValidUTF8(s, "?") }

// refused counts a refusal by its code.
func (m *Metrics) refused(code string) {
	c, ok := m.refusals[code]
	if !ok {
		c = m.refusals[otherLabel]
	}
	c.Inc()
}

// route is where the requests of a route are counted: asked for once, when a
// snapshot is compiled. The name "" is for requests that no route took.
func (m *Metrics) route(name string) *routeMetrics {
	if name == "" {
		name = otherLabel
	}
	name = metricLabel(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	rm := m.routes[name]
	if rm == nil {
		rm = &routeMetrics{metrics: m, name: name}
		m.routes[name] = rm
	}
	return rm
}

// retain deletes the series of all routes that are not named, after a reload.
func (m *Metrics) retain(names []string) {
	keep := map[string]bool{otherLabel: true}
	for _, name := range names {
		keep[metricLabel(name)] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, rm := range m.routes {
		if keep[name] {
			continue
		}
		delete(m.routes, name)
		rm.close()
	}
}

// routeMetrics are the series of one route. A series is made when it is first
// needed, so that ten thousand routes cost nothing until they are used, and
// found by an index from then on.
type routeMetrics struct {
	metrics *Metrics
	name    string
	gone    bool // under metrics.mu: the route was removed

	counters atomic.Pointer[routeCounters]
}

type routeCounters struct {
	requests           [len(methodNames)][len(statusNames)][outcomes]atomic.Pointer[prometheus.Counter]
	duration, upstream prometheus.Observer
}

// done counts one request. A route that never asked an upstream has an upstream
// duration below 0.
func (rm *routeMetrics) done(method string, status int, o outcome, took, upstream time.Duration) {
	c := rm.counters.Load()
	if c == nil {
		c = rm.open()
		if c == nil {
			return
		}
	}
	mi, si := methodIndex(method), statusIndex(status)
	slot := &c.requests[mi][si][o]
	counter := slot.Load()
	if counter == nil {
		counter = rm.count(slot, mi, si, o)
		if counter == nil {
			return
		}
	}
	(*counter).Inc()
	c.duration.Observe(took.Seconds())
	if upstream >= 0 {
		c.upstream.Observe(upstream.Seconds())
	}
}

// open makes the histograms, or returns nil if the route was removed while a
// last request of it ran: its series must not come back.
func (rm *routeMetrics) open() *routeCounters {
	rm.metrics.mu.Lock()
	defer rm.metrics.mu.Unlock()
	if c := rm.counters.Load(); c != nil || rm.gone {
		return c
	}
	c := &routeCounters{
		duration: rm.metrics.durations.WithLabelValues(rm.name),
		upstream: rm.metrics.upstreams.WithLabelValues(rm.name),
	}
	rm.counters.Store(c)
	return c
}

func (rm *routeMetrics) count(slot *atomic.Pointer[prometheus.Counter], method, status int, o outcome) *prometheus.Counter {
	rm.metrics.mu.Lock()
	defer rm.metrics.mu.Unlock()
	if rm.gone {
		return nil
	}
	c := rm.metrics.requests.WithLabelValues(rm.name, methodNames[method], statusNames[status], outcomeNames[o])
	slot.Store(&c)
	return &c
}

// close deletes the route's series. The caller holds metrics.mu.
func (rm *routeMetrics) close() {
	rm.gone = true
	c := rm.counters.Load()
	if c == nil {
		return
	}
	m := rm.metrics
	m.durations.DeleteLabelValues(rm.name)
	m.upstreams.DeleteLabelValues(rm.name)
	for mi := range c.requests {
		for si := range c.requests[mi] {
			for o := range c.requests[mi][si] {
				if c.requests[mi][si][o].Load() != nil {
					m.requests.DeleteLabelValues(rm.name, methodNames[mi], statusNames[si], outcomeNames[o])
				}
			}
		}
	}
}

func methodIndex(method string) int {
	for i, name := range methodNames {
		if name == method {
			return i
		}
	}
	return len(methodNames) - 1
}

func statusIndex(status int) int {
	if status < 100 || status > 599 {
		return len(statusNames) - 1
	}
	return status/100 - 1
}
