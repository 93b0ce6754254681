package endpoints

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

// The flow of the interface page, as a browser has it.
func TestBrowser(t *testing.T) {
	g := newGateway(t)
	b := g.browser()

	b.get("/.gatehouse/account").want(http.StatusFound).wantHeader("Location", "/login?next=%2F.gatehouse%2Faccount")
	b.get("/login?next=/app%3Fx=1").want(200).has(`name="next" value="/app?x=1"`, `href="/register?next=%2fapp%3fx%3d1"`)
	b.get("/register?next=/app%3Fx=1").want(200).has(`name="next" value="/app?x=1"`, `autocomplete="new-password"`)
	b.post("/register", "email", "Ann@Example.com", "password", "password123", "name", "Ann", "next", "/app?x=1").
		to("/login?next=%2Fapp%3Fx%3D1&notice=registered")
	b.get("/login?next=%2Fapp%3Fx%3D1&notice=registered").want(200).has("Your account was created")

	b.post("/login", "email", "ann@example.com", "password", "password12", "next", "/app?x=1").want(http.StatusBadRequest).
		has(`id="failure" role="alert">`, "The e-mail address or the password is wrong.", "<title>Error: Sign in</title>", `value="ann@example.com"`, `name="next" value="/app?x=1"`, `aria-describedby="failure"`).
		hasNot("password12")
	if len(b.jar) != 0 {
		t.Fatalf("cookies before signing in: %v", b.jar)
	}
	a := b.post("/login", "email", "ann@example.com", "password", "password123", "next", "/app?x=1").to("/app?x=1").wantBody("")
	token, refresh := b.jar["gatehouse"], b.jar["gatehouse-refresh"]
	a.wantHeader("Set-Cookie", "gatehouse="+token+"; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax | "+
		"gatehouse-refresh="+refresh+"; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax | "+
		"gatehouse-known="+b.jar["gatehouse-known"]+"; Path=/; Max-Age=34560000; HttpOnly; SameSite=Lax").wantHeader("Cache-Control", "no-store")

	b.get("/.gatehouse/userinfo").want(200)
	b.get("/.gatehouse/account").want(200).has("ann@example.com", `<p class="name">Ann</p>`, ">user</span>", "Firefox on Linux", "192.0.2.7", "This device")

	// Another session, ended from the account page.
	other := g.browser()
	other.post("/login", "email", "ann@example.com", "password", "password123").to("/")
	session := other.get("/.gatehouse/userinfo").want(200).json()["session"].(string)
	b.get("/.gatehouse/account").has(`name="session" value="` + session + `"`)
	b.post("/logout", "session", session).to("/.gatehouse/account?notice=session_ended")
	b.get("/.gatehouse/account?notice=session_ended").has("The session was signed out").hasNot(session)
	other.get("/.gatehouse/userinfo").refused(authn.ErrInvalidToken, "Invalid token")
	other.get("/.gatehouse/account").want(http.StatusFound)

	// Another password.
	b.post("/.gatehouse/password", "current_password", "wrong", "new_password", "another one").want(http.StatusBadRequest).
		has(`id="current_password-error" role="alert">`, "This is not your password.", `aria-describedby="current_password-error"`, "ann@example.com")
	b.post("/.gatehouse/password", "current_password", "password123", "new_password", "short").want(http.StatusBadRequest).
		has(`id="new_password-error" role="alert"`, `aria-describedby="new_password-hint new_password-error"`)
	b.post("/.gatehouse/password", "current_password", "password123", "new_password", "").want(http.StatusBadRequest).
		has(`id="new_password-error" role="alert">`, "Fill this in.")
	b.post("/.gatehouse/password", "current_password", "password123", "new_password", "another one").
		to("/.gatehouse/account?notice=password_changed")
	b.get("/.gatehouse/account?notice=password_changed").want(200).has("Your password was changed")

	token = b.jar["gatehouse"]
	b.post("/logout").to("/login").wantHeader("Set-Cookie", "gatehouse=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax | "+
		"gatehouse-refresh=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+token).refused(authn.ErrInvalidToken, "Invalid token")
	b.get("/.gatehouse/account").want(http.StatusFound)
}

func TestBrowserEverywhere(t *testing.T) {
	g := newGateway(t)
	b, other := g.browser(), g.browser()
	b.signIn("ann@example.com")
	other.post("/login", "email", "ann@example.com", "password", "password123").to("/")
	b.post("/logout", "everywhere", "true").to("/login?notice=signed_out_everywhere")
	b.get("/login?notice=signed_out_everywhere").has("You were signed out everywhere.")
	other.get("/.gatehouse/userinfo").refused(authn.ErrInvalidToken, "Invalid token")
}

// Nobody can lock an owner out of a browser in which the owner has signed in
// before, from behind the same address.
func TestKnownBrowser(t *testing.T) {
	g := newGateway(t)
	owner, stranger := g.browser(), g.browser()
	owner.signIn("ann@example.com")
	owner.post("/logout").to("/login")
	signIn := func(b *browser, password string, status int) {
		t.Helper()
		b.post("/login", "email", "ann@example.com", "password", password).want(status)
	}
	lock := func(b *browser) {
		t.Helper()
		for range 10 {
			signIn(b, "wrong password", 400)
		}
		signIn(b, "password123", 429)
	}
	lock(stranger)
	signIn(owner, "password123", 303)
	// It is signed in, so its own guesses count apart, too.
	owner.post("/.gatehouse/password", "current_password", "password123", "new_password", "password456").to("/.gatehouse/account?notice=password_changed")
	owner.post("/logout").to("/login")
	signIn(owner, "password456", 303)

	// Another account's proof, or none that was ever given, is worth nothing.
	other := g.browser()
	other.signIn("bob@example.com")
	other.post("/logout").to("/login")
	signIn(other, "password456", 429)
	for _, forged := range []string{strings.Repeat("A", 22), ".", "." + strings.Repeat("A", 22), strings.Repeat("A.", 4000)} {
		stranger.jar["gatehouse-known"] = forged
		signIn(stranger, "password456", 429)
	}
	// A browser is known to several, and a proof does not stand for the password.
	owner.post("/login", "email", "bob@example.com", "password", "password123").to("/")
	owner.post("/logout").to("/login")
	for range 10 {
		signIn(owner, "wrong password", 400)
	}
	signIn(owner, "password456", 429)
	g.now = g.now.Add(time.Hour)
	signIn(owner, "password456", 303)
}

func TestSecureCookies(t *testing.T) {
	g := newGateway(t, func(o *Options) { o.Config.PublicURL = "https://gw.example" })
	b := g.browser()
	b.post("/register", "email", "ann@example.com", "password", "password123").want(http.StatusSeeOther)
	a := b.post("/login", "email", "ann@example.com", "password", "password123").to("/")
	a.wantHeader("Set-Cookie", "__Host-gatehouse="+b.jar["__Host-gatehouse"]+"; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax | "+
		"__Host-gatehouse-refresh="+b.jar["__Host-gatehouse-refresh"]+"; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax | "+
		"__Host-gatehouse-known="+b.jar["__Host-gatehouse-known"]+"; Path=/; Max-Age=34560000; HttpOnly; Secure; SameSite=Lax")
	b.post("/logout").to("/login").wantHeader("Set-Cookie", "__Host-gatehouse=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax | "+
		"__Host-gatehouse-refresh=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax")
}

// However many roles somebody has, browsers keep the cookies.
func TestManyRoles(t *testing.T) {
	g := newGateway(t, func(o *Options) {
		o.Config.PublicURL = "https://gw.example"
		o.Service.Tokens.RolesOf = o.Service.RolesOf
	})
	g.service.DefaultRoles = nil
	for i := range 2000 {
		g.service.DefaultRoles = append(g.service.DefaultRoles, fmt.Sprintf("role-with-a-name-%04d", i))
	}
	email := strings.Repeat("a", 60) + "@" + strings.Repeat(strings.Repeat("b", 60)+".", 3) + "example"
	g.call("POST", "/register", `{"email":"`+email+`","password":"password123","name":"`+strings.Repeat("<", 100)+`"}`).want(201)
	b := g.browser()
	a := b.post("/login", "email", email, "password", "password123").to("/")
	cookies := a.header.Values("Set-Cookie")
	if len(cookies) != 3 {
		t.Fatalf("%d cookies, want 3", len(cookies))
	}
	for _, cookie := range cookies {
		if len(cookie) > 4096 {
			t.Errorf("cookie of %d bytes: %.40s…", len(cookie), cookie)
		}
	}
	if roles := b.get("/.gatehouse/userinfo").want(200).json()["roles"].([]any); len(roles) != 2000 {
		t.Errorf("%d roles, want 2000", len(roles))
	}
	g.now = g.now.Add(2 * time.Hour)
	if roles := b.get("/.gatehouse/userinfo").want(200).json()["roles"].([]any); len(roles) != 2000 {
		t.Errorf("%d roles of a session that went on, want 2000", len(roles))
	}
}

// A cookie that a browser would drop is not set, and its session does not stay.
func TestCookieTooLarge(t *testing.T) {
	g := newGateway(t, func(o *Options) { o.Service.Tokens.Audience = strings.Repeat("a", 3000) })
	id := g.call("POST", "/register", `{"email":"ann@example.com","password":"password123"}`).want(201).json()["id"].(string)
	b := g.browser()
	b.post("/login", "email", "ann@example.com", "password", "password123").
		refused(authn.ErrInternal, "This account's token is too long for a browser").wantHeader("Set-Cookie", "")
	if sessions, err := g.service.SessionsOf(t.Context(), id); err != nil || len(sessions) != 0 {
		t.Errorf("SessionsOf = %v, %v, want none", sessions, err)
	}
	g.call("POST", "/login", `{"email":"ann@example.com","password":"password123"}`).want(200) // programs have no such limit
}

// A browser that signs in again has a new session, and its old one is dead.
func TestSignInAgain(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	planted := b.jar["gatehouse"]
	b.post("/login", "email", "ann@example.com", "password", "wrong password").want(http.StatusBadRequest)
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+planted).want(200)
	b.post("/login", "email", "ann@example.com", "password", "password123").to("/")
	if b.jar["gatehouse"] == planted {
		t.Error("the same token again")
	}
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+planted).refused(authn.ErrInvalidToken, "Invalid token")
	b.get("/.gatehouse/userinfo").want(200)

	// The old session goes although its access token has run out.
	old := b.jar["gatehouse-refresh"]
	g.now = g.now.Add(2 * time.Hour)
	b.post("/login", "email", "ann@example.com", "password", "password123").to("/")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+old+`"}`).refused(authn.ErrInvalidToken, "Invalid token")
	b.get("/.gatehouse/userinfo").want(200)

	// A program's Bearer token is no browser's session: it stays.
	token, _ := g.signUp("bob@example.com")
	r := request("POST", "/login", "application/x-www-form-urlencoded", "email=bob%40example.com&password=password123", "Accept", "text/html", "Authorization", "Bearer "+token)
	g.do(r).to("/")
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+token).want(200)
}

