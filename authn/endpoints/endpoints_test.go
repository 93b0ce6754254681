package endpoints

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"gatehouse/authn"
	"gatehouse/config"
)

func TestMatch(t *testing.T) {
	g := newGateway(t)
	ours := func(target string) {
		t.Helper()
		a := g.do(request("TRACE", target, "", ""))
		if !a.matched || a.refusal == nil || a.refusal.Code != "method_not_allowed" {
			t.Errorf("%s: matched %v, refusal %v, want an endpoint", target, a.matched, a.refusal)
		}
	}
	reserved := func(target string) {
		t.Helper()
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			g.do(request(method, target, "", "")).refused(authn.ErrNoRoute, "Nothing is served here").wantHeader("Cache-Control", "no-store")
		}
	}
	foreign := func(target string) {
		t.Helper()
		if g.Match(httptest.NewRequest("GET", "http://gw.example"+target, nil)) != nil {
			t.Errorf("%s is the gateway's, want it left to the routes", target)
		}
	}

	for _, name := range []string{"login", "register", "refresh", "logout", "password", "userinfo", "account", "revoke", "introspect",
		".well-known/jwks.json", ".well-known/oauth-authorization-server", "jwks.json", "style.css"} {
		ours("/.gatehouse/" + name)
	}
	ours("/login")
	ours("/register")
	ours("/logout")
	ours("/.well-known/jwks.json")
	ours("/.well-known/oauth-authorization-server")
	ours("/login?next=/x")
	ours("/%6cogin")

	reserved("/.gatehouse")
	reserved("/.gatehouse/")
	reserved("/.gatehouse/login/")
	reserved("/.gatehouse//login")
	reserved("/.gatehouse%2flogin")
	reserved("/.gatehouse/LOGIN")
	reserved("/.gatehouse/verify")
	reserved("/.gatehouse/.well-known/openid-configuration")

	foreign("/")
	foreign("/login/")
	foreign("//login")
	foreign("/login;x")
	foreign("/login%2f")
	foreign("/login%3f")
	foreign("/Login")
	foreign("/login/x")
	foreign("/a/login")
	foreign("/userinfo") // not in at_root
	foreign("/password")
	foreign("/account")
	foreign("/refresh")
	foreign("/jwks.json")
	foreign("/style.css")
	foreign("/.well-known")
	foreign("/.well-known/")
	foreign("/.well-known%2fjwks.json")
	foreign("/.well-known/oauth-authorization-server/app")
	foreign("/revoke")
	foreign("/introspect")
	foreign("/.gatehouse2/login")
	foreign("/x/.gatehouse/login")
}

func TestMethods(t *testing.T) {
	g := newGateway(t)
	for path, allow := range map[string]string{
		"/login": "GET, HEAD, POST", "/register": "GET, HEAD, POST", "/logout": "POST",
		"/.gatehouse/refresh": "POST", "/.gatehouse/password": "POST", "/.gatehouse/userinfo": "GET, HEAD",
		"/.gatehouse/account": "GET, HEAD", "/.gatehouse/jwks.json": "GET, HEAD", "/.gatehouse/style.css": "GET, HEAD",
		"/.well-known/jwks.json": "GET, HEAD", "/.well-known/oauth-authorization-server": "GET, HEAD",
		"/.gatehouse/revoke": "POST", "/.gatehouse/introspect": "POST",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "PROPFIND"} {
			a := g.do(request(method, path, "", ""))
			refused := a.refusal != nil && a.refusal.Code == "method_not_allowed"
			if allowed := slices.Contains(strings.Split(allow, ", "), method); allowed == refused {
				t.Errorf("%s %s: %v, want it allowed: %v", method, path, a.refusal, allowed)
			}
			if refused {
				a.wantHeader("Allow", allow).wantHeader("Cache-Control", "no-store")
			}
		}
	}
}

// What another site makes a browser send changes nothing; it may be read.
func TestCrossOrigin(t *testing.T) {
	g := newGateway(t)
	foreign := authn.Caller{CrossOrigin: authn.ErrCrossOrigin.Because(errors.New("Origin is https://evil.example"))}
	const body = `{"email":"ann@example.com","password":"wrong password"}`
	for _, path := range []string{"/login", "/register", "/logout", "/.gatehouse/refresh", "/.gatehouse/password"} {
		g.doAs(request("POST", path, "application/json", body), foreign).refused(authn.ErrCrossOrigin, "Cross-origin request refused")
	}
	g.doAs(request("GET", "/login", "", ""), foreign).want(200)
}

