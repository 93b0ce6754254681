package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"gatehouse/config"
)

func testRoutes(t testing.TB, lines ...string) []*Route {
	t.Helper()
	var routes []*Route
	for i, line := range lines {
		cr := &config.Route{Pos: config.Position{File: "gateway.yaml", Line: i + 1, Column: 1}, Name: line}
		fields := strings.Fields(line)
		for _, f := range fields {
			switch {
			case f == "exact":
				cr.Exact = true
			case strings.HasPrefix(f, "/"):
				cr.Path = f
			case strings.Contains(f, "."):
				cr.Host = f
			default:
				cr.Methods = strings.Split(f, ",")
			}
		}
		routes = append(routes, &Route{Route: cr, pattern: parsePattern(cr.Path, cr.Exact)})
	}
	return routes
}

func TestTableMostSpecificWins(t *testing.T) {
	table := newTable(testRoutes(t,
		"/", "/a", "/a/b", "exact /a/b", "/a/{x}/c", "exact /e/", "/d/{rest...}", "/f/",
		"GET /m", "POST,PUT /m", "/m/{id}",
		"api.example.com /", "api.example.com /a", "*.example.com /", "*.b.example.com /a",
	))
	for _, c := range []struct{ request, want string }{
		{"GET x /", "/"},
		{"GET x /zzz", "/"},
		{"GET x /a", "/a"},
		{"GET x /a/", "/a"},
		{"GET x /ab", "/"},
		{"GET x /a/b", "exact /a/b"},
		{"GET x /a/b/", "/a/b"},
		{"GET x /a/%62", "exact /a/b"},
		{"GET x /a/q/c", "/a/{x}/c"},
		{"GET x /a//c", "/a"},
		{"GET x /a/q/d", "/a"},
		{"GET x /a/q%2Fc", "/a"},
		{"GET x /e", "/"},
		{"GET x /e/", "exact /e/"},
		{"GET x /e/f", "/"},
		{"GET x /d", "/"},
		{"GET x /d/", "/d/{rest...}"},
		{"GET x /d/x/y", "/d/{rest...}"},
		{"GET x /f", "/f/"},
		{"GET x /f/", "/f/"},
		{"GET x /m", "GET /m"},
		{"HEAD x /m", "GET /m"},
		{"PUT x /m", "POST,PUT /m"},
		{"DELETE x /m", "/"},
		{"DELETE x /m/1", "/m/{id}"},
		{"GET x /m/", "GET /m"},
		{"GET api.example.com /x", "api.example.com /"},
		{"GET api.example.com /a/1", "api.example.com /a"},
		{"GET www.example.com /a", "*.example.com /"},
		{"GET w.b.example.com /a", "*.b.example.com /a"},
		{"GET w.b.example.com /x", "*.example.com /"},
		{"GET b.example.com /a", "*.example.com /"},
		{"GET example.com /a", "/a"},
		{"GET notexample.com /", "/"},
	} {
		f := strings.Fields(c.request)
		if got := nameOf(table.match(f[1], f[2], f[0])); got != c.want {
			t.Errorf("match(%s) = %q, want %q", c.request, got, c.want)
		}
	}
}

func nameOf(rt *Route) string {
	if rt == nil {
		return ""
	}
	return rt.Name
}

func TestTableReadingsIgnoreCase(t *testing.T) {
	table := newTable(testRoutes(t, "/", "/Admin", "/admin/x", "/API", "/api"))
	for path, want := range map[string]string{
		"/Admin":   "/Admin",
		"/ADMIN":   "/ /Admin",
		"/admin/X": "/ /admin/x",
		"/aPi":     "/ /API /api",
		"/API":     "/API /api",
		"/other":   "/",
	} {
		var names []string
		for _, rt := range table.matchReading("x", path, "GET") {
			names = append(names, rt.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("matchReading(%q) = %q, want %q", path, got, want)
		}
	}
}

// TestTableRanksAsServeMux compares the table with net/http's own on random
// patterns and clean paths. What ServeMux finds in conflict, conflicts must too.
func TestTableRanksAsServeMux(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	word := func() string { return []string{"a", "b", "{x}", "c"}[rng.IntN(4)] }
	for range 20000 {
		var routes []*Route
		mux := http.NewServeMux()
		var lines []string
		for range 1 + rng.IntN(4) {
			path := ""
			for i := range rng.IntN(4) {
				path += "/" + strings.Replace(word(), "x", fmt.Sprint("x", i), 1)
			}
			switch rng.IntN(3) {
			case 0:
				path += "/{rest...}"
			case 1:
				if path != "" {
					path = "exact " + path
					break
				}
				fallthrough
			default:
				path = "exact " + path + "/"
			}
			lines = append(lines, path)
		}
		routes = testRoutes(t, lines...)
		refused := false
		for _, rt := range routes {
			pattern := rt.Path
			if rt.Exact && strings.HasSuffix(pattern, "/") {
				pattern += "{$}"
			}
			refused = refused || !register(mux, pattern, rt.Name)
		}
		if got := len(newTable(routes).conflicts()) > 0; got != refused {
			t.Fatalf("conflicts(%q) = %v, ServeMux says %v", lines, newTable(routes).conflicts(), refused)
		}
		if refused {
			continue
		}
		table := newTable(routes)
		for range 8 {
			path := ""
			for range rng.IntN(5) {
				path += "/" + []string{"a", "b", "c", "d"}[rng.IntN(4)]
			}
			if path == "" || rng.IntN(3) == 0 {
				path += "/"
			}
			h, _ := mux.Handler(&http.Request{Method: "GET", URL: &url.URL{Path: path}})
			want := ""
			if n, ok := h.(named); ok {
				want = string(n)
			}
			got := nameOf(table.match("x", path, "GET"))
			if _, redirect := h.(named); !redirect && got != "" && !strings.HasSuffix(path, "/") {
				continue // ServeMux would redirect to path + "/"
			}
			if got != want {
				t.Fatalf("routes %q: match(%q) = %q, ServeMux finds %q", lines, path, got, want)
			}
		}
	}
}

type named string

func (named) ServeHTTP(http.ResponseWriter, *http.Request) {}

func register(mux *http.ServeMux, pattern, name string) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	mux.Handle(pattern, named(name))
	return true
}

