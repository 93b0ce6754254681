package main

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestEndToEnd runs the program as it is shipped, in front of real apps and
// with the configuration files of examples/. Processes of apps and gateways are
// real, ports are free ones of the loopback, and all of it ends with its test.
func TestEndToEnd(t *testing.T) {
	bin := buildAsShipped(t)
	for _, part := range []struct {
		name string
		test func(t *testing.T, bin string)
	}{
		{"radicale", testRadicale},
		{"prometheus", testPrometheus},
		{"streams", testStreams},
		{"jwks-upstream", testJWKSUpstream},
		{"trusted-issuer", testTrustedIssuer},
		{"tls", testTLS},
		{"two-replicas", testTwoReplicas},
		{"sidecar", testSidecar},
		{"replicas", testReplicas},
		{"container", testContainer},
		{"readme", testReadme},
		{"check", testCheck},
		{"secrets", testSecrets},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, bin)
		})
	}
}

const goodPassword = "correct horse battery staple"

// startRadicale is the example's gateway in front of Radicale, with more in its
// configuration.
func startRadicale(t *testing.T, bin, more string) *liveGateway {
	t.Helper()
	radicale := need(t, "radicale")
	port := freePorts(t, 1)[0]
	dir := copyExample(t, "radicale", "127.0.0.1:5232", "127.0.0.1:"+port)
	appendTo(t, filepath.Join(dir, "gateway.yaml"), more)
	app := startIn(t, dir, nil, radicale, "--config", filepath.Join(dir, "config"))
	app.awaitAnswer(t, "http://127.0.0.1:"+port+"/")
	return startGateway(t, bin, dir)
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	writeFile(t, file, readFile(t, file)+"\n"+text+"\n")
}

// Radicale knows its users by X-Remote-User alone.
func testRadicale(t *testing.T, bin string) {
	gw := startRadicale(t, bin, "")
	ann := gw.register(t, "ann@example.com")
	bob := gw.register(t, "bob@example.com")
	const calendar = "/ann@example.com/holidays/"
	const event = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\nBEGIN:VEVENT\r\nUID:1\r\n" +
		"DTSTAMP:20300101T000000Z\r\nDTSTART;VALUE=DATE:20301224\r\nSUMMARY:Christmas Eve\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"

	ann.want(t, 201, "MKCALENDAR", calendar, "")
	ann.want(t, 201, "PUT", calendar+"1.ics", event, "Content-Type: text/calendar")
	if got := ann.want(t, 200, "GET", calendar+"1.ics", ""); !strings.Contains(got.body, "SUMMARY:Christmas Eve") {
		t.Errorf("the event read back is %q", got.body)
	}
	if got := ann.want(t, 207, "PROPFIND", calendar, "", "Depth: 1"); !strings.Contains(got.body, "/holidays/1.ics") {
		t.Errorf("PROPFIND does not list the event: %s", got.body)
	}
	ann.want(t, 200, "GET", "/.web/", "")

	// The same with the client of the README.
	curl := func(token, method, path string) string {
		out, err := exec.CommandContext(t.Context(), need(t, "curl"), "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}",
			"-X", method, "-H", "Authorization: Bearer "+token, gw.url+path).CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v: %s", err, out)
		}
		return string(out)
	}
	for _, c := range []struct{ token, method, path, want string }{
		{ann.token, "MKCALENDAR", "/ann@example.com/work/", "201"},
		{ann.token, "PROPFIND", "/ann@example.com/work/", "207"},
		{bob.token, "PROPFIND", "/ann@example.com/work/", "403"},
		{"nonsense", "PROPFIND", "/ann@example.com/work/", "401"},
	} {
		if got := curl(c.token, c.method, c.path); got != c.want {
			t.Errorf("curl -X %s %s = %s, want %s", c.method, c.path, got, c.want)
		}
	}

	// Nobody sees another's calendar, whoever they say they are.
	forged := [][]string{
		nil,
		{"X-Remote-User: ann@example.com"},
		{"x-remote-user: ann@example.com"},
		{"X_Remote_User: ann@example.com"},
		{"X-Remote_User: ann@example.com"},
		{"X-Remote-User: ann@example.com", "X-Remote-User: ann@example.com", "Connection: X-Remote-User"},
		{"Connection: close, X-Remote-User"},
	}
	nobody := gw.visitor()
	for i, header := range forged {
		bob.want(t, 403, "GET", calendar+"1.ics", "", header...)
		bob.want(t, 403, "PROPFIND", calendar, "", header...)
		bob.want(t, 403, "MKCALENDAR", "/ann@example.com/by-bob/", "", header...)
		bob.want(t, 403, "DELETE", calendar+"1.ics", "", header...)
		bob.want(t, 201, "MKCALENDAR", fmt.Sprintf("/bob@example.com/own-%d/", i), "", header...)
		nobody.want(t, 401, "GET", calendar+"1.ics", "", header...)
	}
	ann.want(t, 200, "GET", calendar+"1.ics", "", "Connection: close, X-Remote-User", "X-Remote-User: bob@example.com")

	ann.want(t, 204, "POST", "/logout", "{}", "Content-Type: application/json")
	ann.want(t, 401, "GET", calendar+"1.ics", "")
	bob.want(t, 207, "PROPFIND", "/bob@example.com/", "")
}