func TestBrowserNext(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	goes := func(next, want string) {
		t.Helper()
		b.post("/login", "email", "ann@example.com", "password", "password123", "next", next).to(want)
	}
	goes("/app/a//b?x=1#y", "/app/a//b?x=1#y")
	goes("/größe", "/gr%C3%B6%C3%9Fe")
	goes("/.gatehouse/account", "/.gatehouse/account")
	goes("/login/", "/login/") // an app's
	goes("", "/")
	goes("//evil", "/")
	goes(`/\evil`, "/")
	goes("/\t/evil", "/")
	goes("https://evil/", "/")
	goes("/\r\nSet-Cookie: x=1", "/")
	goes("/\xff", "/")
	goes("/login", "/")
	goes("/login?next=/login", "/")
	goes("/%6cogin", "/")
	goes("/logout", "/")
	goes("/.gatehouse/logout#x", "/")
	goes("/.gatehouse/", "/")
	goes("/.gatehouse/nonesuch", "/")
	b.get("/login?next=//evil").want(200).hasNot("evil")
	b.get("/login?next=javascript:alert(1)").want(200).hasNot("alert")
	b.get("/login?next=/a&next=//evil").want(200).hasNot("evil")
}

// A sign-out that could not be judged or recorded is none, and the browser
// keeps its cookies to try again.
func TestLogoutWithoutVerdict(t *testing.T) {
	g := newGateway(t, func(o *Options) {
		o.Verifier = verifierFunc(func(string) (*authn.Identity, error) { return nil, authn.ErrRevocation.Because(errDown) })
	})
	b := g.browser()
	b.signIn("ann@example.com")
	b.post("/logout").refused(authn.ErrRevocation, "Revocation state is not available").wantHeader("Set-Cookie", "")
	b.get("/.gatehouse/account").refused(authn.ErrRevocation, "Revocation state is not available")
}

