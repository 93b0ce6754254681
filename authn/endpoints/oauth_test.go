package endpoints

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

const (
	revokePath     = "/.gatehouse/revoke"
	introspectPath = "/.gatehouse/introspect"
)

// signUpAs is signUp with roles.
func (g *gateway) signUpAs(email string, roles ...string) (access string) {
	g.t.Helper()
	g.signUp(email)
	if err := g.service.SetRoles(g.t.Context(), email, roles); err != nil {
		g.t.Fatal(err)
	}
	m := g.call("POST", "/login", `{"email":"`+email+`","password":"password123"}`).want(200).json()
	return m["access_token"].(string)
}

func (g *gateway) alive(what, token string, want bool) {
	g.t.Helper()
	name, value := bearer(token)
	a := g.call("GET", "/.gatehouse/userinfo", "", name, value)
	if alive := a.refusal == nil; alive != want {
		g.t.Errorf("%s is accepted: %v (%v), want %v", what, alive, a.refusal, want)
	}
}

func TestRevokeAccessToken(t *testing.T) {
	g := newGateway(t)
	const body = `{"email":"ann@example.com","password":"password123"}`
	ann, refresh := g.signUp("ann@example.com")
	phone := g.call("POST", "/login", body).want(200).json()["access_token"].(string)
	bob, _ := g.signUp("bob@example.com")
	as := func(token, form string) answer {
		t.Helper()
		name, value := bearer(token)
		return g.form(revokePath, form, name, value)
	}

	// Nobody, and somebody else.
	g.form(revokePath, "token="+ann).refused(authn.ErrMissingToken, "No token, authorization denied")
	as("x.y.z", "token="+ann).refused(authn.ErrInvalidToken, "Invalid token")
	as(bob, "token="+ann).refused(authn.ErrForbidden, "This token is somebody else's")
	g.alive("the token of ann", ann, true)

	// The holder, with another of their tokens; a hint and what clients send
	// beside do not matter.
	as(ann, "token="+phone+"&token_type_hint=refresh_token&client_id=app&client_secret=hush").want(200).wantBody("").
		wantHeader("Cache-Control", "no-store")
	g.alive("the token of the phone", phone, false)
	g.alive("the token of ann", ann, true)
	as(ann, "token="+phone).want(200) // once more
	as(ann, "token="+phone+"x").want(200)
	as(ann, "token=nonesuch&token_type_hint=nonesuch").want(200)

	// A token revokes itself, and its session goes on.
	as(ann, "token="+ann).want(200)
	g.alive("the token of ann", ann, false)
	as(ann, "token="+ann).want(200) // a retry, whose answer was lost
	as(ann, "token="+bob).refused(authn.ErrInvalidToken, "Invalid token")
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+refresh+`"}`).want(200)

	// An admin, in JSON.
	admin := g.signUpAs("root@example.com", "admin")
	name, value := bearer(admin)
	g.call("POST", revokePath, `{"token":"`+bob+`","client_id":7,"x":{"y":[]}}`, name, value).want(200)
	g.alive("the token of bob", bob, false)

	// What is not well-formed.
	as(admin, "").refused(authn.ErrInvalidRequest, "token: missing")
	as(admin, "token=").refused(authn.ErrInvalidRequest, "token: missing")
	as(admin, "token=a&token=b").refused(authn.ErrInvalidRequest, "token: given twice")
	as(admin, "token=%zz").refused(authn.ErrInvalidRequest, "The form is not well encoded")
	g.form(revokePath+"?token="+ann, "", name, value).refused(authn.ErrInvalidRequest, "token: missing")
	g.do(request("POST", revokePath, "text/plain", "token=x", name, value)).refused(authn.ErrUnsupportedMedia, "Send application/json or a form")
	foreign := authn.Caller{Token: admin, CrossOrigin: authn.ErrCrossOrigin}
	g.doAs(request("POST", revokePath, "application/x-www-form-urlencoded", "token="+admin), foreign).refused(authn.ErrCrossOrigin, "Cross-origin request refused")
	g.alive("the token of the admin", admin, true)
}

