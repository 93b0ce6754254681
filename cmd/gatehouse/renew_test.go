package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn/authntest"
)

// A jar is what a browser has of the gateway's cookies. It keeps none by itself:
// the tests decide which answers arrive.
type jar map[string]string

func (j jar) String() string {
	var pairs []string
	for _, name := range []string{"gatehouse", "gatehouse-refresh"} {
		if j[name] != "" {
			pairs = append(pairs, name+"="+j[name])
		}
	}
	return strings.Join(pairs, "; ")
}

// after is the jar once an answer has arrived.
func (j jar) after(h http.Header) jar {
	next := jar{}
	for name, value := range j {
		next[name] = value
	}
	for _, c := range (&http.Response{Header: h}).Cookies() {
		next[c.Name] = c.Value
	}
	return next
}

func register(t *testing.T, gateway, email string) {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"email": email, "password": goodPassword})
	res, err := http.Post(gateway+"/register", "application/json", strings.NewReader(string(body)))
	if err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("register: %v, %v", res, err)
	}
	res.Body.Close()
}

// signIn signs in as a browser does.
func signIn(t *testing.T, gateway, email string) jar {
	t.Helper()
	form := url.Values{"email": {email}, "password": {goodPassword}}.Encode()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", gateway+"/login", strings.NewReader(form))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	got := send(t, plainClient(), req)
	if got.status != http.StatusSeeOther {
		t.Fatalf("login = %d %s", got.status, got.body)
	}
	return jar{}.after(got.header)
}

// as sends a request with the jar's cookies. header are names and values in turn.
func (j jar) as(t *testing.T, method, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", j.String())
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return send(t, plainClient(), req)
}

// spend waits until the jar's access token is refused.
func (j jar) spend(t *testing.T, gateway string) {
	t.Helper()
	await(t, 20*time.Second, "the access token to run out", func() bool {
		return jar{"gatehouse": j["gatehouse"]}.as(t, "GET", gateway+"/").status == http.StatusUnauthorized
	})
}

func metric(t *testing.T, gw *servedGateway, name string) string {
	t.Helper()
	text, err := get(gw.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "0"
}

// shortLived is a gateway whose access tokens are soon spent. On a slow machine the
// fifty may take longer than the usual grace period.
const shortLived = `users: {database: "%s", bcrypt_cost: 4}
tokens: {access_ttl: %s, leeway: 0s, refresh_grace: 60s, issuer: "http://gw.example"}
routes:
  - {path: /, upstream: "%s"}
`

// Fifty requests of a browser whose access token has run out, at one gateway and
// at two: all are answered, one rotation is made, and whichever answers the
// browser keeps, it stays signed in.
func TestRefreshOnTheWay(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		gw := serveHere(t, fmt.Sprintf(shortLived, "sqlite", "1s", "echo:"))
		refreshOnTheWay(t, gw)
	})
	t.Run("postgres", func(t *testing.T) {
		server := authntest.StartPostgres(t, "fsync = off")
		keys := "data_dir: " + filepath.Join(t.TempDir(), "data") + "\n"
		yaml := keys + fmt.Sprintf(shortLived, server.URL("postgres"), "1s", "echo:")
		one := serveHere(t, yaml)
		refreshOnTheWay(t, one, serveHere(t, yaml))
	})
}

func refreshOnTheWay(t *testing.T, gateways ...*servedGateway) {
	one := gateways[0]
	register(t, one.url, "ann@example.com")
	old := signIn(t, one.url, "ann@example.com")
	old.spend(t, one.url)

	var mu sync.Mutex
	var answers []answer
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			got := old.as(t, "GET", gateways[i%len(gateways)].url+"/page")
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, got)
		})
	}
	wg.Wait()
	successors := map[string]bool{}
	for _, got := range answers {
		if got.status != http.StatusOK || !strings.Contains(got.body, "ann@example.com") {
			t.Fatalf("answer %d %s", got.status, got.body)
		}
		// No shared cache may keep what holds somebody's cookies.
		if cc := got.header.Get("Cache-Control"); !strings.Contains(cc, "private") && !strings.Contains(cc, "no-store") {
			t.Errorf("Cache-Control %q beside Set-Cookie", cc)
		}
		successors[jar{}.after(got.header)["gatehouse-refresh"]] = true
	}
	rotations := 0
	for _, gw := range gateways {
		rotations += strings.Count(gw.stderr.String(), "event=refresh ")
	}
	if len(successors) != 1 || successors[""] || rotations != 1 {
		t.Fatalf("%d successors, %d rotations in the audit log, want one", len(successors), rotations)
	}
	// The first token is still the one before the current: there was no other rotation.
	again := old.after(old.as(t, "GET", one.url+"/page").header)
	if !successors[again["gatehouse-refresh"]] {
		t.Error("another successor than the fifty got")
	}

	// Whichever answer arrived last: the cookies are good, now and once more.
	for _, got := range []answer{answers[0], answers[len(answers)-1]} {
		if now := old.after(got.header); now.as(t, "GET", one.url+"/page").status != http.StatusOK {
			t.Error("cookies of an answer are refused")
		}
	}
	last := old.after(answers[7].header)
	last.spend(t, one.url)
	if got := last.as(t, "GET", gateways[len(gateways)-1].url+"/page"); got.status != http.StatusOK {
		t.Errorf("later = %d %s", got.status, got.body)
	}
	for _, gw := range gateways {
		if n := metric(t, gw, `gatehouse_events_total{event="refresh_reuse",outcome="ok"}`); n != "0" {
			t.Errorf("%s alarms", n)
		}
	}
	if n := metric(t, one, `gatehouse_refreshes_total{outcome="ok"}`); n == "0" {
		t.Error("no refresh was counted")
	}
	await(t, 5*time.Second, "the log line", func() bool { return strings.Contains(one.stderr.String(), "refreshed=true") })
}

