package proxy

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"gatehouse/authn"
)

func TestCanonicalHost(t *testing.T) {
	for host, want := range map[string]string{
		"gw.example":              "gw.example gw.example",
		"GW.Example.":             "gw.example gw.example",
		"gw.example:00080":        "gw.example gw.example:80",
		"gw.example:":             "gw.example gw.example",
		"a_b.example":             "a_b.example a_b.example",
		"127.0.0.1:8080":          "127.0.0.1 127.0.0.1:8080",
		"[::1]":                   "[::1] [::1]",
		"[0:0:0:0:0:0:0:1]:443":   "[::1] [::1]:443",
		"":                        "",
		".":                       "",
		"a..b":                    "",
		".a":                      "",
		"a b":                     "",
		"a,b":                     "",
		"::1":                     "",
		"[::1":                    "",
		"[fe80::1%25eth0]":        "",
		"[127.0.0.1]":             "",
		"a:0":                     "",
		"a:65536":                 "",
		"a:+80":                   "",
		"a@b":                     "",
		"a/b":                     "",
		"bücher.example":          "",
		strings.Repeat("a", 64):   "",
		strings.Repeat("a.", 160): "",
	} {
		name, hostPort, err := canonicalHost(host)
		if got := strings.TrimSpace(name + " " + hostPort); got != want || (err == nil) != (want != "") {
			t.Errorf("canonicalHost(%q) = %q, %v, want %q", host, got, err, want)
		}
	}
}

