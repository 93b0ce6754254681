package proxy

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, _ := io.ReadAll(w.Body)
	if w.Code != 200 {
		t.Fatalf("/metrics: %d %s", w.Code, b)
	}
	return string(b)
}

// wantSeries checks for lines of /metrics; one that begins with "-" must not be
// the beginning of any.
func wantSeries(t *testing.T, m *Metrics, lines ...string) {
	t.Helper()
	text := "\n" + scrape(t, m)
	for _, line := range lines {
		if prefix, absent := strings.CutPrefix(line, "-"); absent {
			if strings.Contains(text, "\n"+prefix) {
				t.Errorf("/metrics has %s", prefix)
			}
			continue
		}
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestMetricsOfRequests(t *testing.T) {
	m := NewMetrics("v1", "abc")
	app := m.route("app")
	m.route("unused")
	wantSeries(t, m, `-gatehouse_requests_total`, `-gatehouse_request_duration_seconds_count`)

	app.done("GET", 200, outcomeForwarded, 20*time.Millisecond, 10*time.Millisecond)
	app.done("GET", 204, outcomeForwarded, 20*time.Millisecond, 10*time.Millisecond)
	app.done("BREW", 403, outcomeRefused, time.Millisecond, -1)
	app.done("get", 999, outcomeForwarded, time.Millisecond, 0)
	m.route("").done("GET", 404, outcomeRefused, time.Millisecond, -1)
	m.inFlight.Inc()
	m.refused("forbidden")
	m.refused("made up")
	m.stripped.Add(3)
	wantSeries(t, m,
		`gatehouse_requests_total{code="2xx",decision="forwarded",method="GET",route="app"} 2`,
		`gatehouse_requests_total{code="4xx",decision="refused",method="other",route="app"} 1`,
		`gatehouse_requests_total{code="other",decision="forwarded",method="other",route="app"} 1`,
		`gatehouse_requests_total{code="4xx",decision="refused",method="GET",route="other"} 1`,
		`gatehouse_request_duration_seconds_count{route="app"} 4`,
		`gatehouse_request_duration_seconds_bucket{route="app",le="0.01"} 2`,
		`gatehouse_upstream_duration_seconds_count{route="app"} 3`,
		`gatehouse_requests_in_flight 1`,
		`gatehouse_refusals_total{code="forbidden"} 1`,
		`gatehouse_refusals_total{code="other"} 1`,
		`gatehouse_refusals_total{code="internal"} 0`,
		`gatehouse_stripped_headers_total 3`,
		`-gatehouse_requests_total{code="2xx",decision="forwarded",method="GET",route="unused"}`,
	)
	if !strings.Contains(scrape(t, m), `gatehouse_build_info{commit="abc",goversion="go`) || !strings.Contains(scrape(t, m), "go_goroutines ") {
		t.Error("/metrics lacks build info or the Go collector")
	}
}

func TestMetricsOfRemovedRoutes(t *testing.T) {
	m := NewMetrics("", "")
	old, kept := m.route("old"), m.route("kept")
	late := m.route("late")
	for _, rm := range []*routeMetrics{old, kept, m.route("")} {
		rm.done("GET", 200, outcomeForwarded, 0, 0)
		rm.done("POST", 500, outcomeForwarded, 0, 0)
	}
	m.retain([]string{"kept"})
	if !strings.Contains(scrape(t, m), `route="kept"`) || !strings.Contains(scrape(t, m), `route="other"`) {
		t.Error("series of routes that are still there were deleted")
	}
	if m.route("kept") != kept {
		t.Error("a route that stays is counted anew")
	}

	// Their last requests end after the reload.
	old.done("GET", 200, outcomeForwarded, 0, 0)
	old.done("PUT", 200, outcomeForwarded, 0, 0)
	late.done("GET", 200, outcomeForwarded, 0, 0)
	if text := scrape(t, m); strings.Contains(text, `route="old"`) || strings.Contains(text, `route="late"`) {
		t.Error("/metrics has series of removed routes")
	}

	m.route("old").done("GET", 200, outcomeForwarded, 0, 0)
	wantSeries(t, m, `gatehouse_requests_total{code="2xx",decision="forwarded",method="GET",route="old"} 1`)
}

func TestMetricsOfEvents(t *testing.T) {
	m := NewMetrics("", "")
	m.Event("login", "ok")
	m.Event("login", authn.ErrInvalidCredentials.Code)
	m.Event("login", "made up")
	m.Event("\xff", "ok") // the client library panics over this
	for i := range 2 * maxEvents {
		m.Event(fmt.Sprint("made up ", i), "ok")
	}
	wantSeries(t, m,
		`gatehouse_events_total{event="login",outcome="ok"} 1`,
		`gatehouse_events_total{event="login",outcome="invalid_credentials"} 1`,
		`gatehouse_events_total{event="login",outcome="other"} 1`,
		fmt.Sprintf(`gatehouse_events_total{event="other",outcome="ok"} %d`, 2*maxEvents-(maxEvents-2)),
	)
}

func TestMetricsOfProcess(t *testing.T) {
	m := NewMetrics("", "")
	wantSeries(t, m, `gatehouse_config_last_reload_successful 0`, `-gatehouse_revocations`)
	at := time.Unix(1700000000, 250e6)
	m.Reloaded(true, at)
	m.Revocations(func() int { return 3 })
	m.Revocations(func() int { return 4 })
	wantSeries(t, m, `gatehouse_config_last_reload_successful 1`,
		`gatehouse_config_last_reload_success_timestamp_seconds 1.70000000025e+09`, `gatehouse_revocations 4`)
	m.Reloaded(false, at.Add(time.Hour))
	wantSeries(t, m, `gatehouse_config_last_reload_successful 0`,
		`gatehouse_config_last_reload_success_timestamp_seconds 1.70000000025e+09`)
}

func TestMetricsCostNothingPerRequest(t *testing.T) {
	rm := NewMetrics("", "").route("app")
	count := func() { rm.done("GET", 200, outcomeForwarded, time.Millisecond, time.Millisecond) }
	count()
	if n := testing.AllocsPerRun(100, count); n != 0 {
		t.Errorf("counting a request makes %v allocations, want 0", n)
	}
}

func TestMetricsInParallel(t *testing.T) {
	m := NewMetrics("", "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				m.route("app").done("GET", 100+(i*j)%500, outcomeForwarded, 0, 0)
				m.Event("login", "ok")
				if j%50 == 0 {
					m.retain([]string{[]string{"app", "none"}[i%2]})
				}
			}
		})
	}
	wg.Wait()
	wantSeries(t, m, `gatehouse_events_total{event="login",outcome="ok"} 1600`)
}

func BenchmarkMetrics(b *testing.B) {
	rm := NewMetrics("", "").route("app")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			rm.done("GET", 200, outcomeForwarded, time.Millisecond, time.Millisecond)
		}
	})
}
