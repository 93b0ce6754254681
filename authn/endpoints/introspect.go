package endpoints

import (
	"cmp"
	"errors"
	"net/http"
	"slices"

	"gatehouse/authn"
)

// roleIntrospect may introspect every token.
const roleIntrospect = "introspect"

// introspection is the answer to POST /introspect (RFC 7662, section 2.2). Of a
// token that is not active it says nothing but that.
type introspection struct {
	Active    bool     `json:"active"`
	TokenType string   `json:"token_type,omitempty"` // Bearer, or refresh_token, which no app may take for one
	Subject   string   `json:"sub,omitempty"`
	Username  string   `json:"username,omitempty"`
	Email     string   `json:"email,omitempty"`
	Name      string   `json:"name,omitempty"`
	Roles     []string `json:"roles,omitzero"`
	Issuer    any      `json:"iss,omitempty"`
	Audience  any      `json:"aud,omitempty"`
	Expires   int64    `json:"exp,omitempty"`
	Issued    int64    `json:"iat,omitempty"`
	NotBefore any      `json:"nbf,omitempty"`
	ID        any      `json:"jti,omitempty"`
	Session   string   `json:"sid,omitempty"`
	Client    any      `json:"client_id,omitempty"`
}

// introspect tells an app or an operator whether a token is good, and whose.
func (e *Endpoints) introspect(w http.ResponseWriter, r *http.Request) error {
	caller, err := e.identify(r)
	if err != nil {
		return err
	}
	if !slices.Contains(caller.Roles, roleAdmin) && !slices.Contains(caller.Roles, roleIntrospect) {
		// 401 and not 403: RFC 7662, section 2.3.
		return authn.ErrInvalidToken.Saying("Not allowed to introspect tokens").
			Describing("The role admin or introspect is missing").
			Because(errors.New("caller has neither role admin nor introspect"))
	}
	in, err := decode(w, r, field{"token", text}, field{"token_type_hint", optional}, field{kind: others})
	if err != nil {
		return err
	}
	var found introspection
	if token := in.text("token"); e.accounts && authn.IsRefreshToken(token) {
		found, err = e.introspectRefresh(r, token)
	} else {
		found, err = e.introspectAccess(r, token)
	}
	// Why a token is not active is in the log of who uses it, not here. No
	// verdict is another matter.
	if err != nil && !errors.Is(err, authn.ErrInvalidToken) {
		return err
	}
	return writeJSON(w, http.StatusOK, found)
}

func (e *Endpoints) introspectAccess(r *http.Request, token string) (introspection, error) {
	id, err := e.verify(r, token)
	if err != nil {
		return introspection{}, err
	}
	return introspection{
		Active: true, TokenType: "Bearer",
		Subject: id.ID, Username: cmp.Or(id.Email, id.Name), Email: id.Email, Name: id.Name, Roles: append([]string{}, id.Roles...),
		Issuer: id.Claims["iss"], Audience: id.Claims["aud"],
		Expires: id.Expires.Unix(), Issued: id.Issued.Unix(), NotBefore: id.Claims["nbf"],
		ID: id.Claims["jti"], Session: id.Session, Client: id.Claims["client_id"],
	}, nil
}

func (e *Endpoints) introspectRefresh(r *http.Request, token string) (introspection, error) {
	session, u, err := e.service.LookUpRefresh(r.Context(), token)
	if err != nil {
		return introspection{}, err
	}
	return introspection{
		Active: true, TokenType: "refresh_token",
		Subject: u.ID, Username: u.Email, Email: u.Email, Name: u.Name, Roles: append([]string{}, u.Roles...),
		Issuer: e.issuer, Expires: session.Expires.Unix(), Issued: session.LastUsed.Unix(), Session: session.ID,
	}, nil
}
