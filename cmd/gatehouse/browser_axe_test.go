package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// How a page is looked at. A width of half the screen at twice the density is
// what a page gets at 200 % zoom, a quarter is 400 %.
type look struct {
	name          string
	dark          bool
	width, height int64
	density       float64
}

var looks = []look{
	{"light", false, 1280, 800, 1},
	{"dark", true, 1280, 800, 1},
	{"phone-dark", true, 360, 740, 2},
	{"zoomed", false, 640, 400, 2},
	{"zoomed-more", false, 320, 256, 4},
}

func (b *tab) look(l look) {
	b.t.Helper()
	b.do("look at it "+l.name, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		scheme := "light"
		if l.dark {
			scheme = "dark"
		}
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		if err != nil {
			return err
		}
		_, err = cdp.Call(ctx, t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: l.density, Mobile: l.width == 360})
		return err
	}))
}

// english are words of pages that no German page has.
var english = regexp.MustCompile(`\b(Sign|Password|Your|Request|Go)\b`)

// longAddress is as long as an address can be.
var longAddress = strings.Repeat("firstname.lastname-", 3) + "atwork@" + strings.Repeat("a-rather-long-department-name.", 4) + "example.com"

// testBrowserAxe has axe-core look at every page, in every way that people
// look at it. GATEHOUSE_PICTURES names a folder for what it looked at.
func testBrowserAxe(t *testing.T, c chromium, bin string) {
	axe := axeCore(t)
	gw, closed := startPages(t, bin)
	for _, d := range []struct {
		language string
		device   device
		looks    []look
	}{
		{"en", device{}, looks},
		{"de", device{languages: "de-DE,de"}, []look{looks[0], {"phone", false, 360, 740, 2}}},
	} {
		t.Run(d.language, func(t *testing.T) {
			t.Parallel()
			b := c.browser(t, gw.url, d.device)
			for _, page := range everyPage(gw, closed, d.language) {
				page.reach(b)
				if text := b.text(); b.status != page.status || d.language == "de" && english.MatchString(text) {
					t.Errorf("%s: status %d, want %d, in %s:\n%s", page.name, b.status, page.status, d.language, text)
				}
				if got := js[string](b, "document.documentElement.lang"); got != d.language {
					t.Errorf("%s: language %q, want %q", page.name, got, d.language)
				}
				b.do("bring axe", chromedp.Evaluate[chromedp.Void](axe))
				for _, l := range d.looks {
					b.look(l)
					found := js[[]string](b, findings)
					for _, f := range found {
						t.Errorf("%s, %s: %s", page.name, l.name, f)
					}
					if len(found) > 0 {
						b.leavePicture()
					}
					if dir := os.Getenv("GATEHOUSE_PICTURES"); dir != "" {
						if err := b.picture(filepath.Join(dir, page.name+"-"+d.language+"-"+l.name+".png")); err != nil {
							t.Error(err)
						}
					}
				}
				b.look(looks[0])
			}
		})
	}
}

// findings asks axe for everything that it knows a rule for, and the page
// whether it can be read without scrolling sideways (WCAG 2.2, 1.4.10).
const findings = `(async () => {
	document.getAnimations().forEach(a => a.finish()); // colours on their way from light to dark
	const known = await axe.run({rules: {"target-size": {enabled: true}}, resultTypes: ["violations", "incomplete"]});
	const found = [...known.violations, ...known.incomplete].map(v => v.id + ": " + v.help + " " +
		v.nodes.map(n => n.target + " " + n.failureSummary.replace(/\s+/g, " ")).join("; "));
	const root = document.documentElement;
	if (root.scrollWidth > root.clientWidth) {
		found.push("wider than the window: " + root.scrollWidth + " of " + root.clientWidth);
	}
	return found;
})()`

// axeCore is the source of axe-core, which make setup brings.
func axeCore(t *testing.T) string {
	t.Helper()
	file := os.Getenv("GATEHOUSE_AXE")
	if _, err := os.Stat(file); err != nil {
		t.Skip("GATEHOUSE_AXE does not name axe-core's axe.min.js, which make test brings")
	}
	return readFile(t, file)
}