// Two thousand roles: the cookies stay small, and the app is told all of them, by
// cookie and by Bearer token.
func TestManyRoles(t *testing.T) {
	var roles []string
	for i := range 2000 {
		roles = append(roles, fmt.Sprintf("department-%04d", i))
	}
	list := strings.Join(roles, ",")
	yaml := fmt.Sprintf(shortLived, "sqlite", "1s", "echo:")
	gw := serveHere(t, strings.Replace(yaml, "users: {", "users: {default_roles: ["+list+"], ", 1)+
		"  - {path: /last, access: {roles: [department-1999]}, upstream: \"echo:\"}\n"+
		"  - {path: /none, access: {roles: [department-2000]}, upstream: \"echo:\"}\n")
	register(t, gw.url, "ann@example.com")
	jar := signIn(t, gw.url, "ann@example.com")
	if n := len(jar.String()); n > 4096 {
		t.Errorf("Cookie header of %d bytes", n)
	}
	told := func(what string, got answer) {
		t.Helper()
		var echo struct{ Headers map[string][]string }
		if err := json.Unmarshal([]byte(got.body), &echo); got.status != 200 || err != nil || strings.Join(echo.Headers["X-Forwarded-Groups"], ",") != list {
			t.Errorf("%s: %d, %v, %.300s", what, got.status, err, got.body)
		}
	}
	told("by cookie", jar.as(t, "GET", gw.url+"/last"))
	if got := jar.as(t, "GET", gw.url+"/none"); got.status != http.StatusForbidden {
		t.Errorf("without the role = %d", got.status)
	}
	jar.spend(t, gw.url)
	told("after a refresh", jar.as(t, "GET", gw.url+"/last"))

	body, _ := json.Marshal(map[string]string{"email": "ann@example.com", "password": goodPassword})
	req, _ := http.NewRequestWithContext(t.Context(), "POST", gw.url+"/login", strings.NewReader(string(body)))
	req.Header.Set("Content-Type", "application/json")
	var grant struct{ Access_Token string }
	if err := json.Unmarshal([]byte(send(t, plainClient(), req).body), &grant); err != nil || grant.Access_Token == "" {
		t.Fatal(err)
	}
	req, _ = http.NewRequestWithContext(t.Context(), "GET", gw.url+"/last", nil)
	req.Header.Set("Authorization", "Bearer "+grant.Access_Token)
	told("by Bearer token", send(t, plainClient(), req))
}

// Signing out in one tab signs out the others at their next request, whatever
// cookies they still have; and nobody can be signed in by another site.
func TestSignOutOfAllTabs(t *testing.T) {
	gw := serveHere(t, fmt.Sprintf(shortLived, "sqlite", "1h", "echo:"))
	register(t, gw.url, "ann@example.com")
	tab := signIn(t, gw.url, "ann@example.com")
	page := []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Accept", "text/html"}
	script := []string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "same-origin", "Accept", "text/html"}
	if got := tab.as(t, "GET", gw.url+"/a", page...); got.status != 200 || got.header.Get("Set-Cookie") != "" {
		t.Fatalf("signed in: %d %v", got.status, got.header)
	}
	if got := tab.as(t, "POST", gw.url+"/logout", append(page, "Content-Type", "application/x-www-form-urlencoded")...); got.status != http.StatusSeeOther ||
		got.header.Get("Clear-Site-Data") != `"cache"` || got.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("logout: %d %v", got.status, got.header)
	}
	for what, left := range map[string]jar{"both": tab, "the access token": {"gatehouse": tab["gatehouse"]}, "the refresh token": {"gatehouse-refresh": tab["gatehouse-refresh"]}} {
		got := left.as(t, "GET", gw.url+"/a?b=c", page...)
		if got.status != http.StatusFound || got.header.Get("Location") != "/login?next=%2Fa%3Fb%3Dc" || got.header.Get("Set-Cookie") != "" {
			t.Errorf("a page with %s: %d %v", what, got.status, got.header)
		}
		if got = left.as(t, "GET", gw.url+"/a", script...); got.status != 401 || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("a script with %s: %d %v", what, got.status, got.header)
		}
		if got = left.as(t, "GET", gw.url+"/.gatehouse/account", page...); got.status != http.StatusFound {
			t.Errorf("the account page with %s: %d", what, got.status)
		}
	}
	if got := tab.as(t, "POST", gw.url+"/.gatehouse/refresh"); got.status != 401 {
		t.Errorf("refresh: %d %s", got.status, got.body)
	}
	if n := metric(t, gw, `gatehouse_events_total{event="refresh_reuse",outcome="ok"}`); n != "0" {
		t.Errorf("%s alarms about an ended session", n)
	}

	form := url.Values{"email": {"ann@example.com"}, "password": {goodPassword}}.Encode()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", gw.url+"/login", strings.NewReader(form))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "https://evil.example")
	if got := send(t, plainClient(), req); got.status != 403 || got.header.Get("Set-Cookie") != "" {
		t.Errorf("a login that another site sent: %d %v", got.status, got.header)
	}
	again := signIn(t, gw.url, "ann@example.com")
	if id := func(j jar) string { s, _, _ := strings.Cut(j["gatehouse-refresh"], "."); return s }; id(again) == id(tab) {
		t.Error("the same session again")
	}
}
