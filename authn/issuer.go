package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/config"
)

// TrustedIssuers verifies the tokens of others, each against the JWK set of
// its issuer.
type TrustedIssuers struct {
	byName   map[string]*issuer
	leeway   time.Duration
	now      func() time.Time
	warnings []config.Problem
}

type issuer struct {
	config.TrustedIssuer
	keys *remoteKeys
}

// ErrNoKeys is in the error for a token that a key may have signed which the
// issuer has and we could not get. It is no verdict on the token.
var ErrNoKeys = errors.New("the issuer's keys of now are not known")

// NewTrustedIssuers prepares cfg.TrustedIssuers. Every jwks_file is read; a
// jwks_url is asked by Start, or when the first token needs it. An entry
// without audiences wants tokens.audience: a token for anybody is a token that
// others could have been given. The error is config.Problems.
func NewTrustedIssuers(cfg *config.Config, now func() time.Time) (*TrustedIssuers, error) {
	if now == nil {
		now = time.Now
	}
	t := &TrustedIssuers{byName: map[string]*issuer{}, leeway: cfg.Tokens.Leeway, now: now}
	var problems config.Problems
	for i, c := range cfg.TrustedIssuers {
		at := fmt.Sprintf("trusted_issuers[%d]", i)
		if len(c.Audiences) == 0 {
			c.Audiences = []string{cfg.Tokens.Audience}
		}
		is, field, err := t.open(c)
		switch {
		case err != nil:
			problems = append(problems, cfg.Problem(at+field, "%v", err))
		case c.Issuer == cfg.Tokens.Issuer:
			problems = append(problems, cfg.Problem(at+".issuer", "issuer %q is this gateway itself, see tokens.issuer", c.Issuer))
		case t.byName[c.Issuer] != nil:
			problems = append(problems, cfg.Problem(at+".issuer", "issuer %q stands there twice", c.Issuer))
		default:
			t.byName[c.Issuer] = is
			if set := is.keys.current(); set != nil {
				for _, why := range set.skipped {
					t.warnings = append(t.warnings, cfg.Problem(at+".jwks_file", "%s: %s", c.JWKSFile, why))
				}
			}
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return t, nil
}

func (t *TrustedIssuers) open(c config.TrustedIssuer) (is *issuer, field string, err error) {
	if c.Issuer == "" {
		return nil, ".issuer", errors.New("issuer is empty, want the iss of its tokens")
	}
	if slices.Contains(c.Audiences, "") {
		return nil, ".audiences", fmt.Errorf("issuer %q: want the aud that its tokens for this gateway have", c.Issuer)
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = issuerAlgorithms()
	}
	for _, a := range c.Algorithms {
		if !slices.Contains(issuerAlgorithms(), a) {
			return nil, ".algorithms", fmt.Errorf("algorithm %q: want some of %s", a, strings.Join(issuerAlgorithms(), ", "))
		}
	}
	for _, claim := range []struct {
		name  *string
		usual string
	}{{&c.Claims.ID, "sub"}, {&c.Claims.Email, "email"}, {&c.Claims.Name, "name"}, {&c.Claims.Roles, "roles"}} {
		if *claim.name == "" {
			*claim.name = claim.usual
		}
	}
	if (c.JWKSURL == "") == (c.JWKSFile == "") {
		return nil, "", fmt.Errorf("issuer %q: want either jwks_url or jwks_file", c.Issuer)
	}
	if c.JWKSURL != "" {
		u, err := url.Parse(c.JWKSURL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, ".jwks_url", fmt.Errorf("jwks_url %q: want a URL such as https://issuer.example/jwks.json", c.JWKSURL)
		}
		return &issuer{c, newRemoteKeys(c.JWKSURL, t.now)}, "", nil
	}
	set, err := readJWKSFile(c.JWKSFile)
	if err != nil {
		return nil, ".jwks_file", err
	}
	keys := &remoteKeys{now: t.now}
	keys.set.Store(set)
	return &issuer{c, keys}, "", nil
}

func readJWKSFile(path string) (*jwkSet, error) {
	data, err := readRegular(path, maxJWKS)
	if err != nil {
		return nil, err
	}
	set, err := parseUsableJWKS(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, nil
}

// Warnings are about keys in files that cannot be used beside others that can.
func (t *TrustedIssuers) Warnings() []config.Problem { return slices.Clone(t.warnings) }

// Adopt takes over the keys that prev has fetched from the same URLs, so that
// a reload does not start without keys while an issuer is away.
func (t *TrustedIssuers) Adopt(prev *TrustedIssuers) {
	if prev == nil {
		return
	}
	for name, is := range t.byName {
		if old := prev.byName[name]; old != nil && old.JWKSURL == is.JWKSURL && is.JWKSURL != "" {
			is.keys.adopt(old.keys)
		}
	}
}

// Start keeps the keys of every jwks_url current and returns when ctx has
// ended and nothing of it runs any more.
func (t *TrustedIssuers) Start(ctx context.Context) {
	var running sync.WaitGroup
	for _, is := range t.byName {
		if is.JWKSURL != "" {
			running.Go(func() { is.keys.follow(ctx) })
		}
	}
	running.Wait()
}

// An IssuerState is how the keys of a jwks_url are doing.
type IssuerState struct {
	Issuer  string
	Keys    int       // usable ones
	Skipped []string  // why the others are not
	Fetched time.Time // last success; zero for never
	Err     error     // of the last attempt
}

// State tells about every issuer with a jwks_url, by name.
func (t *TrustedIssuers) State() []IssuerState {
	var states []IssuerState
	for name, is := range t.byName {
		if is.JWKSURL != "" {
			s := is.keys.state()
			s.Issuer = name
			states = append(states, s)
		}
	}
	slices.SortFunc(states, func(a, b IssuerState) int { return strings.Compare(a.Issuer, b.Issuer) })
	return states
}

// Verify is a [Verifier]. A token that no known key of its issuer verifies,
// while the issuer does not answer, is ErrBusy because of ErrNoKeys: nobody
// could tell, try again.
func (t *TrustedIssuers) Verify(ctx context.Context, token string) (*Identity, error) {
	u, err := readToken(token)
	if err != nil {
		return nil, ErrInvalidToken.Because(err)
	}
	id, _, err := t.prove(ctx, u)
	if err != nil {
		return nil, err
	}
	if err := Unexpired(t.leeway, t.now)(ctx, id); err != nil {
		return nil, err
	}
	return id, nil
}

// prove is a [prover]'s.
func (t *TrustedIssuers) prove(ctx context.Context, u *unproven) (*Identity, proof, error) {
	name, err := claimedIssuer(u.claims)
	if err != nil {
		return nil, proof{}, ErrInvalidToken.Because(err)
	}
	is := t.byName[name]
	if is == nil {
		return nil, proof{}, ErrNotMine
	}
	if err := is.checkHeader(u.header); err != nil {
		return nil, proof{}, ErrInvalidToken.Because(err)
	}
	set, err := is.keys.verify(ctx, u.jws, u.header)
	if errors.Is(err, ErrNoKeys) {
		return nil, proof{}, ErrBusy.Because(fmt.Errorf("issuer %q: %w", name, err)).After(coolDown)
	}
	if err != nil {
		return nil, proof{}, ErrInvalidToken.Because(err)
	}
	id, err := is.identity(u.jws, u.claims, t.now().Add(t.leeway))
	if err != nil {
		return nil, proof{}, ErrInvalidToken.Because(err)
	}
	return id, proof{keys: is.keys, set: set}, nil
}

// checkHeader takes typ as a media type (RFC 7515, section 4.1.9): any case,
// and application/ may be left out.
func (is *issuer) checkHeader(h joseHeader) error {
	if !slices.Contains(is.Algorithms, h.algorithm) {
		return fmt.Errorf("issuer %q is not allowed to sign with %.16q", is.Issuer, h.algorithm)
	}
	switch strings.TrimPrefix(strings.ToLower(h.typ), "application/") {
	case "at+jwt", "jwt":
		return nil
	case "":
		if !h.hasTyp {
			return nil
		}
	}
	return fmt.Errorf(`header: typ %.32q, want none, "JWT" or "at+jwt"`, h.typ)
}

// identity reads the claims of a token whose signature is good.
func (is *issuer) identity(j jws, claims map[string]any, latest time.Time) (*Identity, error) {
	c := claimReader{claims: claims}
	c.wellFormed()
	c.audience(is.Audiences...)
	c.id("sub", claims["sub"])
	id := &Identity{
		Issuer:  is.Issuer,
		ID:      c.id(is.Claims.ID, lookup(claims, is.Claims.ID)),
		Token:   c.handle("jti", false),
		Session: c.handle("sid", false),
		Email:   is.email(&c),
		Name:    c.text(is.Claims.Name, lookup(claims, is.Claims.Name)),
		Roles:   c.roles(is.Claims.Roles, lookup(claims, is.Claims.Roles), true),
		Claims:  claims,
		Issued:  c.date("iat", true),
		Expires: c.expires(),
	}
	c.started(latest)
	if id.Token == "" {
		// Not of the whole token: an ECDSA signature has a second form that
		// verifies as well.
		hash := sha256.Sum256([]byte(j.signed))
		id.Token = "sha256:" + base64url.EncodeToString(hash[:])
	}
	return id, c.err
}

// email is the address in its one spelling, as access rules have it, "" where
// the claim is no address: "ann@example.com,ceo@example.com" must not reach an
// upstream as one.
//
// One that the issuer says it has not verified is none either. Most issuers
// have no email_verified; their word for the address is taken then, and a route
// can want the claim.
func (is *issuer) email(c *claimReader) string {
	email := c.text(is.Claims.Email, lookup(c.claims, is.Claims.Email))
	if v := c.claims["email_verified"]; is.Claims.Email == "email" && (v == false || v == "false") {
		return ""
	}
	canonical, err := CanonicalEmail(email)
	if err != nil {
		return ""
	}
	return canonical
}
