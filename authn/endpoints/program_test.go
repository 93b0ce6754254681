package endpoints

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

// The flow of the interface page, as a program has it.
func TestProgram(t *testing.T) {
	g := newGateway(t)
	const account = `{"email":"test@example.com","password":"password123"}`

	created := g.call("POST", "/register", account).want(http.StatusCreated)
	id := created.json()["id"].(string)
	created.wantBody(`{"message":"User created successfully","id":"`+id+`"}`).wantHeader("Cache-Control", "no-store").wantHeader("Set-Cookie", "")
	if id == "" {
		t.Error("registered without an id")
	}
	g.call("POST", "/register", account).refused(authn.ErrUserExists, "User already exists")
	g.call("POST", "/register", `{"email":" TEST@Example.com ","password":"password123"}`).refused(authn.ErrUserExists, "User already exists")

	g.call("POST", "/login", `{"email":"test@example.com","password":"password124"}`).refused(authn.ErrInvalidCredentials, "Invalid credentials")
	g.call("POST", "/login", `{"email":"nobody@example.com","password":"password123"}`).refused(authn.ErrInvalidCredentials, "Invalid credentials")
	login := g.call("POST", "/login", account).want(http.StatusOK).
		wantHeader("Cache-Control", "no-store").wantHeader("Pragma", "no-cache").wantHeader("Set-Cookie", "")
	tokens := login.json()
	access, refresh := tokens["access_token"].(string), tokens["refresh_token"].(string)
	login.wantBody(`{"access_token":"` + access + `","token_type":"Bearer","expires_in":3600,"refresh_token":"` + refresh + `","refresh_expires_in":2592000}`)

	g.call("GET", "/.gatehouse/userinfo", "").refused(authn.ErrMissingToken, "No token, authorization denied")
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer rubbish").refused(authn.ErrInvalidToken, "Invalid token")
	info := g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+access).want(http.StatusOK).wantHeader("Cache-Control", "no-store")
	m := info.json()
	session := m["session"].(string)
	info.wantBody(`{"sub":"` + id + `","email":"test@example.com","name":"test@example.com","roles":["user"],"session":"` + session + `","expires_at":1772370000}`)
	if session == "" || time.Unix(int64(m["expires_at"].(float64)), 0).Sub(g.now) != time.Hour {
		t.Errorf("userinfo %v: want a session and an hour to go", m)
	}

	g.now = g.now.Add(time.Minute)
	again := g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+refresh+`"}`).want(http.StatusOK).
		wantHeader("Pragma", "no-cache").wantHeader("Set-Cookie", "").json()
	if again["refresh_token"] == refresh || again["access_token"] == access || again["token_type"] != "Bearer" || again["expires_in"] != 3600.0 {
		t.Errorf("refresh answered %v, want new tokens", again)
	}
	access, refresh = again["access_token"].(string), again["refresh_token"].(string)

	g.call("POST", "/logout", "").refused(authn.ErrMissingToken, "No token, authorization denied")
	g.call("POST", "/logout", "", "Authorization", "Bearer "+access).want(http.StatusNoContent).wantBody("").wantHeader("Set-Cookie", "")
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+access).refused(authn.ErrInvalidToken, "Invalid token")
	g.call("POST", "/logout", "", "Authorization", "Bearer "+access).refused(authn.ErrInvalidToken, "Invalid token")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+refresh+`"}`).refused(authn.ErrInvalidToken, "Invalid token")
}

