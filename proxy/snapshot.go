package proxy

import (
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

// Endpoints are what the gateway serves itself; Match returns nil for the rest.
type Endpoints interface {
	Match(r *http.Request) HandlerFunc
}

// SnapshotOptions are what a Snapshot is made from.
type SnapshotOptions struct {
	Config    *config.Config
	Endpoints Endpoints      // nil: the gateway answers nothing itself
	Pages     *pages.Set     // nil: made from Config
	Verifier  authn.Verifier // nil: every token is refused
	Renewer   Renewer        // nil: a session ends with its access token
	// Assert signs the assertion about id for the route named audience. It is
	// called where identity.assertion is enabled.
	Assert func(id *authn.Identity, audience string, ttl time.Duration) (string, error)
}

// A Snapshot is one gateway.yaml, compiled. It never changes.
type Snapshot struct {
	config      *config.Config
	endpoints   Endpoints
	pages       *pages.Set
	verifier    authn.Verifier
	renewer     Renewer
	assert      func(*authn.Identity, string, time.Duration) (string, error)
	routes      []*Route // ranked
	table       *table
	stripper    stripper
	credentials credentialReader
	cross       *crossOrigin
	https       bool
	realm       string // of WWW-Authenticate
	loginPath   string // where browsers sign in; "" if nowhere
}

// NewSnapshot compiles a configuration. It starts nothing, reaches nobody and
// can decide, but not forward: see [Gateway.NewSnapshot]. The error is
// config.Problems.
func NewSnapshot(o SnapshotOptions) (*Snapshot, error) {
	c := o.Config
	s := &Snapshot{
		config:      c,
		endpoints:   o.Endpoints,
		pages:       o.Pages,
		verifier:    o.Verifier,
		renewer:     o.Renewer,
		assert:      o.Assert,
		https:       c.HTTPS(),
		realm:       strings.Map(quotable, c.Tokens.Audience),
		loginPath:   loginPath(c),
		credentials: credentialReader(c.Cookies()),
		cross:       newCrossOrigin(c.PublicURL),
	}
	if s.verifier == nil {
		s.verifier = authn.Join(nil)
	}
	if s.pages == nil {
		var err error
		if s.pages, err = pages.New(c); err != nil {
			return nil, err
		}
	}
	routes, problems := compileRoutes(c)
	s.stripper = stripper{c.IdentityNames()}
	s.routes = rank(routes)
	s.table = newTable(s.routes)
	if problems = append(problems, s.table.conflicts()...); len(problems) > 0 {
		return nil, problems
	}
	if problems := s.unreachable(); len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

// quotable keeps what may stand in a quoted-string without escaping.
func quotable(r rune) rune {
	if r < ' ' || r > '~' || r == '"' || r == '\\' {
		return -1
	}
	return r
}

func loginPath(c *config.Config) string {
	switch {
	case !c.KeepsAccounts():
		return ""
	case slices.Contains(c.Endpoints.AtRoot, "login"):
		return "/login"
	}
	return c.Endpoints.Prefix + "/login"
}

// Routes are the routes, most specific first.
func (s *Snapshot) Routes() []*Route { return s.routes }