// What a browser's form cannot help is the gateway's error page, not the form.
func TestFormRefusals(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	b = g.browser()
	b.post("/register", "email", "ann@example.com", "password", "password123", "name", "A").want(400).
		has(`id="email-error" role="alert">`, "There is an account with this address already.", `aria-invalid="true"`, `value="A"`)
	b.post("/register", "email", "nobody", "password", "password123").want(400).has(`id="email-error" role="alert">`, `value="nobody"`)
	b.post("/register", "email", "bob@example.com", "password", strings.Repeat("x", 73)).want(400).has(`id="password-error" role="alert">`, "72 bytes")
	b.post("/register", "email", "bob@example.com", "password", "").want(400).has(`id="password-error" role="alert">`, "Fill this in.")
	b.post("/register", "email", "bob@example.com", "password", "password123", "role", "admin").want(400).has(`id="failure" role="alert">`, "incomplete or malformed")
	b.post("/login", "email", "", "password", "password123").want(400).has(`id="email-error" role="alert">`, "Fill this in.").hasNot("password123")

	for range 10 {
		b.post("/login", "email", "ann@example.com", "password", "wrong password")
	}
	a := b.post("/login", "email", "ann@example.com", "password", "password123").want(http.StatusTooManyRequests).has("no further attempt is accepted for a while. Try again in 15 minutes.")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}

	g.service.RegistrationOpen = false
	b.get("/register").refused(authn.ErrRegistrationClosed, "Registration is closed")
	b.post("/register", "email", "carl@example.com", "password", "password123").refused(authn.ErrRegistrationClosed, "Registration is closed")
	b.get("/login").want(200).hasNot("/register")

	// A script's form gets what programs get.
	r := request("POST", "/login", "application/x-www-form-urlencoded", "email=x%40example.com&password=wrong", "Accept", "text/html", "Sec-Fetch-Mode", "cors")
	g.do(r).refused(authn.ErrInvalidCredentials, "Invalid credentials")
	r = request("POST", "/login", "application/x-www-form-urlencoded", "email=x%40example.com&password=wrong")
	g.do(r).refused(authn.ErrInvalidCredentials, "Invalid credentials")
}