// A client of the older contract works unchanged.
func TestOlderContract(t *testing.T) {
	g := newGateway(t, func(o *Options) { o.Config.Endpoints.Prefix = "/api/auth"; o.Config.Endpoints.AtRoot = nil })
	const account = `{"email":"test@example.com","password":"password123"}`

	if got := g.call("POST", "/api/auth/register", account).want(201).json()["message"]; got != "User created successfully" {
		t.Errorf("register says %q", got)
	}
	g.call("POST", "/api/auth/register", account).refused(authn.ErrUserExists, "User already exists")
	m := g.call("POST", "/api/auth/login", account).want(200).json()
	if m["token_type"] != "Bearer" || m["expires_in"] != 3600.0 {
		t.Errorf("login says %v", m)
	}
	g.call("POST", "/api/auth/login", `{"email":"test@example.com","password":"wrong"}`).refused(authn.ErrInvalidCredentials, "Invalid credentials")
	g.call("GET", "/api/auth/userinfo", "").refused(authn.ErrMissingToken, "No token, authorization denied")
	g.call("GET", "/api/auth/userinfo", "", "Authorization", "Bearer x.y.z").refused(authn.ErrInvalidToken, "Invalid token")
	g.call("GET", "/api/auth/userinfo", "", "Authorization", "Bearer "+m["access_token"].(string)).want(200)
	if g.call("POST", "/login", account).matched {
		t.Error("/login is the gateway's with at_root: []")
	}
}

func TestPassword(t *testing.T) {
	g := newGateway(t)
	access, _ := g.signUp("ann@example.com")
	other := g.call("POST", "/login", `{"email":"ann@example.com","password":"password123"}`).want(200).json()["access_token"].(string)

	auth := "Bearer " + access
	g.call("POST", "/.gatehouse/password", `{"current_password":"password123","new_password":"another one"}`).
		refused(authn.ErrMissingToken, "No token, authorization denied")
	g.call("POST", "/.gatehouse/password", `{"current_password":"wrong","new_password":"another one"}`, "Authorization", auth).
		refused(authn.ErrInvalidCredentials, "Invalid credentials")
	g.call("POST", "/.gatehouse/password", `{"current_password":"password123"}`, "Authorization", auth).
		refused(authn.ErrInvalidRequest, "new_password: missing")
	if a := g.call("POST", "/.gatehouse/password", `{"current_password":"password123","new_password":"short"}`, "Authorization", auth); a.refusal == nil || a.refusal.Code != "weak_password" {
		t.Errorf("a short new password: %v, want weak_password", a.refusal)
	}
	g.call("POST", "/.gatehouse/password", `{"current_password":"password123","new_password":"another one"}`, "Authorization", auth).
		want(http.StatusNoContent).wantBody("")

	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", auth).want(200)
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+other).refused(authn.ErrInvalidToken, "Invalid token")
	g.call("POST", "/login", `{"email":"ann@example.com","password":"password123"}`).refused(authn.ErrInvalidCredentials, "Invalid credentials")
	g.call("POST", "/login", `{"email":"ann@example.com","password":"another one"}`).want(200)
}

func TestLogoutOfOthers(t *testing.T) {
	g := newGateway(t)
	first, _ := g.signUp("ann@example.com")
	tokenOf := func() string {
		return g.call("POST", "/login", `{"email":"ann@example.com","password":"password123"}`).want(200).json()["access_token"].(string)
	}
	sessionOf := func(token string) string {
		return g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+token).want(200).json()["session"].(string)
	}
	alive := func(token string) bool {
		return g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+token).refusal == nil
	}
	second, third := tokenOf(), tokenOf()
	mallory, _ := g.signUp("mallory@example.com")

	g.call("POST", "/logout", `{"session":"`+sessionOf(second)+`"}`, "Authorization", "Bearer "+mallory).
		refused(authn.ErrInvalidRequest, "session: unknown")
	g.call("POST", "/logout", `{"session":"nonesuch"}`, "Authorization", "Bearer "+first).refused(authn.ErrInvalidRequest, "session: unknown")
	g.call("POST", "/logout", `{"session":"`+sessionOf(second)+`","everywhere":true}`, "Authorization", "Bearer "+first).
		refused(authn.ErrInvalidRequest, "session: want either this or everywhere")
	if !alive(second) {
		t.Fatal("a refused sign-out ended the session")
	}
	g.call("POST", "/logout", `{"session":"`+sessionOf(second)+`"}`, "Authorization", "Bearer "+first).want(http.StatusNoContent)
	if alive(second) || !alive(first) || !alive(third) {
		t.Errorf("after the second was signed out: alive %v %v %v", alive(first), alive(second), alive(third))
	}
	g.call("POST", "/logout", `{"everywhere":true}`, "Authorization", "Bearer "+first).want(http.StatusNoContent)
	if alive(first) || alive(third) || !alive(mallory) {
		t.Errorf("after everywhere: first %v, third %v, mallory %v", alive(first), alive(third), alive(mallory))
	}
	if fourth := tokenOf(); !alive(fourth) {
		t.Error("a token from after everywhere, in the same second, is dead")
	}
}