func TestRevokeRefreshToken(t *testing.T) {
	g := newGateway(t)
	access, refresh := g.signUp("ann@example.com")
	forged := refresh[:len(refresh)-64] + strings.Repeat("A", 64)
	g.form(revokePath, "token="+forged).want(200)
	g.form(revokePath, "token=gr_nonesuch."+strings.Repeat("A", 64)).want(200)
	g.alive("a token whose session was only guessed", access, true)

	// It is its own proof, and ends the whole session.
	g.form(revokePath, "token="+refresh+"&token_type_hint=access_token", "Authorization", "Basic YXBwOmh1c2g=").want(200).wantBody("")
	g.alive("a token of the session", access, false)
	g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+refresh+`"}`).refused(authn.ErrInvalidToken, "Invalid token")
	g.form(revokePath, "token="+refresh).want(200)

	// So does one that is spent: whoever kept it has shared the session.
	access, refresh = g.signUp("bob@example.com")
	g.now = g.now.Add(time.Minute)
	next := g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+refresh+`"}`).want(200).json()["access_token"].(string)
	g.now = g.now.Add(time.Minute)
	g.form(revokePath, "token="+refresh).want(200)
	g.alive("the first token", access, false)
	g.alive("the token after it", next, false)
}

func TestIntrospect(t *testing.T) {
	g := newGateway(t)
	operator := g.signUpAs("ops@example.com", "introspect")
	ann, refresh := g.signUp("ann@example.com")
	as := func(token, form string) answer {
		t.Helper()
		name, value := bearer(token)
		return g.form(introspectPath, form, name, value)
	}
	inactive := func(what, token string) {
		t.Helper()
		if a := as(operator, "token="+token).want(200); strings.TrimSpace(a.body) != `{"active":false}` {
			t.Errorf("%s: %s, want no more than that it is not active", what, a.body)
		}
	}

	// Who may ask.
	g.form(introspectPath, "token="+ann).refused(authn.ErrMissingToken, "No token, authorization denied")
	as("x.y.z", "token="+ann).refused(authn.ErrInvalidToken, "Invalid token")
	if a := as(ann, "token="+ann).refused(authn.ErrInvalidToken, "Not allowed to introspect tokens"); a.refusal.Description == "" {
		t.Error("the caller is not told what is missing")
	}
	as(g.signUpAs("root@example.com", "admin"), "token="+ann).want(200)

	// An access token.
	m := as(operator, "token="+ann+"&token_type_hint=access_token&client_id=app").want(200).wantHeader("Cache-Control", "no-store").json()
	id, err := g.service.Tokens.Verify(t.Context(), ann)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"active": true, "token_type": "Bearer", "sub": id.ID, "username": "ann@example.com", "email": "ann@example.com", "name": "ann@example.com",
		"iss": "http://gw.example:8080", "aud": "gatehouse", "exp": float64(g.now.Unix() + 3600), "iat": float64(g.now.Unix()), "nbf": float64(g.now.Unix()),
		"jti": id.Token, "sid": id.Session,
	}
	for name, v := range want {
		if m[name] != v {
			t.Errorf("%s = %v, want %v", name, m[name], v)
		}
	}
	if roles, ok := m["roles"].([]any); !ok || len(roles) != 1 || roles[0] != "user" || len(m) != len(want)+1 {
		t.Errorf("introspection %v, want the roles and nothing beside", m)
	}

	// A refresh token is not taken for an access token.
	m = as(operator, "token="+refresh).want(200).json()
	if m["active"] != true || m["token_type"] != "refresh_token" || m["sub"] != id.ID || m["sid"] != id.Session || m["aud"] != nil ||
		m["exp"] != float64(g.now.Add(720*time.Hour).Unix()) {
		t.Errorf("introspection of a refresh token %v", m)
	}
	next := g.call("POST", "/.gatehouse/refresh", `{"refresh_token":"`+refresh+`"}`).want(200).json()["refresh_token"].(string)
	if m = as(operator, "token="+refresh).want(200).json(); m["active"] != true {
		t.Errorf("within its grace %v, want it active", m)
	}
	g.now = g.now.Add(10 * time.Second)
	inactive("a spent refresh token", refresh)
	if m = as(operator, "token="+next).want(200).json(); m["active"] != true {
		t.Errorf("asking about a spent token was taken for its use: %v", m)
	}

	// Never why not.
	inactive("rubbish", "nonesuch")
	inactive("a damaged token", ann+"x")
	inactive("a forged refresh token", next[:len(next)-64]+strings.Repeat("A", 64))
	as(operator, "").refused(authn.ErrInvalidRequest, "token: missing")
	if err := g.service.SetDisabled(t.Context(), "ann@example.com", true); err != nil {
		t.Fatal(err)
	}
	inactive("a disabled user's token", ann)
	inactive("a disabled user's refresh token", next)
	bob, refresh := g.signUp("bob@example.com")
	g.form(revokePath, "token="+refresh).want(200)
	inactive("a revoked token", bob)
	inactive("a revoked session's refresh token", refresh)
	expired, _ := g.signUp("eve@example.com")
	g.now = g.now.Add(2 * time.Hour)
	operator = g.call("POST", "/login", `{"email":"ops@example.com","password":"password123"}`).want(200).json()["access_token"].(string)
	inactive("an expired token", expired)
}

