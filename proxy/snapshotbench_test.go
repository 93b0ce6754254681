package proxy

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gatehouse/config"
)

// wildRoutes are n routes with wildcards on one host, where each could be in
// conflict with each.
func wildRoutes(n int) string {
	var yaml strings.Builder
	yaml.WriteString("routes:\n")
	for i := range n {
		fmt.Fprintf(&yaml, " - {path: '/tenants/{id}/app%d/{rest...}', upstream: 'http://[::1]'}\n", i)
	}
	return yaml.String()
}

// BenchmarkNewSnapshot shows what a route costs to compile and to keep, which is
// the same however many there are. What is kept is marked by every collection,
// so requests pay for it, too.
func BenchmarkNewSnapshot(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		for kind, yaml := range map[string]string{"hosts": hostRoutes(n/10, 10), "wild": wildRoutes(n)} {
			b.Run(fmt.Sprintf("routes=%d/%s", n, kind), func(b *testing.B) {
				empty := live()
				c := mustParse(b, yaml)
				g := New(Options{})
				var s *Snapshot
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if s, err = g.NewSnapshot(SnapshotOptions{Config: c}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/route")
				c.Forget()
				b.ReportMetric(float64(live()-empty)/float64(n), "live-B/route")
				runtime.KeepAlive(s)
			})
		}
	}
}

func mustParse(t testing.TB, yaml string) *config.Config {
	t.Helper()
	c, err := config.Parse("gateway.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// live is the memory that is in use.
func live() uint64 {
	runtime.GC()
	runtime.GC() // what pools held is gone with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestRoutesAreSmall: thousands of routes are marked by every collection, so
// what is equal in them is held once.
func TestRoutesAreSmall(t *testing.T) {
	const n = 5000
	c := mustParse(t, hostRoutes(n/10, 10))
	g := New(Options{})
	before := live()
	s, err := g.NewSnapshot(SnapshotOptions{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	if each := (live() - before) / n; each > 600 {
		t.Errorf("a route takes %d bytes, want at most 600", each)
	}
	runtime.KeepAlive(s)
}

// TestConflictsAreBounded: a pattern that is wrong in every route does not make
// a message of every pair.
func TestConflictsAreBounded(t *testing.T) {
	var lines []string
	for i := range 50 {
		lines = append(lines, fmt.Sprintf("/{x}/b%d", i), fmt.Sprintf("/a%d/{y}", i))
	}
	problems := newTable(testRoutes(t, lines...)).conflicts()
	if len(problems) != mostConflicts {
		t.Errorf("%d problems, want %d", len(problems), mostConflicts)
	}
	if !slices.IsSortedFunc(problems, func(p, q config.Problem) int { return inFile(p.Pos, q.Pos) }) {
		t.Error("problems are not in the order of the file")
	}
}