// Bad input has a named error at every call.
func TestBadInput(t *testing.T) {
	g := newGateway(t)
	access, _ := g.signUp("ann@example.com")
	calls := map[string]string{ // path to a body that is good
		"/register":            `{"email":"bob@example.com","password":"password123"}`,
		"/login":               `{"email":"ann@example.com","password":"password123"}`,
		"/.gatehouse/refresh":  `{"refresh_token":"x"}`,
		"/logout":              `{"everywhere":false}`,
		"/.gatehouse/password": `{"current_password":"password123","new_password":"password456"}`,
		"/.gatehouse/logout":   `{}`,
		"/.gatehouse/register": `{"email":"bob@example.com","password":"password123","name":"Bob"}`,
		"/.gatehouse/login":    `{"email":"ann@example.com","password":"password123"}`,
	}
	for path, good := range calls {
		send := func(contentType, body string) answer {
			return g.do(request("POST", path, contentType, body, "Authorization", "Bearer "+access))
		}
		bad := func(code *authn.Refusal, contentType, body string) {
			t.Helper()
			if a := send(contentType, body); a.refusal == nil || a.refusal.Code != code.Code {
				t.Errorf("POST %s with %s %.80q: status %d, refusal %v, want %s", path, contentType, body, a.status, a.refusal, code.Code)
			}
		}
		bad(authn.ErrInvalidRequest, "application/json", good[:len(good)-1])
		bad(authn.ErrInvalidRequest, "application/json", good+good)
		bad(authn.ErrInvalidRequest, "application/json", "\ufeff"+good)
		bad(authn.ErrInvalidRequest, "application/json", "["+good+"]")
		bad(authn.ErrInvalidRequest, "application/json", `{"admin":true,`+good[1:])
		bad(authn.ErrInvalidRequest, "application/json", strings.ToUpper(`{"email":"a","password":"b","refresh_token":"c","everywhere":true}`))
		bad(authn.ErrInvalidRequest, "application/json", strings.Repeat(`{"email":`, 7000))
		bad(authn.ErrInvalidRequest, "application/json", "null")
		bad(authn.ErrBodyTooLarge, "application/json", good+strings.Repeat(" ", 3<<20))
		bad(authn.ErrBodyTooLarge, "application/x-www-form-urlencoded", strings.Repeat("a", 3<<20))
		bad(authn.ErrUnsupportedMedia, "text/plain", good)
		bad(authn.ErrUnsupportedMedia, "multipart/form-data; boundary=x", "--x--")
		bad(authn.ErrUnsupportedMedia, "", `{"email":"a"}`)
		if path != "/logout" && path != "/.gatehouse/logout" {
			bad(authn.ErrInvalidRequest, "application/json", "")
			bad(authn.ErrInvalidRequest, "", "")
			first, _, _ := strings.Cut(good, ",")
			bad(authn.ErrInvalidRequest, "application/json", strings.TrimSuffix(first, "}")+","+good[1:])
		}
	}
	for _, email := range []string{`a\u0000@example.com`, `a\r\nb@example.com`, `ann@example.com\n`, `\u007f@example.com`, `a\u009f@example.com`} {
		g.call("POST", "/register", `{"email":"`+email+`","password":"password123"}`).
			refused(authn.ErrInvalidRequest, "email: control characters are not accepted")
	}
	// Nothing of all this signed ann out.
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer "+access).want(200)
}

