package main

import (
	"slices"
	"strings"
	"testing"
)

const anotherPassword = "seven purple lighthouses"

func testBrowserAccount(t *testing.T, c chromium, bin string) {
	gw := startNotes(t, bin, expiring)
	gw.cli(t, goodPassword+"\n", "user", "add", "ann@example.com", "--roles", "ops,dev")
	const account = "/.gatehouse/account"

	laptop := c.browser(t, gw.url, device{})
	laptop.open(account)
	laptop.sees(200, `/login\?next=.*account`)
	laptop.signIn("ann@example.com", "not "+goodPassword)
	laptop.sees(400, "/login")
	laptop.fill("password", goodPassword) // the address is still there, and so is the way
	laptop.press("Sign in")
	laptop.sees(200, account, "ann@example.com", "ops", "dev")

	phone := c.browser(t, gw.url, device{userAgent: onPhone})
	phone.open("/?page=2&q=a+b%2Fc")
	phone.signIn("ann@example.com", goodPassword)
	phone.sees(200, `/\?page=2&q=a\+b%2Fc`, "Private notes of ann@example.com", "You asked for /?page=2&q=a+b%2Fc")
	tablet := c.browser(t, gw.url, device{})
	tablet.open("/")
	tablet.signIn("ann@example.com", goodPassword)

	// End the phone's session from the laptop.
	laptop.open(account)
	laptop.sees(200, account, "Safari on iPhone", "Chrome on Linux", "This device")
	laptop.click(`li:has([title*="iPhone"]) button`)
	laptop.sees(200, account+`\?.*`, "signed out")
	if strings.Contains(laptop.text(), "iPhone") {
		t.Errorf("the account page still shows the phone:\n%s", laptop.text())
	}
	phone.open("/?page=3")
	phone.sees(200, `/login\?next=.*`, "Sign in")
	tablet.open("/")
	tablet.sees(200, "/", "Private notes of ann@example.com")

	// Change the password: a wrong one first, then the others are out.
	laptop.fill("current_password", "not "+goodPassword)
	laptop.fill("new_password", anotherPassword)
	laptop.press("Change password")
	laptop.sees(400, "/.*password.*")
	laptop.fill("current_password", goodPassword)
	laptop.fill("new_password", anotherPassword)
	laptop.press("Change password")
	laptop.sees(200, account+`\?.*`, "password was changed")
	tablet.open("/?after=password")
	tablet.sees(200, `/login\?next=.*`)
	tablet.signIn("ann@example.com", goodPassword)
	tablet.sees(400, "/login")
	tablet.fill("password", anotherPassword)
	tablet.press("Sign in")
	tablet.sees(200, `/\?after=password`, "Private notes of ann@example.com")

	// Sign out everywhere.
	laptop.open(account)
	laptop.press("Sign out everywhere")
	laptop.sees(200, "/login.*")
	tablet.open("/")
	tablet.sees(200, `/login\?next=.*`)
	if left := laptop.cookies(); left["gatehouse"] != nil || left["gatehouse-refresh"] != nil {
		t.Errorf("cookies after signing out: %v", left)
	}
}

// testBrowserWay is the way of one browser through a session and its end.
func testBrowserWay(t *testing.T, c chromium, bin string) {
	gw := startNotes(t, bin, expiring)
	gw.register(t, "ann@example.com")

	b := c.browser(t, gw.url, device{})
	b.open("/form")
	b.signIn("ann@example.com", goodPassword)
	before := b.cookies()

	// A form that was open for long arrives all the same.
	b.expires("gatehouse")
	b.typeInto("textarea", "a long letter")
	b.press("Save")
	b.sees(200, "/save", "POST: a long letter")
	after := b.cookies()
	for _, name := range []string{"gatehouse", "gatehouse-refresh"} {
		if after[name] == nil || before[name].Value == after[name].Value {
			t.Errorf("%s was not renewed", name)
		}
	}
	b.expires("gatehouse")
	if got := js[string](b, `fetch("/api", {method: "PUT"}).then(r => r.text())`); got != "PUT by ann@example.com" {
		t.Errorf("fetch with an access token that ran out: %q", got)
	}

	// Many at once, all with the same spent token: none is lost, nor the session.
	b.expires("gatehouse")
	if got := js[[]int](b, `Promise.all([...Array(50).keys()].map(i => fetch("/api?" + i).then(r => r.status)))`); !slices.Equal(got, slices.Repeat([]int{200}, 50)) {
		t.Errorf("fifty at once: %v", got)
	}
	b.expires("gatehouse")
	b.open("/")
	b.sees(200, "/", "Private notes of ann@example.com")

	// Two tabs: signing out in one is the end of the other.
	d := b.another()
	d.open("/cached")
	d.sees(200, "/cached", "Private notes of ann@example.com")
	d.open("/form")
	d.typeInto("textarea", "another long letter")
	b.open("/.gatehouse/account")
	b.press("Sign out")
	b.sees(200, "/login.*")

	// Back shows nothing private, whatever the browser had kept.
	for range 2 {
		b.back()
		b.awaits("the way back to be over", `document.readyState == "complete" && document.body`)
		if text := b.text(); strings.Contains(text, "ann@example.com") || strings.Contains(text, "Private") {
			t.Fatalf("back from the login page one sees, at %s:\n%s", b.at(), text)
		}
	}

	// Programs in the page are told, not sent elsewhere.
	if got := js[string](d, `fetch("/api").then(async r => r.status + " " + r.redirected + " " + (await r.json()).error)`); got != "401 false missing_token" {
		t.Errorf("fetch after signing out: %q", got)
	}
	if got := js[string](d, `new Promise(done => { const x = new XMLHttpRequest(); x.open("POST", "/api"); x.onload = () => done(x.status + " " + x.responseURL); x.send("{}") })`); got != "401 "+gw.url+"/api" {
		t.Errorf("XMLHttpRequest after signing out: %q", got)
	}

	// What was typed is not sent into nowhere: the person is told, goes back, and
	// it is still there.
	d.press("Save")
	d.sees(401, "/save")
	d.back()
	d.awaits("the form with what was typed", `document.querySelector("textarea")?.value == "another long letter"`)
	e := d.another()
	e.open("/login")
	e.signIn("ann@example.com", goodPassword)
	d.press("Save")
	d.sees(200, "/save", "POST: another long letter")
}
