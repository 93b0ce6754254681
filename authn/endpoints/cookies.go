package endpoints

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
)

// maxCookie is what browsers keep of one cookie, attributes included; they drop
// a longer one without a word (RFC 6265, section 6.1).
const maxCookie = 4096

// knownFor is as long as browsers keep a cookie at all (RFC 6265bis, section
// 5.5).
const knownFor = 400 * 24 * time.Hour

// cookies are the two that a signed-in browser has, and the one by which it is
// known when it signs in again.
type cookies struct {
	config.CookieNames
	secure bool
}

// fields are what hands the grant to a browser. Both cookies stay for as long as
// the session does, so that the leeway of access tokens counts for browsers too,
// and a dead token is told from none. It is an error if they would not be kept.
func (c cookies) fields(g authn.Grant) ([]string, error) {
	session := c.cookie(c.Session, g.AccessToken, max(g.ExpiresIn, g.RefreshExpiresIn)).String()
	refresh := c.cookie(c.Refresh, g.RefreshToken, g.RefreshExpiresIn).String()
	if n := len(session); n > maxCookie {
		return nil, authn.ErrInternal.Saying("This account's token is too long for a browser").
			Because(fmt.Errorf("session cookie of %d bytes: browsers keep %d", n, maxCookie))
	}
	return []string{session, refresh}, nil
}

// set hands the grant to a browser.
func (c cookies) set(w http.ResponseWriter, g authn.Grant) error {
	fields, err := c.fields(g)
	for _, field := range fields {
		w.Header().Add("Set-Cookie", field)
	}
	return err
}

// clear takes both cookies back. The browser stays known. Browsers delete a __Host- cookie only if the
// deleting one has the attributes of such a cookie.
//
// What the browser has stored of the apps' pages goes too: at a shared computer the
// Back button would show them to the next person, whatever the apps have said
// about caching. Chromium takes a moment for that, seconds if its cache is large.
func (c cookies) clear(w http.ResponseWriter) {
	w.Header().Set("Clear-Site-Data", `"cache"`)
	for _, name := range []string{c.Session, c.Refresh} {
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

// remember lets a browser show later that the user signed in there. Nothing
// depends on it, so it may fail.
func (e *Endpoints) remember(w http.ResponseWriter, r *http.Request, userID string) {
	known, err := e.service.Remember(r.Context(), userID, authn.CallerOf(r.Context()).Known)
	if err == nil {
		http.SetCookie(w, e.cookies.cookie(e.cookies.Known, known, knownFor))
	}
}

// Resume lets a request in whose access token is no longer good while its
// session is alive. See [authn.Service.Resume].
func (e *Endpoints) Resume(ctx context.Context, refreshToken string, c authn.Client) (string, error) {
	return e.service.Resume(ctx, refreshToken, c)
}

// Renew spends a refresh cookie and returns the Set-Cookie fields of the answer.
// See [authn.Service.Renew].
func (e *Endpoints) Renew(ctx context.Context, refreshToken string, c authn.Client) ([]string, error) {
	g, err := e.service.Renew(ctx, refreshToken, c)
	if err != nil {
		return nil, err
	}
	return e.cookies.fields(g)
}