// Tokens of trusted issuers are told with their claims; no verdict is none.
func TestIntrospectOtherIssuer(t *testing.T) {
	ops := &authn.Identity{ID: "ops", Roles: []string{"introspect"}}
	ann := &authn.Identity{
		Issuer: "https://other.example", ID: "ann", Token: "sha256:x", Roles: nil, Issued: time.Unix(1, 0), Expires: time.Unix(2, 0),
		Claims: map[string]any{"iss": "https://other.example", "aud": []any{"a", "b"}, "client_id": "shop"},
	}
	g := newGateway(t, func(o *Options) {
		o.Verifier = verifierFunc(func(token string) (*authn.Identity, error) {
			switch token {
			case "ops":
				return ops, nil
			case "ann":
				return ann, nil
			case "many roles":
				return nil, errDown
			}
			return nil, authn.ErrBusy.Because(authn.ErrNoKeys)
		})
	})
	g.form(introspectPath, "token=ann", "Authorization", "Bearer ops").want(200).
		wantBody(`{"active":true,"token_type":"Bearer","sub":"ann","roles":[],"iss":"https://other.example","aud":["a","b"],"exp":2,"iat":1,"client_id":"shop"}`)
	g.form(introspectPath, "token=other", "Authorization", "Bearer ops").refused(authn.ErrBusy, "Busy, try again in a moment")
	g.form(revokePath, "token=other", "Authorization", "Bearer ops").refused(authn.ErrBusy, "Busy, try again in a moment")
	const away = "The token cannot be verified at the moment"
	g.form(introspectPath, "token=many+roles", "Authorization", "Bearer ops").refused(authn.ErrBusy, away)
	g.form(revokePath, "token=many+roles", "Authorization", "Bearer ops").refused(authn.ErrBusy, away)
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer many roles").refused(authn.ErrBusy, away)
	g.form(revokePath, "token=ann", "Authorization", "Bearer ops").refused(authn.ErrForbidden, "This token is somebody else's")
	// A subject of ours that is spelt like theirs is somebody else.
	ops.ID = "ann"
	g.form(revokePath, "token=ann", "Authorization", "Bearer ops").refused(authn.ErrForbidden, "This token is somebody else's")
	ops.Issuer = ann.Issuer
	g.form(revokePath, "token=ann", "Authorization", "Bearer ops").want(200)
}

func TestMetadata(t *testing.T) {
	g := newGateway(t)
	a := g.call("GET", "/.well-known/oauth-authorization-server", "").want(200).wantHeader("Cache-Control", "public, max-age=300")
	a.json()
	a.wantBody(`{"issuer":"http://gw.example:8080","jwks_uri":"http://gw.example:8080/.well-known/jwks.json",` +
		`"response_types_supported":[],"grant_types_supported":[],` +
		`"revocation_endpoint":"http://gw.example:8080/.gatehouse/revoke","revocation_endpoint_auth_methods_supported":["none"],` +
		`"introspection_endpoint":"http://gw.example:8080/.gatehouse/introspect","introspection_endpoint_auth_methods_supported":["Bearer"]}`)
	r := request("GET", "/.gatehouse/.well-known/oauth-authorization-server", "", "", "If-None-Match", a.header.Get("ETag"))
	g.do(r).want(http.StatusNotModified)

	// It names the places where things are.
	g = newGateway(t, func(o *Options) { o.Config.Endpoints.AtRoot = []string{"revoke"} })
	m := g.call("GET", "/.gatehouse/.well-known/oauth-authorization-server", "").want(200).json()
	if m["revocation_endpoint"] != "http://gw.example:8080/revoke" || m["jwks_uri"] != "http://gw.example:8080/.gatehouse/.well-known/jwks.json" {
		t.Errorf("metadata %v", m)
	}
	for _, name := range []string{"revocation_endpoint", "introspection_endpoint", "jwks_uri"} {
		if path := strings.TrimPrefix(m[name].(string), "http://gw.example:8080"); !g.do(request("GET", path, "", "")).matched {
			t.Errorf("%s is %s, which is nowhere", name, m[name])
		}
	}
}