func TestKeys(t *testing.T) {
	g := newGateway(t)
	a := g.call("GET", "/.well-known/jwks.json", "").want(200).
		wantHeader("Content-Type", "application/json").wantHeader("Cache-Control", "public, max-age=300")
	keys := a.json()["keys"].([]any)
	if len(keys) != 1 || keys[0].(map[string]any)["kty"] != "EC" || keys[0].(map[string]any)["d"] != nil {
		t.Errorf("keys %v, want one public EC key", keys)
	}
	etag := a.header.Get("ETag")
	g.call("GET", "/.gatehouse/jwks.json", "", "If-None-Match", `"other", `+etag).want(http.StatusNotModified).wantBody("")
	g.call("GET", "/.gatehouse/.well-known/jwks.json", "", "If-None-Match", `"other"`).want(200).wantBody(strings.TrimSpace(a.body))
	g.call("HEAD", "/.gatehouse/jwks.json", "").want(200).wantHeader("ETag", etag).wantBody("")
}

func TestPageHeaders(t *testing.T) {
	g := newGateway(t)
	token, _ := g.signUp("ann@example.com")
	for _, path := range []string{"/login", "/register", "/.gatehouse/account"} {
		a := g.call("GET", path, "", "Authorization", "Bearer "+token).want(200)
		a.wantHeader("Content-Type", "text/html; charset=utf-8").wantHeader("Cache-Control", "no-store").
			wantHeader("X-Content-Type-Options", "nosniff").wantHeader("X-Frame-Options", "DENY").wantHeader("Referrer-Policy", "same-origin").
			wantHeader("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		a.wantHeader("Content-Language", "en").wantHeader("Vary", "Accept-Language").wantHeader("Cross-Origin-Opener-Policy", "same-origin").
			has(`<link rel="stylesheet" href="/.gatehouse/style.css?v=`, `<script src="/.gatehouse/script.js?v=`, `<html lang="en" dir="ltr">`).
			hasNot("<script>", "<style", "style=", "ZgotmplZ")
	}
	g.call("GET", "/login", "").has(`autocomplete="username"`, `autocomplete="current-password"`, `<label for="email">`, "<title>Sign in</title>")
	g.call("GET", "/.gatehouse/style.css", "").want(200).wantHeader("Content-Type", "text/css; charset=utf-8").has("prefers-color-scheme: dark")
	g.call("GET", "/.gatehouse/account", "").refused(authn.ErrMissingToken, "No token, authorization denied")
}

// Without accounts there is nothing to sign in to: tokens are verified, and can
// be revoked.
func TestVerifyOnly(t *testing.T) {
	ann := &authn.Identity{Issuer: "https://other.example", ID: "ann", Token: "t1"}
	g := newGateway(t, func(o *Options) {
		o.Config.Users.Database, o.Config.Revocation.Store = "none", "redis"
		o.Verifier = verifierFunc(func(string) (*authn.Identity, error) { return ann, nil })
	})
	for _, path := range []string{"/login", "/register"} {
		if g.call("GET", path, "").matched {
			t.Errorf("%s is the gateway's without accounts", path)
		}
	}
	for _, name := range []string{"login", "register", "refresh", "password", "account"} {
		g.call("POST", "/.gatehouse/"+name, "").refused(authn.ErrNoRoute, "Nothing is served here")
	}
	g.call("GET", "/.gatehouse/userinfo", "", "Authorization", "Bearer x").want(200)
	g.call("GET", "/.well-known/jwks.json", "").want(200)
	g.form("/.gatehouse/introspect", "token=x", "Authorization", "Bearer x").refused(authn.ErrInvalidToken, "Not allowed to introspect tokens")
	g.form("/.gatehouse/revoke", "token=gr_x.y", "Authorization", "Bearer x").want(200)
	g.browser().post("/logout").to("/")

	// Where nothing could be recorded, no sign-out is offered: a restart would
	// undo it.
	g = newGateway(t, func(o *Options) { o.Config.Users.Database, o.Service = "none", nil })
	for _, name := range []string{"logout", "revoke"} {
		g.call("POST", "/.gatehouse/"+name, "").refused(authn.ErrNoRoute, "Nothing is served here")
	}
	if m := g.call("GET", "/.well-known/oauth-authorization-server", "").want(200).json(); m["revocation_endpoint"] != nil || m["introspection_endpoint"] == nil {
		t.Errorf("metadata %v, want introspection alone", m)
	}
}

func TestNewProblems(t *testing.T) {
	bad := func(want string, change func(*config.Config)) {
		t.Helper()
		cfg := &config.Config{PublicURL: "http://gw.example", Path: "gateway.yaml"}
		cfg.Endpoints = config.Endpoints{Prefix: "/.gatehouse", Title: "Sign in"}
		change(cfg)
		_, err := New(Options{Config: cfg})
		if p, ok := errors.AsType[config.Problem](err); !ok || p.Text != want {
			t.Errorf("New: %v, want %q", err, want)
		}
	}
	bad(`prefix "": want a path such as /.gatehouse`, func(c *config.Config) { c.Endpoints.Prefix = "" })
	bad(`prefix "/": want a path such as /.gatehouse`, func(c *config.Config) { c.Endpoints.Prefix = "/" })
	bad(`endpoint "signin": want one of login, register, logout, refresh, password, userinfo, account, revoke, introspect, jwks, well-known`,
		func(c *config.Config) { c.Endpoints.AtRoot = []string{"login", "signin"} })
}
