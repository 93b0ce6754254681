package endpoints

import (
	"fmt"
	"net/http"
	"time"

	"gatehouse/authn"
)

// maxCookie is what browsers keep of one cookie, attributes included; they drop
// a longer one without a word (RFC 6265, section 6.1).
const maxCookie = 4096

// cookies are the two that a signed-in browser has. Browsers take a __Host-
// cookie over https only, from the host itself and for all of its paths, so
// that no sibling host can plant one.
type cookies struct {
	session, refresh string // names
	secure           bool
}

func newCookies(secure bool) cookies {
	if secure {
		return cookies{"__Host-gatehouse", "__Host-gatehouse-refresh", true}
	}
	return cookies{"gatehouse", "gatehouse-refresh", false}
}

// set hands the grant to a browser. Nothing is set if it would not be kept.
func (c cookies) set(w http.ResponseWriter, g authn.Grant) error {
	session := c.cookie(c.session, g.AccessToken, g.ExpiresIn)
	refresh := c.cookie(c.refresh, g.RefreshToken, g.RefreshExpiresIn)
	if n := len(session.String()); n > maxCookie {
		return authn.ErrInternal.Saying("This account has too many roles for a browser").
			Because(fmt.Errorf("session cookie of %d bytes: browsers keep %d", n, maxCookie))
	}
	http.SetCookie(w, session)
	http.SetCookie(w, refresh)
	return nil
}

// clear takes both cookies back. Browsers delete a __Host- cookie only if the
// deleting one has the attributes of such a cookie.
func (c cookies) clear(w http.ResponseWriter) {
	for _, name := range []string{c.session, c.refresh} {
		gone := c.cookie(name, "", 0)
		gone.MaxAge = -1
		http.SetCookie(w, gone)
	}
}

func (c cookies) cookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/",
		MaxAge: max(1, int(seconds(life))), // 0 would be a cookie without an end
		Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}