// A shown is a page of the gateway, with the way there.
type shown struct {
	name   string
	status int64
	reach  func(b *tab)
}

// everyPage is what a browser that has been nowhere can come to see of gw, and
// of closed, which waits for Redis.
func everyPage(gw, closed *liveGateway, suffix string) []shown {
	fails := func(b *tab, email string) {
		b.open("/login?next=/form")
		b.enter("email", email, "password", "not "+goodPassword)
	}
	return []shown{
		{"login", 200, func(b *tab) { b.open("/login?next=/form") }},
		{"login-failed", 400, func(b *tab) { fails(b, "nobody@example.com") }},
		{"login-throttled", 429, func(b *tab) {
			for range 4 {
				fails(b, "forgetful-"+suffix+"@example.com")
			}
		}},
		{"register", 200, func(b *tab) { b.open("/register?next=/form") }},
		{"register-failed", 400, func(b *tab) {
			b.open("/register")
			b.enter("email", "ann@example.com", "password", "123")
		}},
		{"registered", 200, func(b *tab) {
			b.open("/register")
			b.enter("email", "new-"+suffix+"@example.com", "password", goodPassword)
		}},
		{"account", 200, func(b *tab) {
			b.open("/login?next=/.gatehouse/account")
			b.enter("email", longAddress, "password", goodPassword)
		}},
		{"account-failed", 400, func(b *tab) {
			b.enter("current_password", "not "+goodPassword, "new_password", anotherPassword)
		}},
		{"forbidden", 403, func(b *tab) { b.open("/ops/") }},
		{"not-found", 404, func(b *tab) { b.open("/nowhere/at-all") }},
		{"upstream-down", 502, func(b *tab) { b.open("/down") }},
		{"foreign-form", 403, func(b *tab) {
			b.open("data:text/html,<form method=post action=" + gw.url + "/login><button>Go")
			b.press("Go")
		}},
		{"session-ended", 401, func(b *tab) {
			b.open("/form")
			b.forget()
			b.press("Save")
		}},
		{"unavailable", 503, func(b *tab) {
			b.open(closed.url + "/login?next=/form")
			b.enter("email", "ann@example.com", "password", goodPassword)
		}},
	}
}

// startPages is a gateway that has every page to show, and one that waits for
// Redis.
func startPages(t *testing.T, bin string) (gw, closed *liveGateway) {
	t.Helper()
	app := httptest.NewServer(notes())
	t.Cleanup(app.Close)
	unused := freePorts(t, 1)[0]
	const users = "users: {bcrypt_cost: 4, throttle: {attempts: 3, window: 1h}}\n"
	routes := fmt.Sprintf(`
endpoints: {title: Example Ltd}
routes:
  - {path: /form, upstream: %[1]q}
  - {path: /save, upstream: %[1]q}
  - {path: /down, upstream: "http://127.0.0.1:%[2]s"}
  - {path: /ops, upstream: %[1]q, access: {roles: [ops]}}
`, app.URL, unused)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "gateway.yaml"), users+routes)
	gw = startGateway(t, bin, dir)
	for _, email := range []string{"ann@example.com", longAddress} {
		gw.cli(t, goodPassword+"\n", "user", "add", email, "--roles", "dev,calendar,a-role-with-a-rather-long-name,readers,writers")
	}

	ports := freePorts(t, 2)
	dir = t.TempDir()
	config := filepath.Join(dir, "gateway.yaml")
	writeFile(t, config, "revocation: {store: redis, redis: {url: redis://127.0.0.1:"+unused+"}}\n"+routes)
	setPorts(t, config, ports[0], ports[1])
	closed = &liveGateway{process: startIn(t, dir, nil, bin, "serve", "--config", config), bin: bin, config: config,
		url: "http://127.0.0.1:" + ports[0], admin: "http://127.0.0.1:" + ports[1], client: plainClient()}
	closed.awaitAnswer(t, closed.url+"/login") // it never is ready
	closed.cli(t, goodPassword+"\n", "user", "add", "ann@example.com")
	return gw, closed
}
