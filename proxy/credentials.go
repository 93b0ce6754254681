package proxy

import (
	"errors"
	"net/http"
	"strings"

	"gatehouse/authn"
	"gatehouse/config"
)

// credentials are what a request presents to the gateway. Bearer wins over the
// cookie.
type credentials struct {
	token      string
	fromCookie bool
	// Of the other cookies, for the gateway's own endpoints only.
	refresh, known string
}

// credentialReader knows the names of the gateway's cookies.
type credentialReader config.CookieNames

// read finds the token of a request. No token is no error; a credential that
// cannot be read for certain is one.
func (c credentialReader) read(h http.Header) (credentials, error) {
	var cr credentials
	jar, err := readCookies(h["Cookie"], config.CookieNames(c))
	if err != nil {
		return cr, err
	}
	cr.refresh, cr.known = jar.Refresh, jar.Known

	switch fields := h["Authorization"]; {
	case len(fields) > 1:
		// Which of the two an upstream would believe is anybody's guess.
		return cr, authn.ErrInvalidRequest.Saying("More than one Authorization header").Because(errors.New("more than one Authorization header"))
	case len(fields) == 1:
		token, bearer, err := bearerToken(fields[0])
		if err != nil {
			return cr, err
		}
		if bearer {
			cr.token = token
			return cr, nil
		}
	}
	cr.token, cr.fromCookie = jar.Session, jar.Session != ""
	return cr, nil
}

// bearerToken reads an Authorization field (RFC 6750, section 2.1; the scheme
// in any case, RFC 9110, section 11.1). Another scheme is the app's own.
func bearerToken(field string) (token string, bearer bool, err error) {
	const scheme = "bearer"
	if len(field) < len(scheme) || !strings.EqualFold(field[:len(scheme)], scheme) {
		return "", false, nil
	}
	rest := field[len(scheme):]
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' && rest[0] != ',' {
		return "", false, nil // "Bearerish"
	}
	token = strings.TrimLeft(rest, " ")
	if token == "" || !isToken68(token) {
		return "", false, authn.ErrInvalidToken.Because(errors.New("not one Bearer token in Authorization"))
	}
	return token, true, nil
}

// isToken68 tests the characters of a token (RFC 9110, section 11.2): eight at
// a time, since with strings.Trim it was a fifth of all of Decide.
func isToken68(s string) bool {
	var wrong uint8
	for len(s) >= 8 {
		wrong |= noToken68[s[0]] | noToken68[s[1]] | noToken68[s[2]] | noToken68[s[3]] |
			noToken68[s[4]] | noToken68[s[5]] | noToken68[s[6]] | noToken68[s[7]]
		s = s[8:]
	}
	for i := range len(s) {
		wrong |= noToken68[s[i]]
	}
	return wrong == 0
}

var noToken68 = func() (not [256]uint8) {
	for c := range not {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=", byte(c)) < 0 {
			not[c] = 1
		}
	}
	return not
}()

// readCookies looks for the gateway's cookies by their exact names. net/http's
// own parser trims names, so that a sibling host's `gatehouse =evil` passes for
// ours; and from more than 3000 cookies it returns none at all, while all of
// them are forwarded.
//
// A second candidate, in whatever spelling, means that somebody else planted
// one: it counts for none then.
func readCookies(fields []string, names config.CookieNames) (values config.CookieNames, err error) {
	own := [...]struct {
		name  string
		value *string
		seen  int
	}{{names.Session, &values.Session, 0}, {names.Refresh, &values.Refresh, 0}, {names.Known, &values.Known, 0}}
	for _, field := range fields {
		if strings.IndexFunc(field, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
			return config.CookieNames{}, authn.ErrHeaderTooLarge.Saying("Cookie header cannot be read").Because(errors.New("control byte in Cookie"))
		}
		for pair := range strings.SplitSeq(field, ";") {
			name, value, _ := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
			bare := cookieName(pair)
			for i := range own {
				if o := &own[i]; bare == strings.ToLower(o.name) {
					o.seen++
					if name == o.name {
						*o.value = value
					}
				}
			}
		}
	}
	for _, o := range own {
		if o.seen > 1 || !isToken68(*o.value) {
			*o.value = ""
		}
	}
	return values, nil
}

// ownCookie reports whether a pair belongs to the gateway, in any spelling that
// some server might take for one of its names.
func ownCookie(pair string) bool {
	name := cookieName(pair)
	return strings.HasPrefix(name, "gatehouse") || strings.HasPrefix(name, "__host-gatehouse")
}

// cookieName is the name of a pair without what parsers are known to trim
// (spaces, quotes, the blanks of Unicode), in lower case. A cookie without a
// name may look like `=gatehouse=x`.
func cookieName(pair string) string {
	trimmed := func(r rune) bool { return r <= ' ' || r == '"' || r > 0x7e }
	pair = strings.TrimLeftFunc(pair, func(r rune) bool { return r == '=' || trimmed(r) })
	name, _, _ := strings.Cut(pair, "=")
	return strings.ToLower(strings.TrimRightFunc(name, trimmed))
}

// withoutOwnCookies is the Cookie header as upstreams get it. The slice is the
// same where nothing was dropped.
func withoutOwnCookies(fields []string) []string {
	drop := false
	for _, field := range fields {
		for pair := range strings.SplitSeq(field, ";") {
			drop = drop || ownCookie(pair)
		}
	}
	if !drop {
		return fields
	}
	var kept []string
	for _, field := range fields {
		var pairs []string
		for pair := range strings.SplitSeq(field, ";") {
			if pair = strings.Trim(pair, " \t"); pair != "" && !ownCookie(pair) {
				pairs = append(pairs, pair)
			}
		}
		if len(pairs) > 0 {
			kept = append(kept, strings.Join(pairs, "; "))
		}
	}
	return kept
}

// withoutOwnSetCookies keeps an upstream from setting the gateway's cookies.
func withoutOwnSetCookies(fields []string) []string {
	kept := fields[:0]
next:
	for _, field := range fields {
		// There are clients that join all lines with commas, and part them there
		// again: `a=b, gatehouse=x`.
		for line := range strings.SplitSeq(field, ",") {
			// Nothing before the first ";" is no cookie, to whoever does not skip it.
			pair, _, _ := strings.Cut(strings.TrimLeft(line, "; \t"), ";")
			if ownCookie(pair) {
				continue next
			}
		}
		kept = append(kept, field)
	}
	return kept
}

// withoutClearedCookies keeps an upstream from clearing the gateway's cookies: of
// Clear-Site-Data (W3C) it leaves what is known to leave cookies alone.
func withoutClearedCookies(fields []string) []string {
	var kept []string
	for _, field := range fields {
		for what := range strings.SplitSeq(field, ",") {
			switch what = strings.Trim(what, " \t"); what {
			case `"cache"`, `"storage"`, `"executionContexts"`, `"clientHints"`, `"prefetchCache"`, `"prerenderCache"`:
				kept = append(kept, what)
			case `"*"`:
				kept = append(kept, `"cache"`, `"storage"`, `"executionContexts"`)
			}
		}
	}
	if kept == nil {
		return nil
	}
	return []string{strings.Join(kept, ", ")}
}
