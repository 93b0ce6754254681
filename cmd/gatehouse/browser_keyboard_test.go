package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// testBrowserKeyboard has somebody without a mouse register, sign in, change
// the password and sign out; and looks at what password managers look at.
func testBrowserKeyboard(t *testing.T, c chromium, bin string) {
	gw := startNotes(t, bin, "")
	b := c.browser(t, gw.url, device{})

	b.open("/form")
	b.focused(`input[name="email"]`) // at once
	b.everythingByTab()
	b.filledBy(map[string]string{"email": "username", "password": "current-password"})
	b.tabTo(`a[href*="register"]`)
	b.send(kb.Enter)

	b.everythingByTab()
	b.filledBy(map[string]string{"email": "username", "name": "name", "password": "new-password"})
	b.tabTo(`input[name="email"]`)
	b.keys("ann@example.com")
	b.tabTo(`input[name="password"]`)
	b.keys("123")
	b.send(kb.Enter)
	b.sees(400, "/register")
	b.focused(`input[name="password"]`)
	if got := b.described(); !strings.Contains(got, "8") {
		t.Errorf("what a screen reader says of the password is %q, want what is wrong with it", got)
	}
	b.everythingByTab()
	b.tabTo(`input[name="password"]`)
	b.keys(goodPassword)
	b.tabTo(`main form button:not([type="button"])`)
	b.send(" ")

	b.sees(200, `/login\?.*`)
	b.tabTo(`input[name="email"]`)
	b.keys("ann@example.com" + kb.Tab)
	b.tabTo(`input[name="password"]`)
	b.keys("wrong")
	b.send(kb.Enter)
	b.sees(400, "/login")
	b.focused(`input[name="password"]`)
	if got := b.described(); got == "" {
		t.Error("a screen reader says nothing of what is wrong")
	}
	b.keys(goodPassword)
	b.send(kb.Enter)
	b.sees(200, "/form", "Private notes of ann@example.com")

	b.open("/.gatehouse/account")
	b.everythingByTab()
	b.filledBy(map[string]string{"current_password": "current-password", "new_password": "new-password"})
	b.tabTo(`input[name="current_password"]`)
	b.keys(goodPassword)
	b.tabTo(`input[name="new_password"]`)
	b.keys(anotherPassword)
	b.send(kb.Enter)
	b.sees(200, `/.gatehouse/account\?.*`, "password was changed")
	b.tabTo(`form[action$="/logout"] button`)
	b.send(kb.Enter)
	b.sees(200, "/login.*")
}

// everythingByTab checks that the Tab key leads through all that can be used,
// in the order in which it stands there, and that one sees where one is.
func (b *tab) everythingByTab() {
	b.t.Helper()
	const name = `(e => e.tagName + " " + (e.getAttribute("aria-label") || e.innerText || e.name || e.href || ""))`
	want := js[[]string](b, `[...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")].filter(e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0).map(`+name+`)`)
	var got []string
	const here = name + "(document.activeElement)"
	for range 2 * len(want) { // from wherever one is, over the end, to the first
		if b.keys(kb.Tab); js[string](b, here) == want[0] {
			break
		}
	}
	for i := range want {
		if i > 0 {
			b.keys(kb.Tab)
		}
		got = append(got, js[string](b, here))
		if !js[bool](b, `(s => s.outlineStyle != "none" && parseFloat(s.outlineWidth) >= 2 && (parseFloat(s.outlineOffset) > 0 || s.outlineColor != s.backgroundColor))(getComputedStyle(document.activeElement))`) {
			b.t.Errorf("%s: one does not see that the focus is on %s", b.at(), got[len(got)-1])
		}
	}
	if len(want) < 3 || !slices.Equal(got, want) {
		b.t.Errorf("%s: Tab leads to\n%q, want\n%q", b.at(), got, want)
	}
}

// tabTo presses Tab until the focus is on what a CSS selector finds.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	for range 40 {
		if js[bool](b, "document.activeElement.matches("+quoted(selector)+")") {
			return
		}
		b.keys(kb.Tab)
	}
	b.t.Fatalf("%s: Tab never leads to %s", b.at(), selector)
}

// focused waits for the focus, which comes a moment after the page.
func (b *tab) focused(selector string) {
	b.t.Helper()
	b.awaits("the focus on "+selector, "document.activeElement.matches("+quoted(selector)+")")
}

// described is the description that the focused input has for those who do not
// see it.
func (b *tab) described() string {
	b.t.Helper()
	return js[string](b, `(document.activeElement.getAttribute("aria-describedby") || "").split(" ").map(id => document.getElementById(id)?.innerText || "").join(" ").trim()`)
}

// filledBy checks the autocomplete tokens by which password managers and
// browsers know what belongs into an input (HTML, section 4.10.18.7), and that
// each form with a password says whose it is.
func (b *tab) filledBy(tokens map[string]string) {
	b.t.Helper()
	for input, want := range tokens {
		if got := js[string](b, fmt.Sprintf(`document.querySelector('[name=%q]').autocomplete`, input)); got != want {
			b.t.Errorf("%s: autocomplete of %s is %q, want %q", b.at(), input, got, want)
		}
	}
	if n := js[int](b, `[...document.forms].filter(f => f.querySelector("[type=password]") && !f.querySelector("[autocomplete=username]")).length`); n > 0 {
		b.t.Errorf("%s: %d forms have a password and no username", b.at(), n)
	}
}
