package main

// What the browser tests stand on: one Chromium and its tabs.

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// chromium is one process; each browser in it has cookies and a cache of its
// own.
type chromium struct{ ctx context.Context }

func startChromium(t *testing.T) chromium {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(need(t, "chromium")),
		chromedp.DisableGPU,
		chromedp.IgnoreCertErrors, // the gateway's pair on https is its own
		chromedp.WindowSize(1280, 800),
		chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.CombinedOutput(io.Discard),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	// Not t.Context(), which ends before what is to be cleaned up is.
	process, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	quiet := func(f string, a ...any) { t.Logf("CDP "+f, a...) }
	ctx, closeTabs := chromedp.NewContext(process, chromedp.WithLogf(quiet), chromedp.WithErrorf(quiet))
	t.Cleanup(closeTabs)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return chromium{ctx}
}

// A tab is one tab of a browser, which shows what is at base. What it is asked
// to do happens within atMost, or the test fails and leaves a picture of what
// the tab shows.
type tab struct {
	t      *testing.T
	ctx    context.Context
	base   string
	status int64 // of the page that was opened last

	mu   sync.Mutex
	page loaded
}

const atMost = 20 * time.Second

// A device is what a browser says of itself. The zero value is Chromium's own,
// in English.
type device struct{ userAgent, languages string }

const (
	onPhone   = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
	onDesktop = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)

// browser is a new tab in a browser that has been nowhere.
func (c chromium) browser(t *testing.T, base string, d device) *tab {
	t.Helper()
	return newTab(t, c.ctx, base, d, chromedp.WithNewBrowserContext())
}

// another is one more tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return newTab(b.t, b.ctx, b.base, device{})
}

func newTab(t *testing.T, parent context.Context, base string, d device, options ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, base: base}
	ctx, end := chromedp.NewContext(parent, append(options, chromedp.WithListener(b.listen))...)
	b.ctx = ctx
	t.Cleanup(end)
	t.Cleanup(func() {
		for _, v := range b.forbidden() {
			t.Errorf("a page broke its own rules: %s", v)
		}
		if t.Failed() {
			b.leavePicture()
		}
	})
	if d.userAgent == "" {
		d.userAgent = onDesktop
	}
	if d.languages == "" {
		d.languages = "en-GB,en"
	}
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first action
		t.Fatalf("open a tab: %v", err)
	}
	b.do("begin", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: d.userAgent, AcceptLanguage: d.languages})
		if err != nil {
			return err
		}
		// Several tabs at once, and each behaves as if it were the one in front.
		_, err = cdp.Call(ctx, t, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}))
	return b
}

// loaded is what is known of the page of a tab.
type loaded struct {
	loads      int   // since the tab was opened, of pages that stay
	status     int64 // of the last one's answer
	passing    bool  // the last one leads on by itself
	violations []string
}

// listen notes which pages come, and what was forbidden to them by their own
// policy.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventResponseReceived:
		// What loads a document has the name of its request.
		if e.Type == network.ResourceTypeDocument && string(e.LoaderID) == string(e.RequestID) {
			b.page.status = e.Response.Status
			_, plain := e.Response.Headers["Refresh"]
			_, http2 := e.Response.Headers["refresh"]
			b.page.passing = plain || http2
		}
	case *page.EventLoadEventFired:
		if !b.page.passing {
			b.page.loads++
		}
	case *cdplog.EventEntryAdded:
		if strings.Contains(e.Entry.Text, "Content Security Policy") {
			b.page.violations = append(b.page.violations, e.Entry.Text)
		}
	}
}

func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, atMost)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// leads does what leads to another page, and waits until that is loaded.
func (b *tab) leads(what string, step func()) {
	b.t.Helper()
	before := b.loaded().loads
	step()
	await(b.t, atMost, "another page after: "+what, func() bool { return b.loaded().loads > before })
	b.status = b.loaded().status
}

// forbidden is what the policy of a page kept from happening since the last
// call.
func (b *tab) forbidden() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.page.violations
	b.page.violations = nil
	return was
}

func (b *tab) loaded() loaded {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.page
}

// js is what an expression comes to in the page, promises awaited.
func js[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, atMost)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// awaits returns once an expression is true in the page, whichever page that is
// by then.
func (b *tab) awaits(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, atMost)
	defer cancel()
	for {
		reached, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")", chromedp.EvalAwaitPromise))
		if err == nil && reached {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("waited %v for %s (%v); at %s: %s", atMost, what, err, b.at(), b.text())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// at is path and query of the page.
func (b *tab) at() string { return js[string](b, "location.pathname + location.search") }

// text is what a person can read in the page.
func (b *tab) text() string { return js[string](b, "document.body ? document.body.innerText : ''") }

// picture saves what the page looks like, from top to bottom.
func (b *tab) picture(file string) error {
	ctx, cancel := context.WithTimeout(b.ctx, atMost)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o600)
}

func (b *tab) leavePicture() {
	dir, err := os.MkdirTemp("", "gatehouse-browser-")
	if err != nil {
		b.t.Log(err)
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	html, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.documentElement.outerHTML"))
	_ = os.WriteFile(filepath.Join(dir, "page.html"), []byte(html), 0o600)
	if err := b.picture(filepath.Join(dir, "page.png")); err != nil {
		b.t.Logf("no picture: %v", err)
	}
	b.t.Logf("what the tab shows is in %s", dir)
}

// quoted is a Go string as JavaScript.
func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}
