package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/golang-jwt/jwt/v5"
)

// What a person does with a tab, and sees in it.

// open goes to a path, or to a whole URL.
func (b *tab) open(path string) {
	b.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.base + path
	}
	b.leads("open "+path, func() {
		b.do("open "+path, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			went, err := cdp.Call(ctx, t, page.Navigate, page.NavigateParams{URL: path})
			if err == nil && went.ErrorText != "" {
				err = errors.New(went.ErrorText)
			}
			return err
		}))
	})
}

// back presses the Back button. What comes then may be no load: await it.
func (b *tab) back() {
	b.t.Helper()
	b.do("go back", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		history, err := cdp.Call(ctx, t, page.GetNavigationHistory, cdp.Empty{})
		if err != nil || history.CurrentIndex == 0 {
			return cmp.Or(err, errors.New("nowhere to go back to"))
		}
		_, err = cdp.Call(ctx, t, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: history.Entries[history.CurrentIndex-1].ID})
		return err
	}))
}

// find is what a selector finds that is not hidden, in JavaScript: by CSS, or
// if it begins with a slash by XPath.
func find(selector string) string {
	all := "[...document.querySelectorAll(" + quoted(selector) + ")]"
	if strings.HasPrefix(selector, "/") {
		all = `(found => Array.from({length: found.snapshotLength}, (_, i) => found.snapshotItem(i)))(document.evaluate(` + quoted(selector) + `, document, null, 7))`
	}
	return all + ".find(e => e.checkVisibility({visibilityProperty: true}))"
}

// clickOn clicks on what a selector finds, once it is there.
func (b *tab) clickOn(selector string) {
	b.t.Helper()
	b.awaits(selector, find(selector))
	at := js[[]float64](b, "(e => { e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })("+find(selector)+")")
	b.do("click on "+selector, chromedp.MouseClickXY(at[0], at[1]))
}

// click clicks on what a selector finds, which leads to another page.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.leads("click on "+selector, func() { b.clickOn(selector) })
}

// press clicks on the first button with a text, which leads to another page.
func (b *tab) press(button string) {
	b.t.Helper()
	b.click(`//button[normalize-space(.)="` + button + `"]`)
}

// follow clicks on the link with a text.
func (b *tab) follow(link string) {
	b.t.Helper()
	b.click(`//a[normalize-space(.)="` + link + `"]`)
}

// typeInto types in place of what an input holds.
func (b *tab) typeInto(selector, text string) {
	b.t.Helper()
	b.awaits(selector, find(selector))
	js[bool](b, "(e => { e.focus(); e.select(); return true })("+find(selector)+")")
	b.keys(text)
}

// fill types into the input of that name.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	b.typeInto(`[name="`+name+`"]`, text)
}

// send presses a key that leads to another page.
func (b *tab) send(key string) {
	b.t.Helper()
	b.leads(fmt.Sprintf("press %q", key), func() { b.keys(key) })
}

// keys presses keys, wherever the focus is.
func (b *tab) keys(keys string) {
	b.t.Helper()
	b.do(fmt.Sprintf("press %q", keys), chromedp.KeyEvent(keys))
}

// signIn is what a person does who was sent to the login page, or went there.
func (b *tab) signIn(email, password string) {
	b.t.Helper()
	b.fill("email", email)
	b.fill("password", password)
	b.press("Sign in")
}

// enter fills in a form, by names and values, and sends it with Enter.
func (b *tab) enter(fields ...string) {
	b.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		b.fill(fields[i], fields[i+1])
	}
	b.send(kb.Enter)
}

// expires returns once the browser's access token has run out, in the middle of
// its session.
func (b *tab) expires(cookie string) {
	b.t.Helper()
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(b.cookies()[cookie].Value, &claims); err != nil {
		b.t.Fatalf("%s: %v", cookie, err)
	}
	await(b.t, atMost, "the access token to run out", func() bool { return time.Now().After(claims.ExpiresAt.Time) })
}

// sees checks what the page says, and that it has a status and is at a path.
func (b *tab) sees(status int64, path string, says ...string) {
	b.t.Helper()
	text := b.text()
	if at := b.at(); b.status != status || !regexp.MustCompile("^"+path+"$").MatchString(at) {
		b.t.Fatalf("%d at %s, want %d at %s:\n%s", b.status, at, status, path, text)
	}
	for _, want := range says {
		if !strings.Contains(text, want) {
			b.t.Errorf("%s does not say %q:\n%s", path, want, text)
		}
	}
}

// forget has the browser lose its cookies.
func (b *tab) forget() {
	b.t.Helper()
	b.do("forget the cookies", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}))
}

// cookies are those that the browser would send to the page's gateway.
func (b *tab) cookies() map[string]*network.Cookie {
	b.t.Helper()
	found := map[string]*network.Cookie{}
	b.do("look at the cookies", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		got, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{URLs: []string{b.base}})
		for _, c := range got.Cookies {
			found[c.Name] = c
		}
		return err
	}))
	return found
}
