package config

import (
	"fmt"
	"strings"
	"testing"
)

// manyRoutes is a file with n routes, ten on each host.
func manyRoutes(n int) []byte {
	var yaml strings.Builder
	yaml.WriteString("users: {database: none}\nroutes:\n")
	for i := range n {
		access := ""
		if i%10 == 7 {
			access = ", access: {roles: [user]}"
		}
		fmt.Fprintf(&yaml, " - {host: h%d.example, path: /app%d, upstream: \"http://127.0.0.1:3000\"%s}\n", i/10, i%10, access)
	}
	return []byte(yaml.String())
}

// BenchmarkParse shows what a route costs to load, which is the same however
// many there are, and how much of that is the YAML library's.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		data := manyRoutes(n)
		for _, c := range []struct {
			name string
			read func() error
		}{
			{"all", func() error { _, err := Parse("gateway.yaml", data, nil); return err }},
			{"library", func() error { _, _, err := parseYAML(data); return err }},
		} {
			b.Run(fmt.Sprintf("routes=%d/%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := c.read(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/route")
			})
		}
	}
}
