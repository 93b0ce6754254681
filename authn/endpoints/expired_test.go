package endpoints

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

func TestRefreshByCookie(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	access, refresh := b.jar["gatehouse"], b.jar["gatehouse-refresh"]

	renewed := func(what string) {
		t.Helper()
		if b.jar["gatehouse"] == access || b.jar["gatehouse-refresh"] == refresh {
			t.Errorf("%s left the cookies as they were", what)
		}
		access, refresh = b.jar["gatehouse"], b.jar["gatehouse-refresh"]
		g.now = g.now.Add(2 * time.Hour)
	}
	g.now = g.now.Add(2 * time.Hour) // the access token has run out
	g.call("GET", "/.gatehouse/userinfo", "", "Cookie", "gatehouse="+access).refused(authn.ErrInvalidToken, "Invalid token")
	b.get("/.gatehouse/userinfo").want(200)
	renewed("userinfo")
	b.get("/.gatehouse/account").want(200).has("ann@example.com", "This device")
	renewed("the account page")
	b.post("/.gatehouse/password", "current_password", "password123", "new_password", "another one").to("/.gatehouse/account?notice=password_changed")
	if b.jar["gatehouse-known"] == "" {
		t.Error("the browser is not known after a change of password")
	}
	renewed("a change of password")
	delete(b.jar, "gatehouse") // as a browser may that is short of space
	b.get("/.gatehouse/userinfo").want(200)
	renewed("a lone refresh cookie")
	b.post("/.gatehouse/refresh", "next", "/app").to("/app")
	renewed("refresh")
	b.get("/.gatehouse/userinfo").want(200)

	// A script of the gateway's own origin.
	refresh = b.jar["gatehouse-refresh"]
	m := g.call("POST", "/.gatehouse/refresh", "", "Cookie", "gatehouse-refresh="+refresh).want(200)
	if _, told := m.json()["refresh_token"]; told {
		t.Error("a script was told the refresh token, which its cookie keeps from it")
	}
	if cookies := m.header.Values("Set-Cookie"); len(cookies) != 2 || !strings.HasPrefix(cookies[1], "gatehouse-refresh=gr_") || strings.Contains(cookies[1], refresh) {
		t.Errorf("cookies %q, want a new refresh token", cookies)
	}

	// A token in the body wins, and a program gets no cookies.
	bobs, token := g.signUp("bob@example.com")
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer rubbish", "Cookie", "gatehouse-refresh="+refresh).
		refused(authn.ErrInvalidToken, "Invalid token").wantHeader("Set-Cookie", "")
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+bobs, "Cookie", "gatehouse-refresh="+refresh).want(200).wantHeader("Set-Cookie", "")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+token+`"}`, "Cookie", "gatehouse-refresh="+refresh).want(200).wantHeader("Set-Cookie", "")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":""}`, "Cookie", "gatehouse-refresh="+refresh).
		refused(authn.ErrInvalidRequest, "refresh_token: missing")
	g.call("POST", "/.gatehouse/refresh", "{}").refused(authn.ErrInvalidRequest, "refresh_token: missing")

	// A dead one is taken back, a dead one of a program leaves the browser's.
	g.call("POST", "/.gatehouse/refresh", "", "Cookie", "gatehouse-refresh=rubbish").refused(authn.ErrInvalidToken, "Invalid token").
		wantHeader("Set-Cookie", "gatehouse=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax | gatehouse-refresh=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"rubbish"}`, "Cookie", "gatehouse-refresh="+b.jar["gatehouse-refresh"]).
		refused(authn.ErrInvalidToken, "Invalid token").wantHeader("Set-Cookie", "")
}

