package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// testBrowserCrossOrigin has pages of others try what the browser lets them: of
// another port, which is the same site to a browser and has the cookies sent
// along, and of another site.
func testBrowserCrossOrigin(t *testing.T, c chromium, bin string) {
	gw := startNotes(t, bin, "")
	gw.register(t, "ann@example.com")
	gw.register(t, "mallory@example.com")

	form := func(action string, fields ...string) string {
		page := fmt.Sprintf(`<form method="post" action="%s%s">`, gw.url, action)
		for i := 0; i < len(fields); i += 2 {
			page += fmt.Sprintf(`<input name="%s" value="%s">`, fields[i], fields[i+1])
		}
		return page + `<button>Go</button></form>`
	}
	pages := map[string]string{
		"/login":    form("/login", "email", "mallory@example.com", "password", goodPassword),
		"/register": form("/register", "email", "eve@example.com", "password", goodPassword),
		"/logout":   form("/logout"),
		"/password": form("/.gatehouse/password", "current_password", goodPassword, "new_password", anotherPassword),
		"/save":     form("/save", "text", "from a stranger"),
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html>", pages[r.URL.Path])
	}))
	t.Cleanup(other.Close)

	b := c.browser(t, gw.url, device{})
	b.open("/")
	b.signIn("ann@example.com", goodPassword)
	for _, origin := range []string{other.URL, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)} {
		for path := range pages {
			b.open(origin + path)
			b.press("Go")
			// The app's page gets no cookie from another site, and has nobody to serve.
			if b.status != 403 && (b.status != 401 || path != "/save") {
				t.Errorf("%s posts %s: %d, want 403:\n%s", origin, path, b.status, b.text())
			}
		}
		b.open(origin + "/")
		if got := js[string](b, openSocket(strings.Replace(gw.url, "http:", "ws:", 1)+"/socket")); got != "closed" {
			t.Errorf("a websocket from %s gets %q", origin, got)
		}
		if got := js[string](b, `fetch("`+gw.url+`/api", {method: "POST", mode: "no-cors", credentials: "include"}).then(r => r.type, () => "failed")`); got != "opaque" {
			t.Errorf("fetch from %s: %q", origin, got)
		}
	}
	refused := func(path string) int {
		log := gw.output.String()
		return strings.Count(log, "path="+path+" status=403") + strings.Count(log, "path="+path+" status=401")
	}
	await(t, atMost, "the log to say that each was refused twice", func() bool { return refused("/socket") == 2 && refused("/api") == 2 })

	// All this has changed nothing, and the app's own page may do what they may not.
	b.open("/")
	b.sees(200, "/", "Private notes of ann@example.com")
	if got := js[string](b, openSocket("/socket")); got != "hello ann@example.com" {
		t.Errorf("the app's own websocket gets %q", got)
	}
	gw.visitor().want(t, 400, "POST", "/login", `{"email":"eve@example.com","password":"`+goodPassword+`"}`, "Content-Type: application/json")

	// No page of ours is shown in a frame, and nobody is sent elsewhere.
	pages["/frame"] = `<iframe src="` + gw.url + `/login"></iframe>`
	b.open(other.URL + "/frame")
	await(t, atMost, "the frame to be forbidden", func() bool { return strings.Contains(strings.Join(b.forbidden(), " "), "frame-ancestors 'none'") })
	for _, next := range []string{other.URL, strings.TrimPrefix(other.URL, "http:"), `/\` + strings.TrimPrefix(other.URL, "http://"), "/%09/" + strings.TrimPrefix(other.URL, "http://")} {
		b.forget()
		b.open("/login?next=" + next)
		b.signIn("ann@example.com", goodPassword)
		b.sees(200, "/", "Private notes of ann@example.com")
	}
}

// openSocket comes to the first message of a websocket, or to "closed".
func openSocket(url string) string {
	return `new Promise(done => { const s = new WebSocket("` + url + `"); s.onmessage = m => done(m.data); s.onclose = () => done("closed") })`
}

func testBrowserHTTPS(t *testing.T, c chromium, bin string) {
	ports := freePorts(t, 2)
	app := httptest.NewServer(notes())
	t.Cleanup(app.Close)
	dir := t.TempDir()
	writePair(t, dir)
	base := "https://localhost:" + ports[0]
	config := filepath.Join(dir, "gateway.yaml")
	writeFile(t, config, `
listen: 127.0.0.1:`+ports[0]+`
public_url: `+base+`
tls: {cert_file: cert.pem, key_file: key.pem}
admin: {listen: "127.0.0.1:`+ports[1]+`"}
`+expiring+`
users: {bcrypt_cost: 4}
routes:
  - path: /
    upstream: `+app.URL+`
`)
	startIn(t, dir, nil, bin, "serve", "--config", config).awaitAnswer(t, "http://127.0.0.1:"+ports[1]+"/readyz")

	b := c.browser(t, base, device{})
	b.open("/register")
	b.fill("email", "ann@example.com")
	b.fill("password", goodPassword)
	b.press("Create account")
	b.signIn("ann@example.com", goodPassword)
	b.sees(200, "/", "Private notes of ann@example.com")
	cookies := b.cookies()
	for _, name := range []string{"__Host-gatehouse", "__Host-gatehouse-refresh"} {
		if k := cookies[name]; k == nil || !k.Secure || !k.HTTPOnly || k.SameSite != "Lax" || k.Path != "/" || k.Domain != "localhost" {
			t.Errorf("%s is %+v", name, k)
		}
	}
	for name := range cookies {
		if !strings.HasPrefix(name, "__Host-") {
			t.Errorf("the cookie %s is not bound to its host", name)
		}
	}
	if got := js[string](b, "document.cookie"); got != "" {
		t.Errorf("scripts see the cookies %q", got)
	}
	if got := js[string](b, `fetch("/login").then(r => r.headers.get("Strict-Transport-Security"))`); !strings.Contains(got, "max-age=") {
		t.Errorf("Strict-Transport-Security: %q", got)
	}
	b.expires("__Host-gatehouse")
	b.open("/?again")
	b.sees(200, `/\?again`, "Private notes of ann@example.com")
	if b.cookies()["__Host-gatehouse"].Value == cookies["__Host-gatehouse"].Value {
		t.Error("no new access token")
	}
}
