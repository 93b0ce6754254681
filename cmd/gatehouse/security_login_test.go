package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

const asJSON = "Content-Type: application/json"

// calls posts JSON bodies to an endpoint, each with the same outcome.
func calls(want, target string, bodies ...string) (all []sent) {
	for _, body := range bodies {
		all = append(all, sent{raw: post1(target, body, asJSON), want: want, once: true})
	}
	return all
}

func loginCases(b *hostileBed) []hostile {
	alice := b.keys.token("alice")
	long := strings.Repeat("a1B-", 18)
	shapes := []string{`{"email":{"$ne":null},"password":{"$ne":null}}`, `["a@example.com","b"]`, `null`, `1`, `""`, ``, `{"email":1,"password":"x"}`, `{"email":"a@example.com","password":null}`, `{"email":["a@example.com"],"password":"x"}`,
		`{"email":"a@example.com","EMAIL":"b@example.com","password":"x"}`, `{"email":"a@example.com","email":"b@example.com","password":"x"}`, `{"email":"a@example.com","password":"x","Password":"y"}`, `{"email":"a@example.com","password":"x","role":"admin"}`,
		`{"email":"a@example.com","password":"x","roles":["admin"]}`, `{"email":"a@example.com","password":"x","__proto__":{}}`, `{"email":"a@example.com","password":"x"}{"email":"b@example.com","password":"y"}`, `{"email":"a@example.com","password":"x"} x`,
		"\ufeff" + `{"email":"a@example.com","password":"x"}`, "{\x00\"\x00e\x00", `{"email":"a@example.com","password":"x"/*c*/}`, `{'email':'a@example.com'}`, `{"email":"a@example.com","password":"` + "\xff" + `"}`, `{"email":"a@example.com","password":"\ud800"}`, strings.Repeat(`{"email":`, 5000)}
	var types []sent
	for _, lines := range [][]string{{"Content-Type: text/plain"}, {"Content-Type: application/json; charset=utf-16"}, {"Content-Type: application/xml"}, {"Content-Type: multipart/form-data; boundary=x"}, {"Content-Type: text/json"}, {"Content-Type:"}, nil, {"Content-Type: application/json, text/plain"}} {
		types = append(types, sent{raw: post1("/login", `{"email":"a@example.com","password":"x"}`, lines...), want: "415", once: true})
	}
	var spellings []string
	for _, email := range []string{"SPELL@example.com", "Spell@Example.COM", " spell@example.com ", "spell@EXAMPLE.com"} {
		spellings = append(spellings, fmt.Sprintf(`{"email":%q,"password":%q}`, email, goodPassword))
	}
	var noAddress []string
	for _, email := range []string{"spell@example.com\\u0000", `\" spell\"@example.com`, "spell@", "@example.com", "spell", "spell@example.com,b@example.com", "spell@exam ple.com", "spell@example.com\\r\\nBcc: x", "", strings.Repeat("a", 300) + "@example.com", "<spell@example.com>", "spell@[127.0.0.1]"} {
		noAddress = append(noAddress, fmt.Sprintf(`{"email":"%s","password":%q}`, email, goodPassword))
	}
	signedIn := "Cookie: __Host-gatehouse=" + alice
	candidates := func(want string, cookies ...string) (all []sent) {
		for _, c := range cookies {
			all = append(all, sent{raw: get1("/api/me", "Cookie: "+c), want: want, once: true})
		}
		return all
	}
	good := "__Host-gatehouse=" + alice
	return []hostile{
		{number: 142, name: "whether an account exists, by the time of the answer", held: []string{"authn.TestVerifyCostsTheSame", "authn.TestLoginCostsTheSame", "authn.TestLoginTime", "authn.TestDummyHash"}},
		{number: 143, name: "the same, by logins in parallel", held: []string{"authn.TestHasher", "authn.TestHasherQueue", "authn.TestHasherShares"}},
		{number: 145, name: "registering an address that is taken", because: "says so (`user_exists`), as its contract asks; it is counted per client address", run: takenAddress},
		{number: 146, name: "passwords of 73 bytes and more, 37 letters of two bytes, at registration", sent: calls("400", "/register", fmt.Sprintf(`{"email":"long@example.com","password":%q}`, long+"x"), fmt.Sprintf(`{"email":"long@example.com","password":%q}`, strings.Repeat("\u00e9", 37)), fmt.Sprintf(`{"email":"long@example.com","password":%q}`, strings.Repeat("aB1-", 1000)))},
		{number: 146, name: "72 bytes, and a longer one at login", run: longPassword},
		{number: 148, name: "passwords: NUL, invalid UTF-8, lone surrogates", sent: calls("400", "/register", `{"email":"nul@example.com","password":"correct\u0000horse battery"}`, `{"email":"nul@example.com","password":"correct horse`+"\xff"+`battery"}`, `{"email":"nul@example.com","password":"correct horse\ud800 battery"}`)},
		{number: 149, name: "one mailbox in several spellings", because: "one account, counted as one", run: func(t *testing.T, b *hostileBed) string { return oneMailbox(t, b, spellings) }},
		{number: 149, name: "addresses that are none", sent: calls("400", "/register", noAddress...)},
		{number: 151, name: "200 registrations of one address at once, at two gateways", held: []string{"authn.TestRegisterRace", "authn/sqlstore.TestTwoProcesses"}},
		{number: 152, name: "JSON: operators, arrays, doubled, oddly cased and unknown keys, two documents, BOM, UTF-16", sent: slices.Concat(calls("400", "/login", shapes...), calls("400", "/register", shapes...))},
		{number: 154, name: "other media types than JSON and forms", sent: types},
		{number: 155, name: "credentials in the query", because: "only the body is read", sent: []sent{{raw: post1("/login?email=a@example.com&password=hunter2hunter2", "{}", asJSON), want: "400"}, {raw: post1("/login?email=a@example.com&password=hunter2hunter2", "", "Content-Type: application/x-www-form-urlencoded"), want: "400"}},
			each: func(t *testing.T, b *hostileBed, _ heard) {
				for _, gw := range b.gateways() {
					if strings.Contains(gw.stderr.String(), "hunter2") {
						t.Error("the log has the query")
					}
				}
			}},
		{number: 157, name: "GET that would change something: `/logout`", sent: []sent{{raw: get1("/logout", signedIn), want: "405"}, {raw: get1("/.gatehouse/logout", signedIn), want: "405"}, {raw: get1("/.gatehouse/refresh", signedIn), want: "405"}, {raw: get1("/.gatehouse/revoke?token="+alice, signedIn), want: "405"},
			{raw: "HEAD /logout HTTP/1.1\r\nHost: gw.example\r\n" + signedIn + "\r\n\r\n", want: "405"}, {raw: get1("/api/me", signedIn), as: "alice", want: "clean"}}},
		{number: 157, name: "a page of another site that posts with the cookie", sent: []sent{
			{raw: post1("/logout", "", signedIn, "Origin: https://evil.example", "Content-Type: application/x-www-form-urlencoded"), want: "403"}, {raw: post1("/logout", "", signedIn, "Sec-Fetch-Site: cross-site", "Content-Type: application/x-www-form-urlencoded"), want: "403"},
			{raw: post1("/login", "email=a&password=b", "Origin: null", "Content-Type: application/x-www-form-urlencoded"), want: "403"}, {raw: post1("/x", "", signedIn, "Origin: https://gw.example.evil"), want: "403"}, {raw: post1("/x", "", signedIn, "Sec-Fetch-Site: same-site"), want: "403"},
			{raw: post1("/x", "", signedIn, "Origin: https://gw.example"), as: "alice", want: "clean"}}},
		{number: 158, name: "open redirects by `next`: `//evil`, `/\\evil`, `https:evil`, tabs, `javascript:`", run: openRedirects},
		{number: 158, name: "further spellings of them", held: []string{"authn/endpoints.TestSafeNext"}},
		{number: 160, name: "session fixation: a planted session cookie at login", run: fixation},
		{number: 161, name: "two session cookies, other spellings of one: `s =evil; s=good`", because: "nobody's session then", sent: candidates("401", good+"; "+good, "__Host-gatehouse =x; "+good, "__host-gatehouse=x; "+good, good+"; __HOST-GATEHOUSE=x", "=__Host-gatehouse=x; "+good, "\"__Host-gatehouse\"=x; "+good, "\xe2\x80\x80__Host-gatehouse=x; "+good,
			"__Host-gatehouse=\""+alice+"\"", "__Host-gatehouse ="+alice, "__host-gatehouse="+alice, "gatehouse="+alice, "=__Host-gatehouse="+alice, "__Host-gatehouse", "__Host-gatehouse=")},
		{number: 161, name: "3,000 other cookies, `$Version`", because: "the one is found, the others arrive", sent: []sent{{raw: get1("/api/me", "Cookie: $Version=1; "+strings.Repeat("a=b; ", 3001)+good), as: "alice", want: "clean", once: true}}},
		{number: 161, name: "control bytes in Cookie", sent: candidates("400", "a=\x01; "+good, good+"; a=\x7f")},
		{number: 164, name: "attributes of the cookies, the deleting ones too", run: cookieAttributes},
		{number: 166, name: "guessing: parallel bursts, other addresses, spoofed `X-Forwarded-For`, IPv6 by /64, an owner who is not locked out", held: []string{"authn.TestThrottlePair", "authn.TestThrottleNetworks", "authn.TestThrottleAddress", "authn.TestThrottleBurst", "authn.TestThrottleKnownIsNotHeldUp", "authn/redisstore.TestThrottleBurst"}},
		{number: 166, name: "a burst of 60 guesses with 60 spoofed addresses, 10 allowed", run: guesses},
		{number: 167, name: "logins faster than they can be hashed", held: []string{"authn.TestHasherQueue"}},
	}
}