// Signing out ends the session even if the access token has run out.
func TestLogoutOfExpired(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	refresh := b.jar["gatehouse-refresh"]
	g.now = g.now.Add(2 * time.Hour)
	b.post("/logout").to("/login")
	if len(b.jar) != 1 || b.jar["gatehouse-known"] == "" {
		t.Errorf("cookies left: %v", b.jar)
	}
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+refresh+`"}`).refused(authn.ErrInvalidToken, "Invalid token")

	// The whole session has run out, or there never was one.
	b.signIn("bob@example.com")
	g.now = g.now.Add(1000 * time.Hour)
	b.post("/logout").to("/login")
	if len(b.jar) != 1 || b.jar["gatehouse-known"] == "" {
		t.Errorf("cookies left: %v", b.jar)
	}
	b.post("/logout").to("/login")
	b.jar["gatehouse"] = "rubbish"
	b.post("/logout").to("/login")

	// A script learns that it was signed out already; a Bearer token is not
	// helped by a cookie.
	g.call("POST", "/logout", "", "Cookie", "gatehouse=rubbish").refused(authn.ErrInvalidToken, "Invalid token")
	b.post("/login", "email", "bob@example.com", "password", "password123").to("/")
	g.call("POST", "/logout", "", "Authorization", "Bearer rubbish", "Cookie", "gatehouse-refresh="+b.jar["gatehouse-refresh"]).
		refused(authn.ErrInvalidToken, "Invalid token")
	b.get("/.gatehouse/userinfo").want(200)
	g.call("POST", "/logout", "", "Cookie", "gatehouse="+b.jar["gatehouse"]).want(http.StatusNoContent).
		wantHeader("Set-Cookie", "gatehouse=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax | gatehouse-refresh=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
}

// Signing out another session leaves the caller's as it is, although its access
// token has run out.
func TestLogoutOfAnotherByExpired(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	other := g.call("POST", "/login", `{"email":"ann@example.com","password":"password123"}`).want(200).json()
	session := g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+other["access_token"].(string)).want(200).json()["session"]
	g.now = g.now.Add(2 * time.Hour)
	b.post("/logout", "session", session.(string)).to("/.gatehouse/account?notice=session_ended")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+other["refresh_token"].(string)+`"}`).refused(authn.ErrInvalidToken, "Invalid token")
	g.now = g.now.Add(time.Minute)
	b.post("/.gatehouse/refresh").to("/")

	// Nor does a request that is refused spend anything.
	g.now = g.now.Add(2 * time.Hour)
	b.post("/logout", "session", "unknown").refused(authn.ErrInvalidRequest, "session: unknown")
	g.now = g.now.Add(time.Minute)
	b.post("/.gatehouse/refresh").to("/")
	b.get("/.gatehouse/userinfo").want(200)

	// A spent cookie is an alarm here as well.
	stale := b.jar["gatehouse-refresh"]
	b.post("/.gatehouse/refresh").to("/")
	g.now = g.now.Add(2 * time.Hour)
	fresh := b.jar["gatehouse-refresh"]
	b.jar["gatehouse-refresh"] = stale
	b.post("/logout", "session", "unknown").to("/login")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+fresh+`"}`).refused(authn.ErrInvalidToken, "Invalid token")
}

// A form of one's own pages that meets an ended session is not redirected: what was
// typed would be lost.
func TestPostOfEndedSession(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	b.signIn("ann@example.com")
	g.now = g.now.Add(1000 * time.Hour)
	b.post("/.gatehouse/password", "current_password", "password123", "new_password", "another one").refused(authn.ErrInvalidToken, "Invalid token")
	b.get("/.gatehouse/account").want(http.StatusFound).wantHeader("Location", "/login?next=%2F.gatehouse%2Faccount")
	b.jar = map[string]string{}
	b.post("/.gatehouse/password", "current_password", "password123", "new_password", "another one").
		refused(authn.ErrMissingToken, "No token, authorization denied")
}

// Signing out also takes away the pages that the Back button would show.
func TestLogoutClearsCaches(t *testing.T) {
	g := newGateway(t)
	b := g.browser()
	clears := func(what string, a answer, want string) {
		t.Helper()
		if got := a.header.Get("Clear-Site-Data"); got != want {
			t.Errorf("%s: Clear-Site-Data %q, want %q", what, got, want)
		}
	}
	b.signIn("ann@example.com")
	clears("an account page", b.get("/.gatehouse/account"), "")
	clears("a sign-out", b.post("/logout"), `"cache"`)
	clears("a second one", b.post("/logout"), `"cache"`)
	b.post("/login", "email", "ann@example.com", "password", "password123").to("/")
	clears("everywhere", b.post("/logout", "everywhere", "true"), `"cache"`)
	b.post("/login", "email", "ann@example.com", "password", "password123").to("/")
	clears("a script's", g.call("POST", "/logout", "", "Cookie", "gatehouse="+b.jar["gatehouse"]), `"cache"`)
	token, _ := g.signUp("bob@example.com")
	clears("a program's", g.call("POST", "/logout", "", "Authorization", "Bearer "+token), "")
}
