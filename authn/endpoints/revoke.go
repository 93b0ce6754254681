package endpoints

import (
	"errors"
	"net/http"
	"slices"

	"gatehouse/authn"
)

// roleAdmin may revoke and introspect every token.
const roleAdmin = "admin"

// revoke ends one token (RFC 7009): an access token alone, a refresh token with
// its session and all access tokens of that. A token that is dead already, or
// never was one, is answered as if it had been revoked.
//
// A refresh token is its own proof, as it is at /refresh. An access token is
// revoked for the user whose it is, with any token of that user, or for an
// admin.
func (e *Endpoints) revoke(w http.ResponseWriter, r *http.Request) error {
	// The hint only says where to look first (section 2.1), and each kind of
	// token is told by its looks.
	in, err := decode(w, r, field{"token", text}, field{"token_type_hint", optional}, field{kind: others})
	if err != nil {
		return err
	}
	token := in.text("token")
	if e.accounts && authn.IsRefreshToken(token) {
		if err := e.service.RevokeRefreshToken(r.Context(), token, clientOf(r)); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	caller, err := e.identify(r)
	if errors.Is(err, authn.ErrInvalidToken) && token == authn.CallerOf(r.Context()).Token {
		w.WriteHeader(http.StatusOK) // it is dead, which is all that was asked
		return nil
	}
	if err != nil {
		return err
	}
	id, err := e.verify(r, token)
	switch {
	case errors.Is(err, authn.ErrInvalidToken):
	case err != nil:
		return err
	case (caller.Issuer != id.Issuer || caller.ID != id.ID) && !slices.Contains(caller.Roles, roleAdmin):
		return authn.ErrForbidden.Saying("This token is somebody else's")
	default:
		if err := e.service.RevokeToken(r.Context(), id); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