func takenAddress(t *testing.T, b *hostileBed) string {
	b.enrol(t, b.plain, "taken@example.com")
	for _, email := range []string{"taken@example.com", "TAKEN@Example.com"} {
		rep := b.say(t, b.plain, post1("/register", fmt.Sprintf(`{"email":%q,"password":%q}`, email, goodPassword), asJSON)+marker)
		if rep.statuses[0] != 400 || jsonOf(t, rep.body).Error != "user_exists" {
			t.Errorf("%s: %s", email, rep.raw)
		}
	}
	b.app.take(t)
	return "refused with 400 (2 times)"
}

func longPassword(t *testing.T, b *hostileBed) string {
	password := strings.Repeat("a1B-", 18) // 72 bytes
	ask := func(target, password string) int {
		return b.say(t, b.plain, post1(target, fmt.Sprintf(`{"email":"seventytwo@example.com","password":%q}`, password), asJSON)+marker).statuses[0]
	}
	if got := []int{ask("/register", password), ask("/login", password), ask("/login", password+"x"), ask("/login", password+"\\u0000"), ask("/login", password[:71])}; !slices.Equal(got, []int{201, 200, 400, 400, 400}) {
		t.Errorf("register, login, with one byte more, with NUL, with one less: %d", got)
	}
	b.app.take(t)
	return "72 bytes are a password; all 73 that begin with them are refused with 400"
}

