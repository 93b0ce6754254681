package endpoints

import (
	"encoding/json"
	"fmt"

	"gatehouse/config"
)

// metadata is the document of RFC 8414. It says what is there and no more:
// there is no authorization endpoint, and /login and /refresh speak JSON of
// their own, which is not the protocol of a token endpoint.
//
// The two empty lists are meant. response_types_supported is required; without
// grant_types_supported a client would read "authorization_code and implicit"
// (section 2).
type metadata struct {
	Issuer            string   `json:"issuer"`
	JWKS              string   `json:"jwks_uri"`
	ResponseTypes     []string `json:"response_types_supported"`
	GrantTypes        []string `json:"grant_types_supported"`
	Revocation        string   `json:"revocation_endpoint,omitempty"`
	RevocationAuth    []string `json:"revocation_endpoint_auth_methods_supported,omitempty"`
	Introspection     string   `json:"introspection_endpoint"`
	IntrospectionAuth []string `json:"introspection_endpoint_auth_methods_supported"`
}

// newMetadata describes endpoints that are served at these paths.
func newMetadata(cfg *config.Config, at map[string]string) (asset, error) {
	m := metadata{
		Issuer:        cfg.Tokens.Issuer,
		JWKS:          cfg.PublicURL + at["/.well-known/jwks.json"],
		ResponseTypes: []string{}, GrantTypes: []string{},
		Introspection: cfg.PublicURL + at["/introspect"], IntrospectionAuth: []string{"Bearer"},
	}
	if path, served := at["/revoke"]; served {
		// There are no clients with secrets: whoever holds a token may end it.
		m.Revocation, m.RevocationAuth = cfg.PublicURL+path, []string{"none"}
	}
	doc, err := json.Marshal(m)
	if err != nil {
		return asset{}, fmt.Errorf("encode metadata: %w", err)
	}
	return newAsset("application/json", doc), nil
}