// Credentials in the query are not read.
func TestQueryIsNotRead(t *testing.T) {
	g := newGateway(t)
	g.signUp("ann@example.com")
	g.call("POST", "/login?email=ann@example.com&password=password123", "{}").refused(authn.ErrInvalidRequest, "email: missing")
	r := request("POST", "/login?password=password123", "application/x-www-form-urlencoded", "email=ann@example.com")
	g.do(r).refused(authn.ErrInvalidRequest, "password: missing")
	g.call("GET", "/.gatehouse/userinfo?access_token=x", "").refused(authn.ErrMissingToken, "No token, authorization denied")
}

// A credential that could not be read is refused with the reason that the
// gateway found, and never passes for none.
func TestUnreadableCredential(t *testing.T) {
	g := newGateway(t)
	c := authn.Caller{Err: authn.ErrInvalidRequest.Saying("More than one Authorization header")}
	for _, r := range []*http.Request{
		request("GET", "/.gatehouse/userinfo", "", ""),
		request("GET", "/.gatehouse/account", "", ""),
		request("POST", "/logout", "", ""),
		request("POST", "/.gatehouse/refresh", "", ""),
		request("POST", "/.gatehouse/password", "application/json", `{}`),
		request("POST", "/.gatehouse/revoke", "application/json", `{"token":"x"}`),
		request("POST", "/.gatehouse/introspect", "application/json", `{"token":"x"}`),
	} {
		g.doAs(r, c).refused(authn.ErrInvalidRequest, "More than one Authorization header")
	}
}

// Roles are a list even where there are none, and what JSON needs escaped is.
func TestUserinfoOfOtherIssuer(t *testing.T) {
	ann := &authn.Identity{Issuer: "https://other.example", ID: `a"<b`, Expires: time.Unix(2000000000, 0)}
	g := newGateway(t, func(o *Options) { o.Verifier = verifierFunc(func(string) (*authn.Identity, error) { return ann, nil }) })
	a := g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer x").want(200)
	a.wantBody(`{"sub":"a\"\u003cb","email":"","name":"","roles":[],"session":"","expires_at":2000000000}`)
	if m := a.json(); m["sub"] != `a"<b` {
		t.Errorf("sub %q", m["sub"])
	}
	if !json.Valid([]byte(a.body)) {
		t.Error("not JSON")
	}
}

// What only our own users have is refused to a subject of another issuer that
// is spelt like one of them.
func TestOtherIssuersSubject(t *testing.T) {
	var id authn.Identity
	g := newGateway(t, func(o *Options) {
		o.Verifier = verifierFunc(func(string) (*authn.Identity, error) { return &id, nil })
	})
	ann := g.call("POST", "/register", `{"email":"ann@example.com","password":"password123"}`).want(201).json()["id"].(string)
	g.call("POST", "/login", `{"email":"ann@example.com","password":"password123"}`).want(200)
	sessions, err := g.service.SessionsOf(t.Context(), ann)
	if err != nil || len(sessions) != 1 {
		t.Fatalf("SessionsOf = %v, %v, want one", sessions, err)
	}

	id = authn.Identity{Issuer: "https://other.example", ID: ann, Token: "t", Expires: g.now.Add(time.Hour)}
	name, value := bearer("x")
	g.call("POST", "/.gatehouse/password", `{"current_password":"password123","new_password":"password456"}`, name, value).
		refused(authn.ErrForbidden, "This account is kept elsewhere")
	g.call("POST", "/logout", `{"session":"`+sessions[0].ID+`"}`, name, value).refused(authn.ErrForbidden, "This account is kept elsewhere")
	g.call("GET", "/.gatehouse/account", "", name, value).want(200).has("Your account").hasNot("Change password", sessions[0].ID)

	id = authn.Identity{ID: ann, Expires: g.now.Add(time.Hour)}
	g.call("GET", "/.gatehouse/account", "", name, value).want(200).has("Change password", sessions[0].ID)
}
