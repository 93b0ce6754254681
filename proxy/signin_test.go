package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A form that meets an ended session is neither taken nor turned into a GET: the
// person can sign in beside it and send it again.
func TestPostWithoutSession(t *testing.T) {
	b := newRenewBed(t)
	const link, elsewhere = `href="/login?next=%2F.gatehouse%2Faccount"`, `target="_blank"`
	offers := func(want bool, status int, method, path, cookies string, header ...string) {
		t.Helper()
		res := b.send(method, path, cookies, header...)
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != status || res.Header.Get("Location") != "" && status != http.StatusFound {
			t.Errorf("%s %s %q = %d to %q, want %d", method, path, cookies, res.StatusCode, res.Header.Get("Location"), status)
		}
		if has := strings.Contains(string(body), link) && strings.Contains(string(body), elsewhere); has != want {
			t.Errorf("%s %s %q offers to sign in beside it: %v, want %v\n%s", method, path, cookies, has, want, body)
		}
	}
	form := []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Content-Type", "application/x-www-form-urlencoded"}
	offers(true, 401, "POST", "/asset", expiredDead, form...)
	offers(true, 401, "POST", "/asset", "", form...)
	offers(true, 401, "POST", "/asset", "gatehouse=expired", form...)
	if b.seen != nil {
		t.Error("the form reached the app")
	}
	offers(false, 200, "POST", "/asset", expiredAnn, form...) // the session goes on, and so does the form
	offers(false, 302, "GET", "/asset", expiredDead, form[:4]...)
	offers(false, 403, "POST", "/ops", "gatehouse=ann", form...)
	offers(false, 403, "POST", "/asset", expiredAnn, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site")
	offers(false, 401, "POST", "/asset", expiredDead, "Sec-Fetch-Mode", "cors", "Accept", "text/html")
	offers(false, 401, "POST", "/asset", "", "Authorization", "Bearer expired", "Accept", "text/html")
}
