package authn

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The two kinds of token that the gateway signs. They differ in typ, so that
// neither passes for the other (RFC 8725, section 3.11).
const (
	typAccess    = "at+jwt" // RFC 9068
	typAssertion = "gatehouse-assertion+jwt"
)

// Tokens issues and verifies the gateway's own tokens. All fields but Now are
// required; Now is time.Now if it is nil.
type Tokens struct {
	Keys             *KeySet
	Issuer, Audience string
	TTL, Leeway      time.Duration
	Now              func() time.Time
	// RolesOf are a user's roles at a generation, for tokens that leave them out:
	// a user's own would make them longer than browsers keep a cookie. The error
	// is ErrInvalidToken if that is not the user's generation any more. nil: no token
	// leaves them out, and one that does is refused.
	RolesOf func(ctx context.Context, userID string, generation int64) ([]string, error)
}

// maxWithRoles is how long a token may be with its roles, in bytes: with name and
// attributes a cookie has 4096.
const maxWithRoles = 3900

// accessClaims are the claims of RFC 9068 and ours, in the order of the
// interface page.
type accessClaims struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Audience   string   `json:"aud"`
	Expires    int64    `json:"exp"`
	Issued     int64    `json:"iat"`
	NotBefore  int64    `json:"nbf"`
	ID         string   `json:"jti"`
	Email      string   `json:"email,omitempty"`
	Name       string   `json:"name,omitempty"`
	Roles      []string `json:"roles,omitzero"` // nil if they are left out
	Omitted    bool     `json:"roles_omitted,omitempty"`
	Session    string   `json:"sid,omitempty"`
	Generation int64    `json:"gen"`
}

func (t *Tokens) now() time.Time {
	if t.Now == nil {
		return time.Now()
	}
	return t.Now()
}

// Issue makes an access token for u that lives for ttl, in whole seconds.
// session is its sid; "" for a token that belongs to no session. Its roles are in
// it, unless it would be too long for a cookie with them.
func (t *Tokens) Issue(u User, session string, ttl time.Duration) (token string, id *Identity, err error) {
	return t.issue(u, session, ttl, t.RolesOf != nil)
}

// issue is Issue. Only where mayOmit holds are u's roles those of the user's
// generation, which RolesOf finds again.
func (t *Tokens) issue(u User, session string, ttl time.Duration, mayOmit bool) (token string, id *Identity, err error) {
	if ttl < time.Second {
		return "", nil, fmt.Errorf("token life time %v: want at least 1s", ttl)
	}
	now := t.now().Unix()
	c := accessClaims{
		Issuer: t.Issuer, Subject: u.ID, Audience: t.Audience,
		Expires: now + int64(ttl/time.Second), Issued: now, NotBefore: now, ID: newTokenID(),
		Email: u.Email, Name: u.Name, Roles: append([]string{}, u.Roles...),
		Session: session, Generation: u.Generation,
	}
	token, payload, err := t.sign(typAccess, c, ttl)
	if err == nil && mayOmit && len(token) > maxWithRoles {
		c.Roles, c.Omitted = nil, true
		token, payload, err = t.sign(typAccess, c, ttl)
	}
	if err == nil && len(token) > maxToken {
		err = fmt.Errorf("token of %d bytes, want at most %d", len(token), maxToken)
	}
	if err != nil {
		return "", nil, fmt.Errorf("issue token: %w", err)
	}
	// Read back, so that no token goes out that Verify would refuse, and the
	// caller sees the identity that requests with it will have.
	claims, err := readObject(payload)
	if err != nil {
		return "", nil, fmt.Errorf("issue token: %w", err)
	}
	if id, err = t.identity(claims); err != nil {
		return "", nil, fmt.Errorf("issue token: %w", err)
	}
	if c.Omitted {
		id.complete(u.Roles)
	}
	return token, id, nil
}

// newTokenID is 128 random bits.
func newTokenID() string {
	var random [16]byte
	rand.Read(random[:])
	return base64url.EncodeToString(random[:])
}

func (t *Tokens) sign(typ string, claims any, ttl time.Duration) (token string, payload []byte, err error) {
	k := t.Keys.signerAt(t.now())
	if k == nil {
		return "", nil, errors.New("no key signs here")
	}
	if err := k.serves(ttl); err != nil {
		return "", nil, err
	}
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
		KeyID     string `json:"kid"`
	}{k.algorithm, typ, k.id})
	if err != nil {
		return "", nil, err
	}
	if payload, err = json.Marshal(claims); err != nil {
		return "", nil, err
	}
	if token, err = k.sign(header, payload); err != nil {
		return "", nil, err
	}
	return token, payload, nil
}

// Verify is a [Verifier] of the gateway's own access tokens. What is wrong
// with a claim is said only of a token whose signature is good; before that
// nothing is read of the claims but whether the issuer is us.
func (t *Tokens) Verify(ctx context.Context, token string) (*Identity, error) {
	u, err := readToken(token)
	if err != nil {
		return nil, ErrInvalidToken.Because(err)
	}
	id, _, err := t.prove(ctx, u)
	if err != nil {
		return nil, err
	}
	if err := t.current(ctx, id); err != nil {
		return nil, err
	}
	return id, nil
}

// prove is a [prover]'s.
func (t *Tokens) prove(ctx context.Context, u *unproven) (*Identity, proof, error) {
	k, err := t.authentic(u)
	if errors.Is(err, ErrNotMine) {
		return nil, proof{}, err
	}
	if err != nil {
		return nil, proof{}, ErrInvalidToken.Because(err)
	}
	id, err := t.proven(ctx, u.claims)
	if err != nil {
		return nil, proof{}, err
	}
	return id, proof{key: k}, nil
}

