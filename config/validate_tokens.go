package config

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

var (
	ownAlgorithms   = []string{"HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"}
	theirAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

// Limits that other packages count on.
const (
	// MaxLeeway is the longest tokens.leeway. What is revoked stays so under
	// every leeway that a later configuration may have.
	MaxLeeway = 5 * time.Minute
	// MaxBcryptCost is the highest users.bcrypt_cost, and the highest cost of a
	// hash made elsewhere: each step doubles the time, and 18 takes many seconds.
	MaxBcryptCost = 18
)

func (v *validator) users() {
	u := v.c.Users
	v.database(u.Database)
	v.defaultRoles("users.default_roles", u.DefaultRoles)
	v.within("users.bcrypt_cost", u.BcryptCost, 4, MaxBcryptCost)
	if u.BcryptCost >= 4 && u.BcryptCost < 10 && v.given("users.bcrypt_cost") {
		v.warn("users.bcrypt_cost", "users.bcrypt_cost: below 10, passwords are cheap to guess from a stolen database", "")
	}
	v.within("users.password.min_length", u.Password.MinLength, 1, 72)
	v.within("users.password.min_strength", u.Password.MinStrength, 0, 4)
	v.within("users.throttle.attempts", u.Throttle.Attempts, 1, 1_000_000)
	v.lasts("users.throttle.window", u.Throttle.Window, time.Second, 720*time.Hour)
}

// database never shows the value, which may hold a password.
func (v *validator) database(s string) {
	key := "users.database"
	path, ok := strings.CutPrefix(s, "sqlite:")
	switch {
	case s == "sqlite", s == "none", v.skip(key):
		return
	case strings.HasPrefix(s, "postgres:"), strings.HasPrefix(s, "postgresql:"):
		v.postgres(key, s)
	case !ok:
		v.bad(key, "want sqlite, sqlite:PATH, postgres://USER:PASSWORD@HOST/DATABASE or none", "")
	case path == "" || strings.HasSuffix(path, "/:memory:"):
		v.bad(key, "want the path of a file behind sqlite:", "")
	case strings.ContainsAny(path, "?#%"):
		v.bad(key, "want a path without ?, # and %", "")
	}
}

// defaultRoles are roles of ours.
func (v *validator) defaultRoles(key string, roles []string) {
	for i, r := range roles {
		if err := CheckRole(r); err != nil {
			v.bad(fmt.Sprintf("%s[%d]", key, i), err.Error(), "")
		}
	}
	if err := CheckRoleCount(roles); err != nil {
		v.bad(key, err.Error(), "")
	}
	v.unique(key, roles)
}

// roleNames may be of any issuer.
func (v *validator) roleNames(key string, roles []string) {
	for i, r := range roles {
		if r == "" || len(r) > 256 || strings.TrimSpace(r) != r {
			v.bad(fmt.Sprintf("%s[%d]", key, i), "want the name of a role", "")
		}
	}
	v.unique(key, roles)
}

// claimText wants what may stand in iss and aud.
func (v *validator) claimText(key, s string) {
	if s == "" || len(s) > 256 || strings.ContainsFunc(s, unicode.IsSpace) {
		v.bad(key, "want 1 to 256 bytes without blanks", "")
	}
}

func (v *validator) tokens() {
	t := v.c.Tokens
	if v.given("tokens.issuer") {
		v.claimText("tokens.issuer", t.Issuer)
	}
	v.claimText("tokens.audience", t.Audience)
	v.lasts("tokens.access_ttl", t.AccessTTL, time.Second, 8760*time.Hour)
	v.lasts("tokens.refresh_ttl", t.RefreshTTL, time.Second, 87600*time.Hour)
	v.lasts("tokens.refresh_grace", t.RefreshGrace, 0, 5*time.Minute)
	v.lasts("tokens.leeway", t.Leeway, 0, MaxLeeway)
	ids := map[string]int{}
	secrets := map[[sha256.Size]byte]int{}
	for i, k := range t.Keys {
		key := fmt.Sprintf("tokens.keys[%d]", i)
		if v.skip(key) {
			continue
		}
		v.key(key, k, i == 0 && v.c.Signs())
		if first, twice := ids[k.ID]; twice && k.ID != "" {
			v.bad(key+".id", fmt.Sprintf("is the id of tokens.keys[%d] as well", first), "")
		} else {
			ids[k.ID] = i
		}
		if k.Secret == "" {
			continue
		}
		sum := sha256.Sum256([]byte(k.Secret))
		if first, twice := secrets[sum]; twice {
			v.bad(v.secretKey(key), fmt.Sprintf("is the secret of tokens.keys[%d] as well", first), "")
		} else {
			secrets[sum] = i
		}
	}
}

func (v *validator) secretKey(key string) string {
	if v.given(key + ".secret_file") {
		return key + ".secret_file"
	}
	return key + ".secret"
}

func (v *validator) key(key string, k Key, signs bool) {
	switch {
	case !v.given(key + ".id"):
		v.bad(key+".id", "missing", "tokens name the key that signed them by its id")
	case len(k.ID) > 64 || k.ID == "" || strings.Trim(k.ID, pathLetters) != "":
		v.bad(key+".id", "want 1 to 64 letters, digits and -._~", "")
	}
	var sources []string
	for _, name := range []string{"secret", "secret_file", "private_key_file", "public_key_file"} {
		if v.given(key + "." + name) {
			sources = append(sources, name)
		}
	}
	if len(sources) != 1 {
		if !v.skip(key+".secret") && !v.skip(key+".secret_file") && !v.skip(key+".private_key_file") && !v.skip(key+".public_key_file") {
			v.bad(key, "want exactly one of secret, secret_file, private_key_file and public_key_file", "")
		}
		return
	}
	source := key + "." + sources[0]
	secret := strings.HasPrefix(sources[0], "secret")
	switch {
	case v.skip(key+".algorithm") || !slices.Contains(ownAlgorithms, k.Algorithm):
		return
	case k.Algorithm == "HS256" && !secret:
		v.bad(source, "want secret or secret_file for HS256", "")
	case k.Algorithm != "HS256" && secret:
		v.bad(source, "want private_key_file or public_key_file for "+k.Algorithm, "a secret goes with algorithm: HS256")
	case secret:
		if problem := k.Secret.Weakness(); problem != "" && !v.skip(source) {
			v.bad(source, problem, "openssl rand -base64 48 makes a good one")
		}
	case signs && sources[0] == "public_key_file":
		v.bad(source, "want a private_key_file for the first key, which signs", "")
	}
}

func (v *validator) trustedIssuers() {
	seen := map[string]int{}
	for i, t := range v.c.TrustedIssuers {
		key := fmt.Sprintf("trusted_issuers[%d]", i)
		if v.skip(key) {
			continue
		}
		if !v.given(key + ".issuer") {
			v.bad(key+".issuer", "missing", "")
		} else {
			v.claimText(key+".issuer", t.Issuer)
		}
		if first, twice := seen[t.Issuer]; twice && t.Issuer != "" {
			v.bad(key+".issuer", fmt.Sprintf("is the issuer of trusted_issuers[%d] as well", first), "")
		}
		seen[t.Issuer] = i
		if t.Issuer == v.c.Tokens.Issuer && t.Issuer != "" {
			v.bad(key+".issuer", "is the gateway's own issuer", "")
		}
		v.required(key+".audiences", len(t.Audiences), "want at least one audience", "without one, a token made for any other service would be accepted")
		for j, a := range t.Audiences {
			v.claimText(fmt.Sprintf("%s.audiences[%d]", key, j), a)
		}
		v.unique(key+".audiences", t.Audiences)
		v.required(key+".algorithms", len(t.Algorithms), "want at least one algorithm", "such as [RS256]")
		v.unique(key+".algorithms", t.Algorithms)
		if v.given(key+".jwks_url") == v.given(key+".jwks_file") && !v.skip(key+".jwks_url") && !v.skip(key+".jwks_file") {
			v.bad(key, "want exactly one of jwks_url and jwks_file", "")
		}
		if v.given(key + ".jwks_url") {
			v.jwksURL(key+".jwks_url", t.JWKSURL)
		}
		if t.Claims.ID == "" {
			v.bad(key+".claims.id", "want the name of a claim", "")
		}
	}
}

// required wants a list with an item in it.
func (v *validator) required(key string, n int, want, hint string) {
	if n == 0 {
		v.bad(key, want, hint)
	}
}

// jwksURL wants https: who can change the answer can sign anything. Plain http
// is for the loopback, where a sidecar or a test serves it.
func (v *validator) jwksURL(key, s string) {
	u, err := url.Parse(s)
	want := "want a URL such as https://id.example.com/.well-known/jwks.json"
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" {
		v.bad(key, want, "")
		return
	}
	if u.User != nil {
		v.hidden[key] = true
		v.bad(key, "want no user name or password in it", "")
		return
	}
	if _, ok := canonicalAuthority(u.Host, u.Scheme); !ok || strings.Contains(s, "#") {
		v.bad(key, want, "")
		return
	}
	a, err := netip.ParseAddr(u.Hostname())
	if loopback := u.Hostname() == "localhost" || err == nil && a.IsLoopback(); u.Scheme == "http" && !loopback {
		v.bad(key, "want https", "http is for the loopback only")
	}
}
