package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
)

// A gateway is the endpoints with everything behind them but a proxy: do plays
// its part.
type gateway struct {
	*Endpoints
	t       *testing.T
	cfg     *config.Config
	service *authn.Service
	now     time.Time
}

// newGateway starts from the defaults of the interface page, with cheap hashes.
func newGateway(t *testing.T, change ...func(*Options)) *gateway {
	t.Helper()
	cfg := &config.Config{PublicURL: "http://gw.example:8080", DataDir: t.TempDir()}
	cfg.Endpoints = config.Endpoints{Prefix: "/.gatehouse", AtRoot: []string{"login", "register", "logout", "well-known"}, Title: "Sign in"}
	cfg.Users.Database = "sqlite"
	cfg.Tokens = config.Tokens{Issuer: cfg.PublicURL, Audience: "gatehouse", Algorithm: "ES256"}

	g := &gateway{t: t, cfg: cfg, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return g.now }
	keys, err := authn.LoadKeys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	own := &authn.Tokens{Keys: keys, Issuer: cfg.Tokens.Issuer, Audience: "gatehouse", TTL: time.Hour, Leeway: 30 * time.Second, Now: clock}
	store := &authn.MemoryStore{}
	revocations := authn.NewRevocationList(store, clock)
	if err := revocations.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.service = &authn.Service{
		Users: store, Sessions: store, Revocations: revocations, Tokens: own,
		Hasher: authn.NewHasher(4), Policy: authn.PasswordPolicy{MinLength: 8}, Throttle: authn.NewThrottle(10, 15*time.Minute, clock),
		RegistrationOpen: true, DefaultRoles: []string{"user"}, RefreshTTL: 720 * time.Hour, RefreshGrace: 10 * time.Second, Now: clock,
	}
	o := Options{Config: cfg, Service: g.service, JWKS: func() []byte { return keys.JWKS(g.now) }, Verifier: authn.Join([]authn.Verifier{own}, revocations.Check)}
	for _, f := range change {
		f(&o)
	}
	g.Endpoints, err = New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// An answer is what came of a request: refusal if the gateway has to write it.
type answer struct {
	t       *testing.T
	status  int
	header  http.Header
	body    string
	refusal *authn.Refusal
	matched bool
}

// do sends r as the proxy would: with the credentials read from it.
func (g *gateway) do(r *http.Request) answer {
	g.t.Helper()
	c := authn.Caller{Address: netip.MustParseAddr("192.0.2.7"), UserAgent: r.UserAgent()}
	mode := r.Header.Get("Sec-Fetch-Mode")
	c.Navigates = mode == "navigate" || mode == "" && strings.HasPrefix(r.Header.Get("Accept"), "text/html")
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		c.Token = token
	}
	if k, err := r.Cookie(g.cookies.Session); err == nil && c.Token == "" {
		c.Token, c.FromCookie = k.Value, true
	}
	if k, err := r.Cookie(g.cookies.Refresh); err == nil {
		c.Refresh = k.Value
	}
	if k, err := r.Cookie(g.cookies.Known); err == nil {
		c.Known = k.Value
	}
	var renewed []string
	if c.Refresh != "" && (c.Token == "" || c.FromCookie) {
		c.Resume = func(bad error) (*authn.Identity, error) {
			token, err := g.Resume(r.Context(), c.Refresh, authn.Client{})
			if err != nil {
				return nil, bad
			}
			if renewed, err = g.Renew(r.Context(), c.Refresh, authn.Client{}); err != nil {
				g.t.Errorf("Renew = %v", err)
			}
			return g.verifier.Verify(r.Context(), token)
		}
	}
	a := g.doAs(r, c)
	for _, cookie := range renewed {
		a.header.Add("Set-Cookie", cookie)
	}
	return a
}

func (g *gateway) doAs(r *http.Request, c authn.Caller) answer {
	g.t.Helper()
	a := answer{t: g.t}
	handle := g.Match(r)
	if handle == nil {
		return a
	}
	a.matched = true
	w := httptest.NewRecorder()
	if err := handle(w, r.WithContext(authn.WithCaller(r.Context(), c))); err != nil {
		a.refusal = authn.AsRefusal(err)
		if w.Body.Len() > 0 {
			g.t.Errorf("%s %s: wrote %q and returned %v", r.Method, r.URL, w.Body, err)
		}
	}
	a.status, a.header, a.body = w.Code, w.Header(), w.Body.String()
	return a
}