func TestConflictsQuoteBothRoutes(t *testing.T) {
	for _, c := range []struct {
		routes []string
		want   string
	}{
		{[]string{"/a", "/a"}, `gateway.yaml:2:1: route "/a" and route "/a" (gateway.yaml:1:1) match the same requests`},
		{[]string{"GET,POST /a", "POST,PUT /a"}, "match the same requests"},
		{[]string{"/a/{x}", "/{y}/b"}, `gateway.yaml:2:1: route "/{y}/b" and route "/a/{x}" (gateway.yaml:1:1) both match paths such as /a/b`},
		{[]string{"/{x}", "/{y}"}, "match the same requests"},
		{[]string{"/a", "exact /a"}, ""},
		{[]string{"GET /a", "POST /a", "/a"}, ""},
		{[]string{"GET /a", "GET,POST /a"}, ""},
		{[]string{"HEAD /a", "GET /a"}, ""},
		{[]string{"GET /a/{x}", "POST /{y}/b"}, ""},
		{[]string{"a.example /a", "b.example /a", "/a"}, ""},
		{[]string{"/a/{x}", "/a/b", "/{rest...}"}, ""},
		{[]string{"/a/", "/a"}, "match the same requests"},
		{[]string{"/a/", "/a/{rest...}"}, ""},
	} {
		got := newTable(testRoutes(t, c.routes...)).conflicts().Error()
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("conflicts(%q) = %q, want %q", c.routes, got, c.want)
		}
	}
}

func TestUnreachableRoutes(t *testing.T) {
	for _, c := range []struct{ routes, want string }{
		{"[{path: /a, upstream: 'echo:'}, {name: self, path: /a, exact: true, upstream: 'echo:'}, {path: '/a/{rest...}', upstream: 'echo:'}]", `gateway.yaml:1:10: route "/a" is never reached: route`},
		{"[{path: /, upstream: 'echo:'}, {path: /login, exact: true, upstream: 'echo:'}]", `is never reached: the gateway serves /login itself`},
		{"[{path: /, upstream: 'echo:'}, {path: /.gatehouse/x, upstream: 'echo:'}]", `is never reached: the gateway serves /.gatehouse/ itself`},
		{"[{path: /, upstream: 'echo:'}, {path: /a, methods: [GET], upstream: 'echo:'}]", ""},
		{"[{path: '/{x}', upstream: 'echo:'}, {path: /a, upstream: 'echo:'}]", ""},
	} {
		cfg, err := config.Parse("gateway.yaml", []byte("routes: "+c.routes), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewSnapshot(SnapshotOptions{Config: cfg, Endpoints: ownPages{}})
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("routes %s: %v, want %q", c.routes, err, c.want)
		}
	}
}

// manyRoutes is a snapshot of n routes.
func manyRoutes(t testing.TB, n int) *Snapshot {
	var yaml strings.Builder
	yaml.WriteString("routes:\n  - {path: /, upstream: 'echo:'}\n")
	for i := range n - 1 {
		fmt.Fprintf(&yaml, "  - {path: /app%d, access: {roles: [user]}, upstream: 'echo:'}\n", i)
	}
	return testSnapshot(t, yaml.String())
}

func testSnapshot(t testing.TB, yaml string) *Snapshot {
	t.Helper()
	cfg, err := config.Parse("gateway.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSnapshot(SnapshotOptions{Config: cfg, Endpoints: ownPages{}, Verifier: knownTokens{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		s := manyRoutes(b, n)
		for _, path := range []string{"/app0/plain/path", "/app0/Some/Path;v=1"} {
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("Authorization", "Bearer ann")
			b.Run(fmt.Sprintf("%d routes%s", n, path[5:]), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Decide(r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
