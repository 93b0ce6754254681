package proxy

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/authn"
)

// RevocationLog shows how well list follows its log. It is called once.
func (m *Metrics) RevocationLog(list *authn.RevocationList) {
	counter := func(name, help string, of func(authn.RevocationCounts) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(of(list.Counts())) })
	}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_revocation_staleness_seconds",
			Help: "Time since the revocation store was last read to its end; +Inf before the first time.",
		}, func() float64 {
			_, read, _ := list.State()
			if read.IsZero() {
				return math.Inf(1)
			}
			return time.Since(read).Seconds()
		}),
		counter("gatehouse_revocation_reconnects_total", "Times that the revocation store could be read again.",
			func(c authn.RevocationCounts) uint64 { return c.Reconnects }),
		counter("gatehouse_revocation_losses_total", "Times that the revocation store was found to have a gap.",
			func(c authn.RevocationCounts) uint64 { return c.Losses }),
		counter("gatehouse_revocation_refills_total", "Revocations that were put back into the store after it lost them.",
			func(c authn.RevocationCounts) uint64 { return c.PutBack }),
	)
}