// startPrometheus is the example's gateway in front of Prometheus, with more in
// its configuration, an operator ann and a developer bob.
func startPrometheus(t *testing.T, bin, more string) *liveGateway {
	t.Helper()
	prometheus := need(t, "prometheus")
	ports := freePorts(t, 3)
	app, public, admin := ports[0], ports[1], ports[2]
	dir := copyExample(t, "prometheus",
		"127.0.0.1:9090", "127.0.0.1:"+app, "127.0.0.1:9901", "127.0.0.1:"+admin, "scrape_interval: 15s", "scrape_interval: 1s")
	appendTo(t, filepath.Join(dir, "gateway.yaml"), more)
	startIn(t, dir, nil, prometheus, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+t.TempDir(),
		"--web.listen-address=127.0.0.1:"+app, "--web.external-url=http://127.0.0.1:"+public+"/prometheus/", "--web.route-prefix=/prometheus/").
		awaitAnswer(t, "http://127.0.0.1:"+app+"/prometheus/-/ready")
	gw := startGatewayAt(t, bin, dir, public, admin)
	gw.cli(t, goodPassword+"\n", "user", "add", "ann@example.com", "--roles", "dev,ops")
	gw.cli(t, goodPassword+"\n", "user", "add", "bob@example.com", "--roles", "dev")
	return gw
}

// Prometheus has no users at all: roles keep its pages and its API apart.
func testPrometheus(t *testing.T, bin string) {
	gw := startPrometheus(t, bin, "")
	ann, bob, nobody := gw.login(t, "ann@example.com"), gw.login(t, "bob@example.com"), gw.visitor()

	const query = "/prometheus/api/v1/query?query=vector(42)"
	const navigation = "Accept: text/html,application/xhtml+xml"
	if got := ann.want(t, 200, "GET", query, ""); !strings.Contains(got.body, `"42"`) {
		t.Errorf("query API answers %s", got.body)
	}
	ann.want(t, 200, "POST", "/prometheus/api/v1/query", "query=vector(42)", "Content-Type: application/x-www-form-urlencoded")

	// Closed to everyone else, whatever roles they claim.
	for _, forged := range [][]string{nil, {"X-Forwarded-Groups: ops"}, {"X_Forwarded_Groups: ops", "X-Forwarded-User: ann"}} {
		for _, path := range []string{"/", "/prometheus", "/prometheus/", "/prometheus/graph", query, "/prometheus/-/ready"} {
			bob.want(t, 403, "GET", path, "", forged...).wantError(t, "forbidden")
			nobody.want(t, 401, "GET", path, "", forged...).wantError(t, "missing_token")
			got := nobody.want(t, 302, "GET", path, "", append(forged, navigation)...)
			if to, err := url.Parse(got.header.Get("Location")); err != nil || to.Query().Get("next") != path || !strings.HasSuffix(to.Path, "/login") {
				t.Errorf("a browser asking for %s is sent to %q, want the login page with next", path, got.header.Get("Location"))
			}
		}
	}
	ann.want(t, 404, "GET", "/metrics", "").wantError(t, "no_route")

	// Prometheus' own redirects, pages and assets, as a browser meets them.
	browser := gw.browser(t)
	page := browser.follow(t, "/")
	if !strings.Contains(page.url.Path, "/login") {
		t.Fatalf("a browser without a session ends at %s, want the login page", page.url)
	}
	page = browser.submit(t, page, url.Values{"email": {"ann@example.com"}, "password": {goodPassword}})
	if page.status != 200 || !regexp.MustCompile(`^/prometheus/.*graph`).MatchString(page.url.Path) || !strings.Contains(page.body, "<title>Prometheus") {
		t.Fatalf("after the login a browser is at %s with status %d: %.300s", page.url, page.status, page.body)
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]+\.(?:js|css|ico|png|svg)[^"]*)"`).FindAllStringSubmatch(page.body, -1)
	if len(assets) < 3 {
		t.Fatalf("only %d assets in the page: %.2000s", len(assets), page.body)
	}
	for _, a := range assets {
		ref, err := page.url.Parse(a[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := browser.follow(t, ref.RequestURI()); got.status != 200 || len(got.body) == 0 || strings.Contains(got.header.Get("Content-Type"), "text/html") {
			t.Errorf("asset %s: status %d, %d bytes of %s", ref, got.status, len(got.body), got.header.Get("Content-Type"))
		}
		nobody.want(t, 401, "GET", ref.RequestURI(), "")
	}

	// The gateway's metrics are such that Prometheus reads them.
	await(t, 30*time.Second, "Prometheus to have read the gateway's metrics", func() bool {
		got := ann.want(t, 200, "GET", "/prometheus/api/v1/query?query="+url.QueryEscape(`up{job="gatehouse"} == 1`), "")
		return strings.Contains(got.body, `"job":"gatehouse"`)
	})

	ann.want(t, 204, "POST", "/logout", "{}", "Content-Type: application/json")
	ann.want(t, 401, "GET", query, "").wantError(t, "invalid_token")
	gw.login(t, "ann@example.com").want(t, 200, "GET", query, "")
}