func TestReadings(t *testing.T) {
	for path, want := range map[string]string{
		"/plain/path":          "/plain/path",
		"/%61dmin":             "/admin",
		"/a;x/b":               "/a/b",
		"//a///b":              "/a/b",
		"/a%255cb":             "/a/b",
		"/a%23b":               "/a",
		"/a%3fb":               "/a",
		"/a./b":                "/a/b",
		"/a%20%20/b":           "/a/b",
		"/a%2e%20./b":          "/a/b",
		"/%ef%bc%8fa":          "/a",
		"/caf%e9":              "/café",
		"/a/%252e%252e/b":      "refused",
		"/a/..;/b":             "refused",
		"/%2525252e%252e":      "refused",
		"/a/%25%32%65%252e/b":  "refused",
		"/a%2500.png":          "refused",
		"/x%2f..%252f..%252fy": "refused",
		"/a/.%20":              "refused",
		"/a/%ef%bc%8e/b":       "refused",
		"/%25e0%2580%25af":     "refused",
	} {
		loc := &location{path: path}
		var got []string
		err := loc.inspect()
		if err == nil {
			got, err = readings(loc)
		}
		if want == "refused" {
			if !errors.Is(err, authn.ErrBadPath) {
				t.Errorf("readings(%q) = %q, %v, want bad_path", path, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("readings(%q): %v", path, err)
		}
		for _, one := range strings.Fields(want) {
			if !slices.Contains(got, one) {
				t.Errorf("readings(%q) = %q, want %q among them", path, got, one)
			}
		}
	}
}

func TestReadingsAreBounded(t *testing.T) {
	hostile := "/a;b./%255cy//c%20;d/%2523e/%ef%bc%8fx%20./z." + strings.Repeat("%25", 60) + "3b%2520/%253fq"
	loc := &location{path: hostile}
	if err := loc.inspect(); err != nil {
		t.Fatal(err)
	}
	if got, err := readings(loc); err == nil {
		t.Errorf("readings of a hostile path: %d, want a refusal", len(got))
	}
	long := &location{path: "/" + strings.Repeat("a;", maxOddPath)}
	if err := long.inspect(); !errors.Is(err, authn.ErrBadPath) {
		t.Errorf("an odd path of %d bytes: %v, want bad_path", len(long.path), err)
	}
}

func TestFold(t *testing.T) {
	for _, same := range [][]string{
		{"admin", "ADMIN", "Admin", "admın", "ADMİN"},
		{"k", "K", "\u212a"},
		{"s", "S", "ſ"},
		{"straße", "STRAßE"},
	} {
		for _, s := range same {
			if fold(s) != fold(same[0]) {
				t.Errorf("fold(%q) = %q, want %q", s, fold(s), fold(same[0]))
			}
		}
	}
}

// lenientServer is an upstream that reads paths as carelessly as possible, in
// the order that seed says.
func lenientServer(path string, seed uint) string {
	s := path
	for range 4 {
		for i := range lenient {
			s = lenient[(i+int(seed%97))%len(lenient)](s)
		}
		if !strings.HasPrefix(s, "/") {
			s = "/" + s
		}
		if seed%2 == 1 {
			s = strings.ToLower(s)
		}
	}
	return s
}

// FuzzDecide states I2 of the security page: whatever a lenient server makes of
// what is forwarded, a path without a credential never reaches what is
// protected, and what is forwarded is what was received.
func FuzzDecide(f *testing.F) {
	for _, seed := range []string{
		"/public/a", "/admin", "/public/..%2fadmin", "/public/%252e%252e/admin", "/..;/admin", "//admin",
		"/ADMIN", "/public/..%5cadmin", "/%ef%bc%8fadmin", "/adm%C4%B1n", "/public%00/x", "/admin%23", "/public/.%20./admin",
		"/public/%2525252e%2525252e/admin", "/public;/x", "/public/%c0%ae", "http://gw.example/admin", "*", "gw:80",
	} {
		f.Add(seed, uint(0))
		f.Add(seed, uint(7))
	}
	s := testSnapshot(f, `routes:
  - {path: /public, access: public, upstream: 'http://127.0.0.1:1'}
  - {path: /api, upstream: 'http://127.0.0.1:1', encoded_slashes: forward}
  - {path: /admin, access: {roles: [admin]}, upstream: 'http://127.0.0.1:1'}
`)
	f.Fuzz(func(t *testing.T, target string, order uint) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", Host: "gw.example", RequestURI: target, URL: u, Header: http.Header{}, RemoteAddr: "192.0.2.1:1"}
		d, err := s.Decide(r)
		if err != nil {
			if authn.AsRefusal(err).Code == authn.ErrInternal.Code {
				t.Fatalf("Decide(%q): %v", target, err)
			}
			return
		}
		if d.Route == nil {
			return
		}
		sent := d.URL.RequestURI()
		if want := strings.TrimPrefix(target, "http://gw.example"); strings.HasPrefix(target, "/") && sent != want {
			t.Fatalf("Decide(%q) forwards %q", target, sent)
		}
		path, _, _ := strings.Cut(sent, "?")
		reading := lenientServer(path, order)
		for _, rt := range s.table.matchReading("gw.example", reading, "GET") {
			if rt.Path != "/public" {
				t.Fatalf("Decide(%q) forwards %q without a credential; it can be read as %q", target, sent, reading)
			}
		}
	})
}

func TestStripPrefix(t *testing.T) {
	for _, c := range []struct{ path, prefix, want string }{
		{"/api/users", "/api", "/users"},
		{"/api", "/api", "/"},
		{"/api/", "/api", "/"},
		{"/%61pi/users", "/api", "/users"},
		{"/api/a%2Fb;c", "/api", "/a%2Fb;c"},
		{"/api//admin", "/api", ""},
		{"//api/admin", "/api", ""},
		{"/apiadmin", "/api", ""},
		{"/api%2fadmin", "/api", ""},
		{"/a/b/c", "/a/b/", "/c"},
		{"/x", "", "/x"},
	} {
		got, err := stripPrefix(c.path, c.prefix)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("stripPrefix(%q, %q) = %q, %v, want %q", c.path, c.prefix, got, err, c.want)
		}
	}
}

func TestEveryRefusalHasAStatus(t *testing.T) {
	codes := map[string]bool{}
	for _, r := range authn.Refusals() {
		codes[r.Code] = true
		if statuses[r.Code] == 0 {
			t.Errorf("refusal %q has no status", r.Code)
		}
	}
	for code := range statuses {
		if !codes[code] {
			t.Errorf("status of %q, which is no refusal", code)
		}
	}
}

func TestNavigation(t *testing.T) {
	for _, c := range []struct {
		method, mode, accept string
		want                 bool
	}{
		{"GET", "navigate", "", true},
		{"HEAD", "navigate", "", true},
		{"POST", "navigate", "text/html", false},
		{"GET", "cors", "text/html", false},
		{"GET", "", "text/html;q=0.9, */*", true},
		{"GET", "", "application/json, TEXT/HTML", true},
		{"GET", "", "*/*", false},
		{"GET", "", "text/html-ish", false},
		{"GET", "", "", false},
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		if c.mode != "" {
			r.Header.Set("Sec-Fetch-Mode", c.mode)
		}
		r.Header.Set("Accept", c.accept)
		if got := isNavigation(r); got != c.want {
			t.Errorf("isNavigation(%+v) = %v", c, got)
		}
	}
}
