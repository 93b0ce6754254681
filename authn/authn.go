// Package authn says who is calling.
//
// A [Verifier] turns a token into the [Identity] that it proves; [Check]s
// refuse identities whose token is good but no longer wanted; everything that
// is refused is a [Refusal]. [Service] is the other half: it makes accounts,
// signs people in and out, and writes what is revoked to a [RevocationLog],
// whose local copy is the [RevocationList].
//
// # Why
//
// Nothing here sees a request or a response: HTTP is authn/endpoints and proxy.
// Nothing here knows a database: stores are small interfaces, and authntest
// holds the one suite that each of them passes.
package authn

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Identity is who a request is from, as far as its token proves. nil is nobody.
// An Identity is shared by requests and never changed.
type Identity struct {
	// Issuer is empty for the gateway's own tokens. Users of different issuers
	// are different, whatever their IDs.
	Issuer          string
	ID, Email, Name string // Email is canonical, and empty if its issuer says that it is not verified
	Roles           []string
	Claims          map[string]any // the claim set, numbers as json.Number; of a Verified: what it was told to keep
	Token, Session  string         // jti and sid: what a revocation names
	Generation      int64
	Issued, Expires time.Time // Expires is exp, without leeway

	kept *keptList // see Keep; nil: nothing can be kept
}

// Claim is a claim by its name, or nil. A name with dots that no claim has
// leads into objects: Keycloak keeps its roles in realm_access.roles.
func (id *Identity) Claim(name string) any { return lookup(id.Claims, name) }

func lookup(claims map[string]any, name string) any {
	if v, there := claims[name]; there {
		return v
	}
	first, rest, dotted := strings.Cut(name, ".")
	inner, ok := claims[first].(map[string]any)
	if !dotted || !ok {
		return nil
	}
	return lookup(inner, rest)
}

// A Verifier turns a token into the identity it proves. The error is
// ErrNotMine if the token is of another issuer, a Refusal if the token is
// bad, and anything else if no verdict was possible.
type Verifier interface {
	Verify(ctx context.Context, token string) (*Identity, error)
}

// ErrNotMine is the answer of a Verifier to the token of another issuer.
var ErrNotMine = errors.New("token of another issuer")

// A Check refuses an identity whose token is otherwise good. An error that is
// no Refusal means that no verdict was possible.
type Check func(ctx context.Context, id *Identity) error

// Join asks each verifier in turn until one knows the issuer, then runs the
// checks. A token that nobody knows is ErrInvalidToken.
func Join(verifiers []Verifier, checks ...Check) Verifier {
	return joined{verifiers, checks}
}

type joined struct {
	verifiers []Verifier
	checks    []Check
}

func (j joined) Verify(ctx context.Context, token string) (*Identity, error) {
	for _, v := range j.verifiers {
		id, err := v.Verify(ctx, token)
		if errors.Is(err, ErrNotMine) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, check := range j.checks {
			if err := check(ctx, id); err != nil {
				return nil, err
			}
		}
		return id, nil
	}
	return nil, ErrInvalidToken.Because(errUntrustedIssuer)
}

var errUntrustedIssuer = errors.New("issuer is not trusted here")

// Caller is what the gateway knows of whoever sent a request to one of its own
// endpoints, before anything is verified.
type Caller struct {
	Address   netip.Addr // the client's, read through trusted proxies only
	UserAgent string
	RequestID string
	Navigates bool // a browser will show the answer
	// CrossOrigin is why the request must not change anything, a Refusal: another
	// site made the browser send it.
	CrossOrigin error

	Token      string // the credential presented; "" for none
	FromCookie bool   // Token came from the session cookie
	Refresh    string // the refresh cookie's value; "" for none
	Known      string // the value of the cookie that says who signed in here; "" for none
	Err        error  // why the credentials could not be read, a Refusal

	// Resume is who the session behind the refresh cookie signs in, now that the
	// cookie's token, if there is one, was refused because of bad. The answer
	// carries new cookies then. It is nil where no session can go on.
	Resume func(bad error) (*Identity, error)
}

type callerKey struct{}

// WithCaller hands c to the endpoint that answers a request.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns what WithCaller put into ctx, or the zero Caller.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
