package main

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/coder/websocket"
)

// TestBrowser has people use the gateway with Chromium, in front of real apps.
func TestBrowser(t *testing.T) {
	c := startChromium(t)
	bin := buildAsShipped(t)
	for _, part := range []struct {
		name string
		test func(t *testing.T, c chromium, bin string)
	}{
		{"radicale", testBrowserRadicale},
		{"prometheus", testBrowserPrometheus},
		{"account", testBrowserAccount},
		{"way", testBrowserWay},
		{"cross-origin", testBrowserCrossOrigin},
		{"https", testBrowserHTTPS},
		{"keyboard", testBrowserKeyboard},
		{"axe", testBrowserAxe},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, c, bin)
		})
	}
}

// expiring has access tokens run out under way.
const expiring = "tokens: {access_ttl: 2s, leeway: 0s}"

// startNotes is a gateway in front of notes, with more in its configuration.
func startNotes(t *testing.T, bin, more string) *liveGateway {
	t.Helper()
	app := httptest.NewServer(notes())
	t.Cleanup(app.Close)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "gateway.yaml"), "users: {bcrypt_cost: 4}\n"+more+"\nroutes:\n  - path: /\n    upstream: "+app.URL+"\n")
	return startGateway(t, bin, dir)
}

// notes is an app with pages, a form, an API and a websocket, all of which say
// whose they are.
func notes() http.Handler {
	mux := http.NewServeMux()
	page := func(w http.ResponseWriter, r *http.Request, body string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><html lang=en><title>Notes</title><h1>Private notes of %s</h1>%s",
			html.EscapeString(r.Header.Get("X-Forwarded-Email")), body)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		page(w, r, "<p>You asked for "+html.EscapeString(r.URL.String()))
	})
	mux.HandleFunc("/cached", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		page(w, r, "")
	})
	mux.HandleFunc("/form", func(w http.ResponseWriter, r *http.Request) {
		page(w, r, `<form method="post" action="/save"><textarea name="text"></textarea><button>Save</button></form>`)
	})
	mux.HandleFunc("/save", func(w http.ResponseWriter, r *http.Request) {
		page(w, r, "<p>"+r.Method+": "+html.EscapeString(r.FormValue("text")))
	})
	mux.HandleFunc("/api", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s by %s", r.Method, r.Header.Get("X-Forwarded-Email"))
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		// The app takes anybody: what keeps strangers out is the gateway.
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		_ = c.Write(r.Context(), websocket.MessageText, []byte("hello "+r.Header.Get("X-Forwarded-Email")))
		_, _, _ = c.Read(r.Context())
	})
	return mux
}

func testBrowserRadicale(t *testing.T, c chromium, bin string) {
	gw := startRadicale(t, bin, expiring)
	b := c.browser(t, gw.url, device{})

	// Whoever comes to the app for the first time makes an account, and is back.
	b.open("/.web/?from=start")
	b.sees(200, `/login\?next=.*`, "Sign in")
	b.follow("Create one")
	b.fill("email", "ann@example.com")
	b.fill("password", goodPassword)
	b.press("Create account")
	b.sees(200, `/login\?.*`, "Your account was created")
	b.signIn("ann@example.com", goodPassword)
	b.sees(200, `/.web/\?from=start`)

	// Radicale's own form wants a name, which is not what it believes.
	b.awaits("Radicale's page to start", `!document.querySelector("#loginscene").classList.contains("hidden")`)
	b.typeInto(`#loginscene [data-name="user"]`, "ann@example.com")
	b.typeInto(`#loginscene [data-name="password"]`, "anything\r")
	b.awaits("the collections", `!document.querySelector("#collectionsscene").classList.contains("hidden")`)

	// The page works on while access tokens come and go: nothing but XHR from here.
	for _, calendar := range []string{"Holidays", "Birthdays"} {
		b.expires("gatehouse")
		b.clickOn(`#collectionsscene [data-name="new"]`)
		b.typeInto(`#createcollectionscene [data-name="displayname"]`, calendar+"\r")
		b.awaits(calendar+" to be listed", `[...document.querySelectorAll("#collectionsscene [data-name=title]")].some(e => e.innerText == `+quoted(calendar)+`)`)
	}
	if got := js[int](b, "performance.getEntriesByType('navigation').length"); got != 1 {
		t.Errorf("%d navigations, want one", got)
	}

	// Somebody else does not see them.
	bob := gw.register(t, "bob@example.com")
	bob.want(t, 403, "PROPFIND", "/ann@example.com/", "")
}

func testBrowserPrometheus(t *testing.T, c chromium, bin string) {
	gw := startPrometheus(t, bin, expiring)

	b := c.browser(t, gw.url, device{})
	b.open("/prometheus/graph?g0.expr=vector(41)&g0.tab=1") // the way there keeps a query
	b.signIn("ann@example.com", goodPassword)
	b.awaits("the query of the address", `location.search.includes("vector(41)") && document.querySelector("#console0").innerText.includes("41")`)
	if broken := js[[]string](b, `performance.getEntriesByType("resource").filter(e => e.responseStatus >= 400).map(e => e.name + " " + e.responseStatus)`); len(broken) > 0 {
		t.Errorf("not loaded: %q", broken)
	}

	b.open("/") // Prometheus redirects to its page
	b.awaits("the graph page", `location.pathname.includes("graph") && document.querySelector("#expr0")`)
	b.expires("gatehouse")
	b.typeInto("#expr0", "vector(42)\r")
	b.awaits("the answer", `document.querySelector("#console0").innerText.includes("42")`)
	b.expires("gatehouse")
	b.open(js[string](b, `document.querySelector("a[href$='/targets']").href`))
	b.awaits("the targets", `document.body.innerText.includes("prometheus/metrics")`)

	// Another has no role for it, and is told so.
	d := c.browser(t, gw.url, device{})
	d.open("/")
	d.signIn("bob@example.com", goodPassword)
	d.sees(403, "/")
}