// authentic returns the key of ours that has signed u as an access token.
func (t *Tokens) authentic(u *unproven) (*key, error) {
	issuer, err := claimedIssuer(u.claims)
	if err != nil {
		return nil, err
	}
	if issuer != t.Issuer {
		return nil, ErrNotMine
	}
	h := u.header
	for _, name := range refusedMembersOurs {
		if h.has(name) {
			return nil, fmt.Errorf("header: %q is not accepted", name)
		}
	}
	if h.typ != typAccess {
		return nil, fmt.Errorf("header: typ %.32q, want %q", h.typ, typAccess)
	}
	k, err := t.Keys.find(h, t.now())
	if err != nil {
		return nil, err
	}
	return k, k.verify(u.jws)
}

// An unproven token is one taken apart, of which nothing is proven yet.
type unproven struct {
	jws    jws
	header joseHeader
	claims map[string]any
}

// readToken takes a token apart and reads both objects in it.
func readToken(token string) (*unproven, error) {
	j, err := splitJWS(token)
	if err != nil {
		return nil, err
	}
	u := &unproven{jws: j}
	if u.header, err = readHeader(j.header); err != nil {
		return nil, err
	}
	if u.claims, err = readObject(j.payload); err != nil {
		return u, fmt.Errorf("payload: %w", err)
	}
	return u, nil
}

// Inspect shows what a token says without believing it. Only a person may look
// at the answer; decisions are Verify's.
func Inspect(token string) (header, claims map[string]any, err error) {
	u, err := readToken(token)
	if u == nil {
		return nil, nil, err
	}
	return u.header.members, u.claims, err
}

// claimedIssuer is whose keys to look for. It is the only claim that is read
// before the signature.
func claimedIssuer(claims map[string]any) (string, error) {
	issuer, ok := claims["iss"].(string)
	if !ok || issuer == "" {
		return "", errors.New("iss is missing or no string")
	}
	return issuer, nil
}

// proven is the identity in the claims of a token whose signature is good, with
// the roles that the token has left out.
func (t *Tokens) proven(ctx context.Context, claims map[string]any) (*Identity, error) {
	id, err := t.identity(claims)
	if err != nil {
		return nil, ErrInvalidToken.Because(err)
	}
	if claims["roles_omitted"] != true {
		return id, nil
	}
	if t.RolesOf == nil {
		return nil, ErrInvalidToken.Because(errors.New("its roles are kept at the gateway that has the account"))
	}
	roles, err := t.RolesOf(ctx, id.ID, id.Generation)
	if err != nil {
		return nil, err
	}
	id.complete(roles)
	return id, nil
}

// complete adds the roles that a token has left out, before anybody shares id.
func (id *Identity) complete(roles []string) {
	id.Roles = roles
	list := make([]any, len(roles))
	for i, role := range roles {
		list[i] = role
	}
	id.Claims["roles"] = list
}

// identity reads the claims of a token of ours.
func (t *Tokens) identity(claims map[string]any) (*Identity, error) {
	c := claimReader{claims: claims}
	c.wellFormed()
	c.audience(t.Audience)
	id := &Identity{
		ID:      c.id("sub", claims["sub"]),
		Token:   c.handle("jti", true),
		Session: c.handle("sid", false),
		Email:   c.text("email", claims["email"]),
		Name:    c.text("name", claims["name"]),
		Roles:   c.roles("roles", claims["roles"], false),
		Claims:  claims,
		Issued:  c.date("iat", true),
		Expires: c.expires(),
	}
	id.Generation = c.integer("gen")
	c.omitted()
	c.started(t.now().Add(t.Leeway))
	return id, c.err
}

// current refuses an identity that has expired. It needs no signature, so that
// it can be asked again of an identity that is remembered.
func (t *Tokens) current(ctx context.Context, id *Identity) error {
	return Unexpired(t.Leeway, t.now)(ctx, id)
}

// assertionClaims tell an upstream who the user is. IdentityIssuer is empty
// for users of this gateway: sub alone names nobody where there are several
// issuers.
type assertionClaims struct {
	Issuer         string   `json:"iss"`
	Subject        string   `json:"sub"`
	IdentityIssuer string   `json:"sub_iss,omitempty"`
	Audience       string   `json:"aud"`
	Expires        int64    `json:"exp"`
	Issued         int64    `json:"iat"`
	NotBefore      int64    `json:"nbf"`
	ID             string   `json:"jti"`
	Email          string   `json:"email,omitempty"`
	Name           string   `json:"name,omitempty"`
	Roles          []string `json:"roles"`
}

// Assert signs a statement about id for one upstream. It ends with the token
// that it comes from, if that is before ttl. Verify refuses it.
func (t *Tokens) Assert(id *Identity, audience string, ttl time.Duration) (string, error) {
	now := t.now()
	expires := now.Add(ttl)
	if end := id.Expires.Add(t.Leeway); !id.Expires.IsZero() && end.Before(expires) {
		expires = end
	}
	token, _, err := t.sign(typAssertion, assertionClaims{
		Issuer: t.Issuer, Subject: id.ID, IdentityIssuer: id.Issuer, Audience: audience,
		Expires: expires.Unix(), Issued: now.Unix(), NotBefore: now.Unix(), ID: newTokenID(),
		Email: id.Email, Name: id.Name, Roles: append([]string{}, id.Roles...),
	}, ttl)
	if err != nil {
		return "", fmt.Errorf("assert identity: %w", err)
	}
	return token, nil
}
