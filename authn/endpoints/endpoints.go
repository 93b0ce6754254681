// Package endpoints holds the pages and calls that the gateway answers itself:
// /login, /userinfo, the public keys.
//
// An endpoint has a name, a path below endpoints.prefix and, if
// endpoints.at_root says so, one at the root. Its [HandlerFunc] either writes
// the answer or returns a Refusal for the gateway to write. Programs send JSON
// and get JSON; browsers send forms and get pages, cookies and redirects.
//
// # Why
//
// Nothing here reads a credential, an address or an origin from the request:
// package proxy reads them, once and for all kinds of requests, and hands them
// over as an [authn.Caller]. Nothing here decides who may sign in: that is
// [authn.Service].
//
// There is no hidden form token. What another site makes a browser send is
// refused (Caller.CrossOrigin), and nothing changes on GET.
package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/pages"
	"gatehouse/config"
)

// A HandlerFunc either writes the answer and returns nil, or returns the error
// for the gateway to write.
type HandlerFunc = func(w http.ResponseWriter, r *http.Request) error

// Options are what the endpoints work with.
type Options struct {
	Config *config.Config
	Pages  *pages.Set // nil: made from Config
	// Service keeps the accounts. With users.database none it can only revoke;
	// where nothing is recorded either, it is not asked.
	Service *authn.Service
	// Verifier judges the tokens of callers, checks included.
	Verifier authn.Verifier
	JWKS     func() []byte // the public keys at this moment, as JSON
}

// Endpoints answer the requests that are the gateway's own.
type Endpoints struct {
	service  *authn.Service
	verifier authn.Verifier
	prefix   string
	paths    map[string]served // exact paths
	links    pages.Links
	cookies  cookies
	pages    *pages.Set
	keys     func() []byte
	metadata asset
	issuer   string
	accounts bool // users can sign in here
}

// An endpoint is one row of the table.
type endpoint struct {
	name      string // as at_root has it; "" for what is served below the prefix only
	path      string
	get, post HandlerFunc
}

// served is what stands at one path.
type served struct {
	name   string
	handle HandlerFunc
}

// New compiles the endpoints of one configuration. The error is a
// config.Problem where the configuration is to blame.
func New(o Options) (*Endpoints, error) {
	cfg := o.Config
	if !strings.HasPrefix(cfg.Endpoints.Prefix, "/") || strings.HasSuffix(cfg.Endpoints.Prefix, "/") {
		return nil, cfg.Problem("endpoints.prefix", "prefix %q: want a path such as /.gatehouse", cfg.Endpoints.Prefix)
	}
	e := &Endpoints{
		service:  o.Service,
		verifier: o.Verifier,
		prefix:   cfg.Endpoints.Prefix,
		paths:    map[string]served{},
		cookies:  cookies{cfg.Cookies(), cfg.HTTPS()},
		pages:    o.Pages,
		keys:     o.JWKS,
		issuer:   cfg.Tokens.Issuer,
		accounts: cfg.KeepsAccounts(),
	}
	if e.pages == nil {
		var err error
		if e.pages, err = pages.New(cfg); err != nil {
			return nil, err
		}
	}
	e.links = e.pages.Links()
	if err := e.lay(cfg); err != nil {
		return nil, err
	}
	return e, nil
}

// table lists every endpoint there is.
func (e *Endpoints) table(cfg *config.Config) []endpoint {
	t := []endpoint{
		{"userinfo", "/userinfo", e.userinfo, nil},
		{"well-known", "/.well-known/jwks.json", e.serveKeys, nil},
		{"well-known", "/.well-known/oauth-authorization-server", e.serveMetadata, nil},
		{"jwks", "/jwks.json", e.serveKeys, nil},
		{"introspect", "/introspect", nil, e.introspect},
	}
	for path, serve := range e.pages.Assets() {
		t = append(t, endpoint{"", strings.TrimPrefix(path, e.prefix), serve, nil})
	}
	if cfg.Revokes() {
		t = append(t, endpoint{"logout", "/logout", nil, e.logout}, endpoint{"revoke", "/revoke", nil, e.revoke})
	}
	if e.accounts {
		t = append(t,
			endpoint{"login", "/login", e.loginPage, e.login},
			endpoint{"register", "/register", e.registerPage, e.register},
			endpoint{"refresh", "/refresh", nil, e.refresh},
			endpoint{"password", "/password", nil, e.password},
			endpoint{"account", "/account", e.accountPage, nil},
		)
	}
	return t
}

func (e *Endpoints) serveKeys(w http.ResponseWriter, r *http.Request) error {
	return newAsset("application/json", e.keys()).serve(w, r)
}

func (e *Endpoints) serveMetadata(w http.ResponseWriter, r *http.Request) error {
	return e.metadata.serve(w, r)
}

// known are the names that at_root may list, whether or not this configuration
// serves them.
var known = []string{"login", "register", "logout", "refresh", "password", "userinfo", "account", "revoke", "introspect", "jwks", "well-known"}