func oneMailbox(t *testing.T, b *hostileBed, spellings []string) string {
	b.enrol(t, b.plain, "spell@example.com")
	for _, body := range spellings {
		if got := b.say(t, b.plain, post1("/register", body, asJSON)+marker).statuses[0]; got != 400 {
			t.Errorf("register %s: %d", body, got)
		}
	}
	b.app.take(t)
	return fmt.Sprintf("refused with 400 (%d times)", len(spellings))
}

// openRedirects signs in with each next and looks where a browser is sent.
func openRedirects(t *testing.T, b *hostileBed) string {
	b.enrol(t, b.plain, "next@example.com")
	list := []string{"//evil", `/\evil`, `\\evil`, `\/evil`, "///evil", "https:evil", "https:///evil", "http:/evil", "https://evil", "/%09/evil", "/\t/evil", "/%5cevil", "/.//evil", "/..//evil", "/a/../..//evil", "javascript:alert(1)", "data:text/html,x", "/%0d%0aX:", "/\r\nX: y",
		"https://gw.example@evil", "https://gw.example.evil", "", "evil", "?x", "#x", "//gw.example/a", " //evil", "/ /evil", "/\u2028/evil", "\uff0f\uff0fevil", "/" + strings.Repeat("a", 20000)}
	for _, next := range list {
		form := url.Values{"email": {"next@example.com"}, "password": {goodPassword}, "next": {next}}.Encode()
		rep := b.say(t, b.plain, post1("/login", form, "Content-Type: application/x-www-form-urlencoded", "Accept: text/html", "Origin: https://gw.example")+marker)
		if rep.statuses[0]/100 != 3 {
			continue // refused is as good
		}
		base, _ := url.Parse("https://gw.example/login")
		// As the WHATWG URL standard has browsers read it.
		asBrowser := strings.NewReplacer("\t", "", "\r", "", "\n", "", `\`, "/").Replace(strings.TrimSpace(rep.last.Header.Get("Location")))
		to, err := base.Parse(asBrowser)
		if err != nil || to.Host != "gw.example" || to.Scheme != "https" || strings.HasPrefix(asBrowser, "//") {
			t.Errorf("next %.100q leads to %q", next, rep.last.Header.Get("Location"))
		}
	}
	b.app.take(t)
	return fmt.Sprintf("refused, or sent to the gateway's own host (%d times)", len(list))
}

// fixation: signing in makes a new session, whatever cookie was there.
func fixation(t *testing.T, b *hostileBed) string {
	planted, _ := b.enrol(t, b.plain, "attacker@example.com")
	b.enrol(t, b.plain, "victim@example.com")
	form := url.Values{"email": {"victim@example.com"}, "password": {goodPassword}}.Encode()
	for _, cookie := range []string{planted, "unknown", b.keys.es256(esHeader, b.keys.claims("alice", "exp", "1"))} {
		rep := b.say(t, b.plain, post1("/login", form, "Content-Type: application/x-www-form-urlencoded", "Accept: text/html", "Origin: https://gw.example", "Cookie: __Host-gatehouse="+cookie)+marker)
		set := rep.last.Header["Set-Cookie"]
		if rep.statuses[0]/100 != 3 || !slices.ContainsFunc(set, func(s string) bool {
			return strings.HasPrefix(s, "__Host-gatehouse=ey") && !strings.Contains(s, cookie)
		}) {
			t.Errorf("login with a planted cookie: %d %q", rep.statuses, set)
		}
	}
	b.app.take(t)
	return "a new session at each login (3 times)"
}

func cookieAttributes(t *testing.T, b *hostileBed) string {
	b.enrol(t, b.plain, "cookies@example.com")
	form := url.Values{"email": {"cookies@example.com"}, "password": {goodPassword}}.Encode()
	login := b.say(t, b.plain, post1("/login", form, "Content-Type: application/x-www-form-urlencoded", "Accept: text/html", "Origin: https://gw.example")+marker)
	session := ""
	for _, line := range login.last.Header["Set-Cookie"] {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == "__Host-gatehouse" {
			session = c.Value
		}
	}
	logout := b.say(t, b.plain, post1("/logout", "", "Content-Type: application/x-www-form-urlencoded", "Accept: text/html", "Origin: https://gw.example", "Cookie: __Host-gatehouse="+session)+marker)
	n := 0
	for _, rep := range []reply{login, logout} {
		for _, line := range rep.last.Header["Set-Cookie"] {
			c, err := http.ParseSetCookie(line)
			if err != nil || !strings.HasPrefix(c.Name, "__Host-gatehouse") || !c.Secure || !c.HttpOnly || c.SameSite < http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge == 0 || len(line) > 4096 {
				t.Errorf("%v: %s", err, line)
			}
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d cookies, want three at login and two at logout: %q %q", n, login.last.Header["Set-Cookie"], logout.last.Header["Set-Cookie"])
	}
	b.app.take(t)
	return "`__Host-`, Secure, HttpOnly, SameSite, Path=/, no Domain, Max-Age, under 4 KB (5 cookies)"
}

// guesses: ten are allowed, and no header makes eleven of them.
func guesses(t *testing.T, b *hostileBed) string {
	gw := serveHere(t, "users: {bcrypt_cost: 4, password: {min_strength: 0}, throttle: {attempts: 10}}\nroutes: [{path: /public, access: public, upstream: \"http://"+b.app.Addr().String()+"\"}]\n")
	b.enrol(t, gw, "owner@example.com")
	counts := map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			address := fmt.Sprintf("203.0.113.%d", i)
			rep := b.say(t, gw, post1("/login", fmt.Sprintf(`{"email":"Owner@example.com","password":"guess number %d"}`, i), asJSON, "X-Forwarded-For: "+address, "X-Real-IP: "+address, "Forwarded: for="+address)+marker)
			mu.Lock()
			defer mu.Unlock()
			if len(rep.statuses) > 0 {
				counts[rep.statuses[0]]++
			}
		})
	}
	wg.Wait()
	if counts[400] > 10 || counts[400]+counts[429]+counts[503] != 60 || counts[200] > 0 {
		t.Errorf("answers by status: %v", counts)
	}
	b.app.take(t)
	return "refused with 400 for at most ten of them, with 429 or 503 for the rest"
}