func request(method, target, contentType, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "gw.example:8080"
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// call is a program's request. header are names and values in turn.
func (g *gateway) call(method, target, body string, header ...string) answer {
	g.t.Helper()
	contentType := ""
	if body != "" {
		contentType = "application/json"
	}
	return g.do(request(method, target, contentType, body, header...))
}

// form is a program's request as OAuth has it. header are names and values in
// turn.
func (g *gateway) form(target, body string, header ...string) answer {
	g.t.Helper()
	return g.do(request("POST", target, "application/x-www-form-urlencoded", body, header...))
}

func bearer(token string) (name, value string) { return "Authorization", "Bearer " + token }

// want checks a written answer's status.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.refusal != nil || a.status != status {
		a.t.Fatalf("status %d, refusal %v, want %d\n%s", a.status, a.refusal, status, a.body)
	}
	return a
}

// wantBody checks the whole body, but for the final line end.
func (a answer) wantBody(want string) answer {
	a.t.Helper()
	if got := strings.TrimSuffix(a.body, "\n"); got != want {
		a.t.Errorf("body %s, want %s", got, want)
	}
	return a
}

// refused checks the refusal's code and message.
func (a answer) refused(code *authn.Refusal, message string) answer {
	a.t.Helper()
	switch {
	case a.refusal == nil:
		a.t.Fatalf("status %d, want %s\n%s", a.status, code.Code, a.body)
	case a.refusal.Code != code.Code || a.refusal.Message != message:
		a.t.Fatalf("refusal %v, message %q, want %s, %q", a.refusal, a.refusal.Message, code.Code, message)
	}
	return a
}

func (a answer) json() map[string]any {
	a.t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/json" {
		a.t.Errorf("Content-Type %q, want application/json", got)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		a.t.Fatalf("body %q: %v", a.body, err)
	}
	return m
}

func (a answer) has(texts ...string) answer {
	a.t.Helper()
	for _, s := range texts {
		if !strings.Contains(a.body, s) {
			a.t.Errorf("page has no %q:\n%s", s, a.body)
		}
	}
	return a
}

func (a answer) hasNot(texts ...string) answer {
	a.t.Helper()
	for _, s := range texts {
		if strings.Contains(a.body, s) {
			a.t.Errorf("page has %q:\n%s", s, a.body)
		}
	}
	return a
}

func (a answer) wantHeader(name, want string) answer {
	a.t.Helper()
	if got := strings.Join(a.header.Values(name), " | "); got != want {
		a.t.Errorf("%s: %q, want %q", name, got, want)
	}
	return a
}

// signUp makes an account and returns its access and refresh tokens.
func (g *gateway) signUp(email string) (access, refresh string) {
	g.t.Helper()
	body := `{"email":"` + email + `","password":"password123"}`
	g.call("POST", "/register", body).want(http.StatusCreated)
	m := g.call("POST", "/login", body).want(http.StatusOK).json()
	return m["access_token"].(string), m["refresh_token"].(string)
}

// A browser keeps cookies and sends forms as browsers do.
type browser struct {
	*gateway
	jar map[string]string
}

func (g *gateway) browser() *browser { return &browser{g, map[string]string{}} }

func (b *browser) send(r *http.Request) answer {
	b.t.Helper()
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	for name, value := range b.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a := b.do(r)
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		b.jar[c.Name] = c.Value
		if c.MaxAge < 0 {
			delete(b.jar, c.Name)
		}
	}
	return a
}

func (b *browser) get(target string) answer {
	b.t.Helper()
	return b.send(request("GET", target, "", ""))
}

// post sends a form of names and values in turn.
func (b *browser) post(target string, form ...string) answer {
	b.t.Helper()
	v := url.Values{}
	for i := 0; i < len(form); i += 2 {
		v.Add(form[i], form[i+1])
	}
	return b.send(request("POST", target, "application/x-www-form-urlencoded", v.Encode()))
}

// to checks a redirect.
func (a answer) to(location string) answer {
	a.t.Helper()
	return a.want(http.StatusSeeOther).wantHeader("Location", location)
}

// signIn makes an account in the browser and signs in.
func (b *browser) signIn(email string) {
	b.t.Helper()
	b.post("/register", "email", email, "password", "password123").to("/login?notice=registered")
	b.post("/login", "email", email, "password", "password123").to("/")
}

// verifierFunc is a Verifier that tests make up.
type verifierFunc func(token string) (*authn.Identity, error)

func (f verifierFunc) Verify(_ context.Context, token string) (*authn.Identity, error) {
	return f(token)
}

var errDown = errors.New("the store is down")