// lay puts the table's endpoints at their paths.
func (e *Endpoints) lay(cfg *config.Config) error {
	for i, name := range cfg.Endpoints.AtRoot {
		if !slices.Contains(known, name) {
			return cfg.Problem(fmt.Sprintf("endpoints.at_root[%d]", i), "endpoint %q: want one of %s", name, strings.Join(known, ", "))
		}
	}
	at := map[string]string{}
	for _, ep := range e.table(cfg) {
		s := served{ep.name, e.guard(ep)}
		at[ep.path] = e.prefix + ep.path
		e.paths[e.prefix+ep.path] = s
		if slices.Contains(cfg.Endpoints.AtRoot, ep.name) {
			at[ep.path] = ep.path
			e.paths[ep.path] = s
		}
	}
	var err error
	e.metadata, err = newMetadata(cfg, at)
	return err
}

// guard is what holds for every endpoint: its methods, the origin of unsafe
// requests, and that nobody keeps the answer.
func (e *Endpoints) guard(ep endpoint) HandlerFunc {
	allow := "POST"
	switch {
	case ep.get != nil && ep.post != nil:
		allow = "GET, HEAD, POST"
	case ep.get != nil:
		allow = "GET, HEAD"
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		switch {
		case ep.get != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			return ep.get(w, r)
		case ep.post != nil && r.Method == http.MethodPost:
			if err := authn.CallerOf(r.Context()).CrossOrigin; err != nil {
				return err
			}
			return ep.post(w, r)
		}
		h.Set("Allow", allow)
		return authn.ErrMethodNotAllowed
	}
}

// Match finds who answers r, or nil if that is none of the gateway's own
// endpoints. The path must be an endpoint's to the letter: /login/ and //login
// are not. All of the prefix is the gateway's: what it does not serve there is
// answered no_route and never forwarded.
func (e *Endpoints) Match(r *http.Request) HandlerFunc {
	path := r.URL.Path
	// /.well-known%2fjwks.json reads the same once decoded.
	if s, ok := e.paths[path]; ok && !strings.Contains(strings.ToLower(r.URL.RawPath), "%2f") {
		return s.handle
	}
	if e.reserves(path) {
		return noRoute
	}
	return nil
}

// reserves reports whether path lies at or below the prefix.
func (e *Endpoints) reserves(path string) bool {
	return path == e.prefix || strings.HasPrefix(path, e.prefix+"/")
}

func noRoute(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	return authn.ErrNoRoute
}

// identify finds who is calling. Nobody is ErrMissingToken. A browser whose
// session is alive goes on, and the answer has new cookies for it.
func (e *Endpoints) identify(r *http.Request) (*authn.Identity, error) {
	id, err := e.presented(r)
	if c := authn.CallerOf(r.Context()); isDead(err) && c.Resume != nil {
		return c.Resume(err)
	}
	return id, err
}

// presented is who the presented token says is calling.
func (e *Endpoints) presented(r *http.Request) (*authn.Identity, error) {
	c := authn.CallerOf(r.Context())
	if c.Err != nil {
		return nil, c.Err
	}
	if c.Token == "" {
		return nil, authn.ErrMissingToken
	}
	return e.verify(r, c.Token)
}

// verify is the verifier's verdict, or ErrBusy where none was possible: the store
// with the roles that a token leaves out may be away.
func (e *Endpoints) verify(r *http.Request, token string) (*authn.Identity, error) {
	id, err := e.verifier.Verify(r.Context(), token)
	if _, refused := errors.AsType[*authn.Refusal](err); err != nil && !refused && !errors.Is(err, context.Canceled) {
		err = authn.ErrBusy.Saying("The token cannot be verified at the moment").After(time.Second).Because(err)
	}
	return id, err
}

// isDead tells a credential that is no longer good, or missing, from one that
// nobody can tell about.
func isDead(err error) bool {
	return errors.Is(err, authn.ErrMissingToken) || errors.Is(err, authn.ErrInvalidToken)
}

// account is identify for what only a user of this gateway has. Another
// issuer's subject may be spelt like one of our users' IDs; it is somebody else
// all the same.
func (e *Endpoints) account(r *http.Request) (*authn.Identity, error) {
	id, err := e.identify(r)
	if err != nil {
		return nil, err
	}
	if id.Issuer != "" {
		return nil, errElsewhere(id)
	}
	return id, nil
}

func errElsewhere(id *authn.Identity) error {
	return authn.ErrForbidden.Saying("This account is kept elsewhere").Because(fmt.Errorf("identity of issuer %q", id.Issuer))
}

// clientOf is the caller as the Service wants to know it.
func clientOf(r *http.Request) authn.Client {
	c := authn.CallerOf(r.Context())
	return authn.Client{Address: c.Address, UserAgent: c.UserAgent, Known: c.Known}
}