// Nothing that a page shows can become markup.
func TestPagesEscape(t *testing.T) {
	g := newGateway(t, func(o *Options) { o.Config.Endpoints.Title = `</title><script>alert("title")</script>` })
	b := g.browser()
	const mark = `"><script>alert(1)</script>`
	b.get("/login").want(200).hasNot("<script>")
	b.post("/login", "email", mark, "password", "x", "next", "/"+mark).want(400).hasNot("<script>").has("&lt;script&gt;alert(1)")
	b.post("/register", "email", "ann@example.com", "password", "x", "name", mark).want(400).hasNot("<script>")
	b.get("/register?next=/" + "%22%3E%3Cscript%3E").want(200).hasNot("<script>")
	b.get("/login?notice=%3Cscript%3E").want(200).hasNot("<script>", `class="notice"`)

	b.post("/register", "email", "ann@example.com", "password", "password123", "name", "<script>").want(http.StatusSeeOther)
	r := request("POST", "/login", "application/json", `{"email":"ann@example.com","password":"password123"}`, "User-Agent", mark)
	token := g.do(r).want(200).json()["access_token"].(string)
	g.call("GET", "/.gatehouse/account", "", "Authorization", "Bearer "+token).want(200).hasNot("<script>")
}

// A browser that shows documents is led on by a page, not by a redirect, so that
// the app may lead it to another origin.
func TestGoOn(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	signIn := func(next string) answer {
		t.Helper()
		form := url.Values{"email": {"ann@example.com"}, "password": {"password123"}, "next": {next}}
		return b.send(request("POST", "/login", "application/x-www-form-urlencoded", form.Encode(), "Sec-Fetch-Dest", "document"))
	}
	signIn("/app?x=1#y").want(200).wantHeader("Refresh", "0; url=/app?x=1#y").wantHeader("Location", "").
		has(`href="/app?x=1#y"`, "You are signed in")
	if b.jar["gatehouse"] == "" {
		t.Error("no cookie")
	}
	signIn("//evil").want(200).wantHeader("Refresh", "0; url=/").has(`href="/"`).hasNot("evil")
	signIn("/größe").want(200).wantHeader("Refresh", "0; url=/gr%C3%B6%C3%9Fe")
	signIn("/.gatehouse/account").to("/.gatehouse/account") // ours leads nowhere else
}

// A page says what was just done where the gateway led there, and nothing where
// another site did.
func TestNotice(t *testing.T) {
	g := newGateway(t)
	get := func(site string) answer {
		return g.do(request("GET", "/login?notice=signed_out_everywhere", "", "", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", site)).want(200)
	}
	get("same-origin").has("You were signed out everywhere.", `role="status"`)
	get("none").has("You were signed out everywhere.")
	get("cross-site").hasNot("signed out")
	get("same-site").hasNot("signed out")
	g.call("GET", "/login?notice=title.login", "").want(200).hasNot("notice")
}
